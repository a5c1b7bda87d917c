"""`l63fast report`: one page about a finished experiment."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, command
from l63fast.cli.output import say
from l63fast.errors import ConfigurationError

__all__ = ["report"]


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
            "results: expected the folder of an experiment, such as results/quick"
        )
    from l63fast.experiments.reporting import write_report

    page, source = write_report(given["results"])
    say(f"written to {page}", quiet=given["quiet"])
    for name, why in source.left_out.items():
        print(f"left out: {name}: {why}", file=sys.stderr)
    if source.left_out:
        raise typer.Exit(1)
