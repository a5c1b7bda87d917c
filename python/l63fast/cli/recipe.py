"""`l63fast train --recipe`: one encoder trained in cycles, exported and scored."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l63fast.cli.declare import Given
from l63fast.cli.output import epoch_listener, say
from l63fast.cli.settings import given_tables, resolved
from l63fast.errors import ConfigurationError
from l63fast.experiments.presets import PRESETS, RECIPES

if TYPE_CHECKING:
    from l63fast.experiments.cycled.experiment import CycledExperiment
    from l63fast.experiments.cycled.settings import CycledCell

__all__ = ["train_recipe"]

_OF_CYCLES = ("n_steps", "save_every", "data", "model", "background")


def train_recipe(given: Given) -> None:
    """Train the encoder of a recipe for the data that flags describe."""
    from l63fast.storage.paths import checked_target

    experiment = _experiment(given)
    [cell] = experiment.cells()
    if given["print_config"]:
        print(experiment.to_toml(), end="")
        return
    save_dir = given["save_dir"] or Path("results") / given["recipe"]
    data = Path("data") / _data_name(cell)
    checked_target(save_dir)
    quiet = given["quiet"]
    for line in _lines(cell, data, save_dir):
        say(line, quiet=quiet)
    if given["dry_run"]:
        return
    _run(cell, data, save_dir, given)


def _data_name(cell: CycledCell) -> str:
    data = cell.data
    parts = (data.operator, f"s{data.sigma:.4g}", f"i{data.steps_per_cycle}")
    return "_".join(("cycled", *parts))


def _experiment(given: Given) -> CycledExperiment:
    from l63fast.experiments.cycled.reading import experiment_from_tables

    for name in _OF_CYCLES:
        if given.typed(name) is not None:
            raise ConfigurationError(
                f"--{name}: expected none with --recipe, which decides it, got "
                f"{str(given[name])!r}"
            )
    if given["config"] is not None:
        raise ConfigurationError(
            "--config: expected none with --recipe; a file is for l63fast experiment "
            "encoders --config"
        )
    key, typed = RECIPES[given["recipe"]], given_tables(given)
    preset = PRESETS["encoders"]
    method = preset["methods"][key]
    training = {**method["training"], **typed.get("training", {})}
    tables: dict[str, Any] = {
        "data": {**preset["data"], **typed.get("data", {})},
        "cycle": preset["cycle"],
        "scores": typed.get("scores", {}),
        "methods": {key: {**method, **typed.get("model", {}), "training": training}},
    }
    return resolved(
        given,
        tables,
        lambda t, source: experiment_from_tables("recipe", t, source=source),
    )


def _lines(cell: CycledCell, data: Path, save_dir: Path) -> list[str]:
    from l63fast.experiments.describe import describe_data

    method: Any = cell.method
    updates = method.training.epochs * method.cycles.updates
    return [
        f"data        {describe_data(cell.data)}",
        f"data in     {data}",
        f"model       {method.model}, {method.hidden} hidden, memory {method.memory}, "
        f"window of {method.window}",
        f"training    {updates} updates of {method.training.batch_size} trajectories, "
        f"{method.cycles.unroll} cycles each, loss {method.training.loss}, seed "
        f"{method.training.seed}",
        f"result in   {save_dir}",
    ]


def _run(cell: CycledCell, data: Path, save_dir: Path, given: Given) -> None:
    from l63fast.experiments.cycled.cell import run_cycled_cell
    from l63fast.experiments.data import open_or_make

    n_epochs = cell.method.training.epochs  # type: ignore[attr-defined]
    open_or_make(cell.data, data)
    with epoch_listener(quiet=given["quiet"]) as listener:
        try:
            metrics = run_cycled_cell(
                cell,
                data,
                save_dir,
                resume=given["resume"],
                report=lambda row: listener.epoch(row, n_epochs),
            )
        except KeyboardInterrupt:
            say("stopped; the same command with --resume goes on from the last epoch")
            raise
    _show(metrics, save_dir, quiet=given["quiet"])


def _show(metrics: dict[str, Any], save_dir: Path, *, quiet: bool) -> None:
    from l63fast.experiments.describe import shown_measure

    scores, measure = metrics["scores"], metrics["measure"]
    for name in (measure, measure.replace("rms", "pool")):
        low, high = scores["ci95"][name]
        say(
            f"{shown_measure(name):12s}{scores[name]:.4f} "
            f"(95 % {low:.4f} to {high:.4f})",
            quiet=quiet,
        )
    say(f"written to {save_dir}", quiet=quiet)
    quoted = shlex.quote(str(save_dir))
    say(f"use it: l63fast.load_encoder({quoted!r})", quiet=quiet)
