"""`l63fast experiment`: train and compare many encoders on the same data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import typer

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, command
from l63fast.cli.output import cell_progress, say
from l63fast.cli.settings import given_tables, resolved
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    from l63fast.experiments.presets import Experiment
    from l63fast.experiments.runner import Outcome

__all__ = ["experiment"]

_AXES: Final = (
    Option("preset", Literal["quick"], "Named experiment to start from.", "quick"),
    Option("models", str, "Encoders, separated by commas, such as mlp,gru."),
    Option("operators", str, "Observation operators, such as x,xy,x2."),
    Option("n_iterations", str, "Iterations K of the fixed point, such as 3,1."),
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
            "Root of results; the preset has its folder in it.",
            "results",
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

    axes: dict[str, Any] = {}
    for flag, field in (("models", "models"), ("operators", "operators")):
        if given.typed(flag) is not None:
            axes[field] = _listed(given[flag])
    if given.typed("n_iterations") is not None:
        axes["n_iterations"] = [_whole(text) for text in _listed(given["n_iterations"])]
    over: dict[str, Any] = {"experiment": axes} if axes else {}
    if given.typed("seed") is not None:
        over |= {"data": {"seed": given["seed"]}, "training": {"seed": given["seed"]}}
    name = given["preset"]
    return resolved(
        given,
        given_tables(given, over),
        lambda tables, source: experiment_from_tables(
            name, merged(PRESETS[name], tables), source=source
        ),
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(
            f"--n_iterations: expected whole numbers such as 3,1, got {text!r}"
        ) from None


def _announce(chosen: Experiment, folder: Path, n_workers: int, *, quiet: bool) -> None:
    from l63fast.experiments.describe import describe_data, observed

    axes = chosen.axes
    say(
        f"experiment  {chosen.name}: {', '.join(axes.models)} on "
        f"{'; '.join(observed(name) for name in axes.operators)} with K = "
        f"{', '.join(str(n) for n in axes.n_iterations)}: {len(chosen.cells())} cells",
        quiet=quiet,
    )
    say(f"data        {describe_data(chosen.cells()[0].data)}", quiet=quiet)
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

        from l63fast.experiments.report import rich_table

        Console().print(rich_table(outcome.results))
        say(f"table and overview figure in {outcome.summary}")
    for name, why in outcome.failures.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
