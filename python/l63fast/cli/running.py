"""Runs the cells of a chosen experiment, and says what is done and left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from l63fast.cli.declare import Given
from l63fast.cli.output import print_whole, say
from l63fast.cli.progress import task_progress
from l63fast.cli.report import report_on
from l63fast.cli.where import describe_where, where
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    from l63fast.experiments.experiment import Experiment

__all__ = ["run_chosen"]


def run_chosen(chosen: Experiment, given: Given, *, report: bool = False) -> bool:
    """Run an experiment, or print what would be run; return whether a cell failed."""
    from l63fast.experiments.describe import counted
    from l63fast.experiments.report import table_of
    from l63fast.experiments.runner import chosen_cells, run_cells
    from l63fast.storage import checked_target

    if given["print_config"]:
        print(chosen.to_toml(), end="")
        return False
    quiet = given["quiet"]
    folder = Path(given["results"]).expanduser() / chosen.name
    checked_target(folder)  # refused before anything is made
    every = chosen.cells()
    try:
        n_cells = len(chosen_cells(every, given["only"]))
    except ConfigurationError as error:
        raise ConfigurationError(f"--{error}") from None
    n_workers, scheduler = where(given, n_cells)
    place = describe_where(n_workers, scheduler)
    for line in [*chosen.describe(), f"results     {folder} ({place})"]:
        say(line, quiet=quiet)
    if given["dry_run"]:
        say(f"dry run     {counted(n_cells, 'cell')}", quiet=quiet)
        return False
    switches = ("resume", "overwrite", "force", "keep_states", "only")
    with task_progress(n_cells, quiet=quiet) as progress:
        try:
            outcome = run_cells(
                every,
                folder,
                n_workers=n_workers,
                scheduler=scheduler,
                progress=progress,
                **{name: given[name] for name in switches},
            )
        except KeyboardInterrupt:
            say("stopped; finished cells are kept, --resume goes on with the others")
            raise
    if outcome.report is not None and not quiet:
        print_whole(table_of(outcome.results))
        say(f"written to {outcome.report}")
    for name, why in outcome.failures.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    failed = bool(outcome.failures)
    if report and outcome.results:
        failed |= not report_on(folder, outcome.failures, quiet=quiet)
    return failed
