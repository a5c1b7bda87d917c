"""`l63fast experiment`: train and compare many encoders on the same data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, choices, command
from l63fast.cli.output import cell_progress, say
from l63fast.cli.settings import given_tables, resolved

if TYPE_CHECKING:
    from l63fast.experiments.presets import Experiment
    from l63fast.experiments.runner import Outcome

__all__ = ["experiment"]


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in _names(text)]


def _axis(name: str, help: str, read: Callable[[str], Any]) -> Option:
    target = f"experiment.{name}"
    return Option(name, str, help, target=target, panel="Compared", read=read)


_AXES: Final = (
    Option("preset", choices(["quick"]), "Named experiment to start from.", "quick"),
    _axis("models", "Encoders, separated by commas, such as mlp,gru.", _names),
    _axis("operators", "Observation operators, such as x,xy,x2.", _names),
    _axis("n_iterations", "Iterations K of the fixed point, such as 3,1.", _numbers),
)
_FIXED: Final = tuple(
    option for option in options.MODEL if option.name not in ("model", "n_iterations")
)


@command(
    app,
    (
        *_AXES,
        *options.SIZES,
        *_FIXED,
        *options.TRAINING,
        options.seed("Seed of data, weights and sample order.", target=None),
        Option(
            "results",
            Path,
            "Root of results; the experiment has its folder in it.",
            "results",
        ),
        Option(
            "name",
            str,
            "Name of the experiment and its folder: by default the preset's, or that "
            "of the --config file.",
        ),
        Option("workers", int, "Processes; one per core by default.", minimum=1),
        options.RESUME,
        *options.RUN,
    ),
)
def experiment(given: Given) -> None:
    """Train every encoder on every operator, and compare them in one table.

    Each cell has a result folder of its own; table and overview figure are in the
    folder `summary`. Cells that fail are named at the end and the rest is kept.
    """
    from l63fast.experiments.executors import default_workers

    chosen = _chosen(given)
    if given["print_config"]:
        print(chosen.to_toml(), end="")
        return
    cells = chosen.cells()
    folder = Path(given["results"]).expanduser() / chosen.name
    n_workers = given["workers"] or default_workers(len(cells))
    _announce(chosen, folder, n_workers, quiet=given["quiet"])
    if given["dry_run"]:
        return
    outcome = _run(chosen, folder.parent, n_workers, given)
    _show(outcome, quiet=given["quiet"])
    if outcome.failures:
        raise typer.Exit(1)


def _chosen(given: Given) -> Experiment:
    from l63fast.experiments.config import merged
    from l63fast.experiments.presets import PRESETS, experiment_from_tables

    over: dict[str, Any] = {}
    if given.typed("seed") is not None:
        over = {"data": {"seed": given["seed"]}, "training": {"seed": given["seed"]}}
    preset, config = given["preset"], given["config"]
    name = given["name"] or (preset if config is None else Path(config).stem)
    return resolved(
        given,
        given_tables(given, over),
        lambda tables, source: experiment_from_tables(
            name, merged(PRESETS[preset], tables), source=source
        ),
    )


def _announce(chosen: Experiment, folder: Path, n_workers: int, *, quiet: bool) -> None:
    from l63fast.experiments.describe import describe_data, observed

    axes, cells = chosen.axes, chosen.cells()
    what = " | ".join(observed(name) for name in axes.operators)
    say(
        f"experiment  {chosen.name}: {', '.join(axes.models)} on {what} with K = "
        f"{', '.join(str(n) for n in axes.n_iterations)}: {len(cells)} cells",
        quiet=quiet,
    )
    say(f"data        {describe_data(cells[0].data, what=what)}", quiet=quiet)
    say(
        f"results     {folder} ({n_workers} worker{'s' if n_workers > 1 else ''})",
        quiet=quiet,
    )


def _run(chosen: Experiment, root: Path, n_workers: int, given: Given) -> Outcome:
    from l63fast.experiments.runner import run_experiment

    with cell_progress(len(chosen.cells()), quiet=given["quiet"]) as note:
        try:
            return run_experiment(
                chosen, root, n_workers=n_workers, resume=given["resume"], note=note
            )
        except KeyboardInterrupt:
            say("stopped; finished cells are kept, --resume goes on with the others")
            raise


def _show(outcome: Outcome, *, quiet: bool) -> None:
    import sys

    if outcome.summary is not None and not quiet:
        from rich.console import Console

        from l63fast.experiments.table import rich_table

        Console().print(rich_table(outcome.results))
        say(f"table and overview figure in {outcome.summary}")
    for name, why in outcome.failures.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
