"""`l63fast simulate`: simulates a twin experiment, or an ensemble in shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l63fast._user_code import file_name
from l63fast.cli import options
from l63fast.cli.command_line import Given, Option, Tables, command
from l63fast.cli.output import say, task_progress
from l63fast.errors import ArgumentValueError, ConfigurationError
from l63fast.observation import as_operator
from l63fast.twin import TwinExperiment, TwinSettings

if TYPE_CHECKING:
    from l63fast.twin import ShardSettings


@command(
    *options.DATA,
    options.seed("Seed of truth and observations.", target="data.seed"),
    options.data_folder(
        "Folder to write; by default data/<obs_mode>, and data/<obs_mode>-shards for "
        "shards."
    ),
    Option(
        "shards",
        int,
        "Number of files for one large ensemble of n_traj trajectories without "
        "splits; they are written in parallel, can be resumed and are read lazily.",
        minimum=1,
        panel="Where it runs",
    ),
    *options.WHERE,
    options.RESUME,
    *options.RUN,
)
def simulate(given: Given) -> None:
    """Simulate truth and observations in three splits, and write them to disk.

    Old data in the folder are replaced as a whole.
    """
    if given["shards"] is None:
        _make_twin(given)
    else:
        _make_shards(given)


def _make_twin(given: Given) -> None:
    from l63fast.experiments.describe import describe_data

    for option in (*options.WHERE, options.RESUME):
        if given.typed(option.name) is not None:
            raise ConfigurationError(
                f"--{option.name}: expected together with --shards, got it alone"
            )
    settings = _settings(given, given.tables())
    folder = given["data"] or Path("data") / file_name(settings.operator_name)
    if not _announced(given, settings, folder, describe_data(settings)):
        return
    operator = as_operator(settings.operator).imported()  # the user's own code
    twin = TwinExperiment.generate(replace(settings, operator=operator))
    twin.save(folder)
    for name, digest in twin.hashes.items():
        say(f"  {name:5s} sha256 {digest[:16]}", quiet=given["quiet"])
    say(f"written to {folder}", quiet=given["quiet"])


def _make_shards(given: Given) -> None:
    from l63fast.experiments import data
    from l63fast.experiments.describe import describe_data

    settings, quiet = _shard_settings(given), given["quiet"]
    n_shards, size = settings.n_shards, settings.n_bytes / 1e6
    folder = given["data"] or Path("data") / f"{settings.data.operator}-shards"
    pool, place = given.workers(n_shards)
    lines = (
        describe_data(settings.data, has_splits=False),
        f"{n_shards} shards, {size:.0f} MB at most, {place}",
    )
    if not _announced(given, settings.data, folder, *lines):
        return
    with task_progress(n_shards, quiet=quiet, unit="shards") as progress:
        try:
            data.make_shards(
                settings, folder, resume=given["resume"], progress=progress, **pool
            )
        except KeyboardInterrupt:
            say("stopped; finished shards are kept, --resume makes the others")
            raise
    say(f"written to {folder}", quiet=quiet)


def _announced(given: Given, data: TwinSettings, folder: Path, *lines: str) -> bool:
    """Show what will be written; return False if nothing should be written."""
    from l63fast.experiments.settings_file import dump_tables, to_table
    from l63fast.storage import checked_target

    if given["print_config"]:
        print(dump_tables({"data": to_table(data)}), end="")
        return False
    checked_target(folder)  # refused before anything is simulated
    for line in lines:
        say(line, quiet=given["quiet"])
    if given["dry_run"]:
        say(f"would write {folder}", quiet=given["quiet"])
    return not given["dry_run"]


def _settings(given: Given, tables: Tables) -> TwinSettings:
    from l63fast.experiments.settings_file import build, refuse_unknown_tables

    def make(tables: Tables, *, source: str) -> TwinSettings:
        refuse_unknown_tables(tables, ("data",), source)
        return build(TwinSettings, tables.get("data", {}), source=source, key="data")

    return given.resolved(tables, make)


def _shard_settings(given: Given) -> ShardSettings:
    """Return the settings of an ensemble: one split, observed at the stored states.

    Raises
    ------
    ConfigurationError
        The message names the option that is wrong.
    """
    from l63fast.twin import ShardSettings

    for name in ("train", "val", "test"):
        if given.typed(name) is not None:
            raise ConfigurationError(
                f"--{name}: expected none with --shards, as an ensemble has no splits "
                f"and its size is --n_traj, got {given[name]}"
            )
    tables = given.tables()
    data: dict[str, Any] = dict(tables.get("data", {}))
    if given.typed("n_traj") is not None or "n_train" not in data:
        data["n_train"] = given["n_traj"]
    save_every = data.get("save_every")
    every = ("steps_per_cycle", "interval", "observation_steps")
    if not any(name in data for name in every) and isinstance(save_every, int):
        data["steps_per_cycle"] = max(save_every, given["steps_per_cycle"])
    settings = _settings(given, {**tables, "data": {**data, "n_val": 1}})
    try:
        return ShardSettings(settings, given["shards"])
    except ArgumentValueError as error:
        raise ConfigurationError(f"--{str(error).removeprefix('n_')}") from None
