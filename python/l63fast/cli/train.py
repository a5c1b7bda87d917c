"""`l63fast train`: train, export and score one encoder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, choices, command
from l63fast.cli.output import epoch_listener, print_whole, say
from l63fast.cli.recipe import train_recipe
from l63fast.cli.settings import cell_settings, default_data, given_tables
from l63fast.experiments.presets import RECIPES

if TYPE_CHECKING:
    from l63fast.experiments.config import CellSettings

__all__ = ["train"]

_SAVE_DIR = Option(
    "save_dir", Path, "Folder of the result; results/<model>_<obs_mode> by default."
)
_DATA_SEED = Option(
    "data_seed",
    int,
    "Seed of truth and observations.",
    0,
    "data.seed",
    minimum=0,
    panel="Data",
)


_RECIPE = Option(
    "recipe",
    choices(RECIPES),
    "Train in cycles on fresh simulations, as this recipe says, and score the encoder "
    "in its cycle; by default on the data of sakov2012.",
    panel="Encoder",
)


@command(
    app,
    (
        *options.DATA,
        _DATA_SEED,
        options.data_folder("Folder of the data; data/<obs_mode> by default."),
        _RECIPE,
        *options.MODEL,
        *options.TRAINING,
        options.seed("Seed of weights and sample order.", target="training.seed"),
        _SAVE_DIR,
        options.RESUME,
        *options.RUN,
    ),
)
def train(given: Given) -> None:
    """Train an encoder, export it, and score it on the test split.

    Without a recipe it is trained on windows of the training split.

    The data are those in the data folder, made there if it does not exist; data
    options that contradict what is there are refused. An old result in the folder is
    replaced as a whole when the new one is complete.
    """
    if given["recipe"] is not None:
        train_recipe(given)
        return
    from l63fast.experiments.config import cell_to_toml
    from l63fast.storage.paths import checked_target

    settings, data, found = _resolved(given)
    if given["print_config"]:
        print(cell_to_toml(settings), end="")
        return
    model = settings.model
    save_dir = given["save_dir"] or Path("results") / f"{model.model}_{model.operator}"
    checked_target(save_dir)  # refused before anything is made, the data included
    quiet = given["quiet"]
    say(
        f"data in     {data} ({'found' if found else 'not there: made now'})",
        quiet=quiet,
    )
    if given["dry_run"]:
        _dry_run(settings, save_dir, quiet=quiet)
        return
    if not found:
        from l63fast.experiments.data import make_data

        make_data(settings.data, data)
    metrics = _train(settings, data, save_dir, given)
    _show(metrics, settings, save_dir, quiet=quiet)


def _resolved(given: Given) -> tuple[CellSettings, Path, bool]:
    """Return the settings, the data folder, and whether the data are there."""
    from l63fast.experiments.config import merged
    from l63fast.experiments.data import find_data, refuse_other_settings
    from l63fast.experiments.settings_file import to_table

    tables = given_tables(given)
    settings = cell_settings(given, tables)
    data = given["data"] or default_data(settings.data.operator)
    twin = find_data(data)
    if twin is None:
        return settings, data, False
    refuse_other_settings(twin, tables.get("data", {}), data)
    tables = merged(tables, {"data": to_table(twin.settings)})
    return cell_settings(given, tables), data, True


def _dry_run(settings: CellSettings, save_dir: Path, *, quiet: bool) -> None:
    from l63fast.experiments.describe import describe_cell, describe_data

    there = "replace" if save_dir.exists() else "write"
    for line in (
        f"data        {describe_data(settings.data)}",
        *describe_cell(settings),
        f"would train and {there} {save_dir}",
    ):
        say(line, quiet=quiet)


def _train(
    settings: CellSettings, data: Path, save_dir: Path, given: Given
) -> dict[str, Any]:
    with epoch_listener(quiet=given["quiet"]) as listener:
        from l63fast.experiments.cell import run_cell

        try:
            return run_cell(
                settings, data, save_dir, resume=given["resume"], listener=listener
            )
        except KeyboardInterrupt:
            say("stopped; the same command with --resume goes on from the last epoch")
            raise


def _show(
    metrics: dict[str, Any], settings: CellSettings, save_dir: Path, *, quiet: bool
) -> None:
    from l63fast.experiments.evaluation import metrics_table

    if quiet:
        return
    print_whole(metrics_table(metrics))
    say(f"written to {save_dir}")
    say(f"next: l63fast visualize --result_dir {shlex.quote(str(save_dir))}")
