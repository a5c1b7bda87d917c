"""`l63fast simulate`: make a twin experiment, or an ensemble in shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, command
from l63fast.cli.output import say
from l63fast.cli.progress import task_progress
from l63fast.cli.settings import data_settings, default_data, given_tables
from l63fast.cli.where import WHERE, describe_where, where
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    from l63fast.twin import ShardSettings

__all__ = ["simulate"]

_SHARDS: Final = Option(
    "shards",
    int,
    "Files to spread one large ensemble of n_traj trajectories over, without splits: "
    "made in parallel, resumable, read lazily.",
    minimum=1,
    panel="Where it runs",
)


@command(
    app,
    (
        *options.DATA,
        options.seed("Seed of truth and observations.", target="data.seed"),
        options.data_folder(
            "Folder to write; data/<obs_mode> by default, data/<obs_mode>-shards for "
            "shards."
        ),
        _SHARDS,
        *WHERE,
        options.RESUME,
        *options.RUN,
    ),
)
def simulate(given: Given) -> None:
    """Simulate truth and observations in three splits, and write them to disk.

    An old data set in the folder is replaced as a whole.
    """
    if given["shards"] is None:
        _twin(given)
    else:
        _shards(given)


def _twin(given: Given) -> None:
    from l63fast.experiments.describe import describe_data
    from l63fast.experiments.settings_file import dump_tables, to_table
    from l63fast.storage import checked_target

    for option in (*WHERE, options.RESUME):
        if given.typed(option.name) is not None:
            raise ConfigurationError(f"--{option.name}: expected with --shards")
    settings = data_settings(given, given_tables(given))
    if given["print_config"]:
        print(dump_tables({"data": to_table(settings)}), end="")
        return
    folder = given["data"] or default_data(settings.operator)
    checked_target(folder)  # refused before anything is simulated
    say(describe_data(settings), quiet=given["quiet"])
    if given["dry_run"]:
        say(f"would write {folder}", quiet=given["quiet"])
        return
    from l63fast.experiments.data import make_data

    twin = make_data(settings, folder)
    for name, digest in twin.hashes.items():
        say(f"  {name:5s} sha256 {digest[:16]}", quiet=given["quiet"])
    say(f"written to {folder}", quiet=given["quiet"])


def _shards(given: Given) -> None:
    from l63fast.experiments.describe import describe_ensemble
    from l63fast.experiments.settings_file import dump_tables, to_table
    from l63fast.storage import checked_target

    settings = _shard_settings(given)
    if given["print_config"]:
        print(dump_tables({"data": to_table(settings.data)}), end="")
        return
    operator, quiet = settings.data.operator, given["quiet"]
    folder = given["data"] or default_data(f"{operator}-shards")
    checked_target(folder)
    n_workers, scheduler = where(given, settings.n_shards)
    say(describe_ensemble(settings.data), quiet=quiet)
    place = describe_where(n_workers, scheduler)
    size = settings.n_bytes / 1e6
    say(f"{settings.n_shards} shards, {size:.0f} MB at most, {place}", quiet=quiet)
    if given["dry_run"]:
        say(f"would write {folder}", quiet=quiet)
        return
    from l63fast.experiments.shards import make_shards

    with task_progress(settings.n_shards, quiet=quiet, unit="shards") as progress:
        try:
            make_shards(
                settings,
                folder,
                n_workers=n_workers,
                scheduler=scheduler,
                resume=given["resume"],
                progress=progress,
            )
        except KeyboardInterrupt:
            say("stopped; finished shards are kept, --resume goes on with the others")
            raise
    say(f"written to {folder}", quiet=quiet)


def _shard_settings(given: Given) -> ShardSettings:
    """Return the settings of an ensemble: one split, observed where states are stored.

    Raises
    ------
    ConfigurationError
        Naming the flag that makes no sense.
    """
    from l63fast.errors import ArgumentValueError
    from l63fast.twin import ShardSettings

    for name in ("train", "val", "test"):
        if given.typed(name) is not None:
            raise ConfigurationError(
                f"--{name}: expected without --shards: an ensemble has no splits, "
                "--n_traj is its size"
            )
    tables = given_tables(given)
    data: dict[str, Any] = dict(tables.get("data", {}))
    if given.typed("n_traj") is not None or "n_train" not in data:
        data["n_train"] = given["n_traj"]
    save_every = data.get("save_every")
    if "steps_per_cycle" not in data and isinstance(save_every, int):
        data["steps_per_cycle"] = max(save_every, given["steps_per_cycle"])
    settings = data_settings(given, {**tables, "data": {**data, "n_val": 1}})
    try:
        return ShardSettings(settings, given["shards"])
    except ArgumentValueError as error:
        raise ConfigurationError(f"--{str(error).removeprefix('n_')}") from None
