"""Runs the cells of a chosen experiment, and says what is done and left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l63fast.cli.declare import Given
from l63fast.cli.output import print_whole, say
from l63fast.cli.progress import task_progress
from l63fast.cli.report import report_on
from l63fast.cli.where import describe_where, where

if TYPE_CHECKING:
    from l63fast.experiments.executors import Scheduler
    from l63fast.experiments.kind import Experiment
    from l63fast.experiments.runner import Outcome

__all__ = ["run_chosen"]


def run_chosen(chosen: Experiment, given: Given, *, report: bool = False) -> bool:
    """Run an experiment, or print what would be run; return whether a cell failed."""
    from l63fast.experiments.runner import chosen_cells
    from l63fast.storage.paths import checked_target

    if given["print_config"]:
        print(chosen.to_toml(), end="")
        return False
    folder = Path(given["results"]).expanduser() / chosen.name
    checked_target(folder)  # refused before anything is made
    cells = chosen_cells(chosen.cells(), given["only"])
    n_workers, scheduler = where(given, len(cells))
    place = describe_where(n_workers, scheduler)
    _announce(chosen, folder, place, quiet=given["quiet"])
    if given["dry_run"]:
        _foresee(chosen, cells, n_workers, quiet=given["quiet"])
        return False
    outcome = _run(chosen, len(cells), folder.parent, n_workers, scheduler, given)
    _show(chosen, outcome, quiet=given["quiet"])
    failed = bool(outcome.failures)
    if report and outcome.results:
        failed |= not report_on(folder, outcome.failures, quiet=given["quiet"])
    return failed


def _announce(chosen: Experiment, folder: Path, place: str, *, quiet: bool) -> None:
    for line in chosen.kind.announce(chosen):
        say(line, quiet=quiet)
    say(f"results     {folder} ({place})", quiet=quiet)


def _foresee(
    chosen: Experiment, cells: Sequence[Any], n_workers: int, *, quiet: bool
) -> None:
    """Say how many cells there are and how long they will take."""
    line = f"dry run     {len(cells)} cell{'s' if len(cells) > 1 else ''}"
    if chosen.kind.expect is not None and not quiet:
        seconds, left_out = chosen.kind.expect(cells)
        minutes = seconds / n_workers / 60.0
        line += (
            f", about {minutes:.0f} min"
            if minutes >= 2.0
            else (f", about {60.0 * minutes:.0f} s")
        )
        line += f" {left_out}".rstrip()
    say(line, quiet=quiet)


def _run(
    chosen: Experiment,
    n_cells: int,
    root: Path,
    n_workers: int,
    scheduler: Scheduler | None,
    given: Given,
) -> Outcome:
    from l63fast.experiments.runner import run_experiment

    with task_progress(n_cells, quiet=given["quiet"]) as progress:
        try:
            return run_experiment(
                chosen,
                root,
                n_workers=n_workers,
                scheduler=scheduler,
                resume=given["resume"],
                force=given["force"],
                only=given["only"],
                note=progress.note,
                left=progress.left,
            )
        except KeyboardInterrupt:
            say("stopped; finished cells are kept, --resume goes on with the others")
            raise


def _show(chosen: Experiment, outcome: Outcome, *, quiet: bool) -> None:
    import sys

    if outcome.report is not None and not quiet:
        print_whole(chosen.kind.table(outcome.results))
        say(f"written to {outcome.report}")
    for name, why in outcome.failures.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
