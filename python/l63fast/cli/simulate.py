"""`l63fast simulate`: make a twin experiment."""

from __future__ import annotations

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, command
from l63fast.cli.output import say
from l63fast.cli.settings import data_settings, default_data, given_tables

__all__ = ["simulate"]


@command(
    app,
    (
        *options.DATA,
        options.seed("Seed of truth and observations.", target="data.seed"),
        options.data_folder("Folder to write; data/<obs_mode> by default."),
        *options.RUN,
    ),
)
def simulate(given: Given) -> None:
    """Simulate truth and observations in three splits, and write them to disk.

    An old data set in the folder is replaced as a whole.
    """
    from l63fast.experiments.describe import describe_data
    from l63fast.experiments.settings_file import dump_tables, to_table

    settings = data_settings(given, given_tables(given))
    if given["print_config"]:
        print(dump_tables({"data": to_table(settings)}), end="")
        return
    folder = given["data"] or default_data(settings.operator)
    say(describe_data(settings), quiet=given["quiet"])
    if given["dry_run"]:
        say(f"would write {folder}", quiet=given["quiet"])
        return
    from l63fast.experiments.data import make_data

    twin = make_data(settings, folder)
    for name, digest in twin.hashes.items():
        say(f"  {name:5s} sha256 {digest[:16]}", quiet=given["quiet"])
    say(f"written to {folder}", quiet=given["quiet"])
