"""What a command shows: plain lines, live progress on a terminal, nothing if quiet."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["EpochBar", "EpochLines", "epoch_listener", "is_live", "print_whole", "say"]

PROGRESS_VARIABLE: Final = "L63FAST_PROGRESS"
_WIDEST: Final = 1000  # characters


def say(line: str, *, quiet: bool = False) -> None:
    """Print a line at once, so that a batch log follows the run."""
    if not quiet:
        print(line, flush=True)


def print_whole(table: Any) -> None:
    """Print a table of rich; lines too long for the terminal are not cut."""
    from rich.console import Console

    console, needed = Console(), Console(width=_WIDEST).measure(table).minimum
    console.width = max(console.width, needed)
    console.print(table)


def is_live() -> bool:
    """Whether progress may move: on a terminal, unless L63FAST_PROGRESS is 0 or off."""
    off = os.environ.get(PROGRESS_VARIABLE, "").lower() in ("0", "off", "no", "false")
    return sys.stdout.isatty() and not off


class EpochLines:
    """Shows one line per epoch."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, line: str) -> None:
        """Show a line."""
        say(line, quiet=self.quiet)

    def epoch(self, row: Mapping[str, Any], n_epochs: int) -> None:
        """Show an epoch as a line."""
        from l63fast.experiments.describe import describe_epoch

        self.say(describe_epoch(row, n_epochs))


class EpochBar:
    """Shows one bar that grows with the epochs."""

    def __init__(self, progress: Any) -> None:
        self.progress = progress
        self.task: Any = None

    def say(self, line: str) -> None:
        """Show a line above the bar."""
        self.progress.console.print(line, highlight=False, markup=False)

    def epoch(self, row: Mapping[str, Any], n_epochs: int) -> None:
        """Move the bar on."""
        from l63fast.experiments.describe import describe_epoch

        if self.task is None:
            self.task = self.progress.add_task("", total=n_epochs)
        line = describe_epoch(row, n_epochs)
        self.progress.update(self.task, completed=row["epoch"], description=line)


@contextmanager
def epoch_listener(*, quiet: bool) -> Iterator[EpochLines | EpochBar]:
    """Give the listener of one training: a bar on a terminal, lines otherwise."""
    if quiet or not is_live():
        yield EpochLines(quiet=quiet)
        return
    with _progress() as progress:
        yield EpochBar(progress)


def _progress() -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
