"""`l63fast report`: one page about a finished experiment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, command
from l63fast.cli.output import say
from l63fast.errors import ConfigurationError, L63Error

__all__ = ["report", "report_on"]


@command(
    app,
    (
        Option(
            "results",
            Path,
            "Folder of an experiment, such as results/quick.",
            positional=True,
        ),
        options.QUIET,
    ),
)
def report(given: Given) -> None:
    """Write a page about an experiment into its folder `report/`, all in one file.

    Beside it are the tables as CSV and LaTeX and the figures as PNG and SVG.
    """
    if given["results"] is None:
        raise ConfigurationError(
            "RESULTS: expected the folder of an experiment, such as results/quick"
        )
    if not _written(given["results"], {}, quiet=given["quiet"]):
        raise typer.Exit(1)


def report_on(folder: Path, failures: Mapping[str, str], *, quiet: bool) -> bool:
    """Write the report of an experiment that just ended; return whether it could be.

    What keeps it from being written is said: the results are there all the same.
    """
    try:
        return _written(folder, failures, quiet=quiet)
    except L63Error as error:
        print(f"no report: {error}", file=sys.stderr)
        return False


def _written(folder: Path, failures: Mapping[str, str], *, quiet: bool) -> bool:
    """Write a report; return whether all cells that should be are in it."""
    from l63fast.experiments.report import write_report

    page, source = write_report(folder, failures)
    say(f"report in {page}", quiet=quiet)
    lost = {k: why for k, why in source.left_out.items() if k not in failures}
    for name, why in lost.items():
        print(f"left out: {name}: {why}", file=sys.stderr)
    return not lost
