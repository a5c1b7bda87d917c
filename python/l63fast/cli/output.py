"""Output of commands: lines, tables, and live progress on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from l63fast._progress import describe_epoch, is_live
from l63fast.errors import printable

if TYPE_CHECKING:
    from l63fast.experiments.tasks import Progress

_WIDEST: Final = 1000  # characters
_PLAIN: Final = {"highlight": False, "markup": False}
ShowEpoch = Callable[[Mapping[str, Any], int], None]


def say(line: str, *, quiet: bool = False) -> None:
    """Print a line and flush it, so that a log file shows the state of the run."""
    if not quiet:
        print(printable(line), flush=True)


def complain(line: str) -> None:
    """Print a line to standard error."""
    print(printable(line), file=sys.stderr)


def print_whole(table: Any) -> None:
    """Print a table of rich; if the terminal is too narrow, its lines are not cut."""
    from rich.console import Console

    console, needed = Console(), Console(width=_WIDEST).measure(table).minimum
    console.width = max(console.width, needed)
    console.print(table)


def _bar(*more: Any) -> Any:
    """Return a progress bar with a text before it and these columns after it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    text = TextColumn("{task.description}", markup=False)
    return Progress(text, BarColumn(), MofNCompleteColumn(), *more)


@contextmanager
def epoch_progress(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], ShowEpoch]]:
    """Return a context with two functions: one shows a line, one shows an epoch."""
    if quiet or not is_live(sys.stdout):
        tell = partial(say, quiet=quiet)
        yield tell, lambda row, n_epochs: tell(describe_epoch(row, n_epochs))
        return
    from rich.progress import TimeRemainingColumn

    with _bar(TimeRemainingColumn()) as bar:
        task = bar.add_task("", visible=False)

        def show(row: Mapping[str, Any], n_epochs: int) -> None:
            line = describe_epoch(row, n_epochs)
            done = {"total": n_epochs, "completed": row["epoch"], "visible": True}
            bar.update(task, description=line, **done)

        yield lambda line: bar.console.print(printable(line), **_PLAIN), show


@contextmanager
def task_progress(
    n_tasks: int, *, quiet: bool, unit: str = "cells"
) -> Iterator[Progress]:
    """Return a context with functions that show finished tasks and the time left."""
    from l63fast.experiments.tasks import Progress, time_left

    if quiet or not is_live(sys.stdout):
        yield Progress.of_lines(partial(say, quiet=quiet), n_tasks)
        return
    from rich.progress import ProgressColumn, TimeElapsedColumn
    from rich.text import Text

    class Left(ProgressColumn):
        """Column with the time left; that of rich would count kept cells as run."""

        def render(self, task: Any) -> Text:
            ready = task.fields["ready"]
            if ready is None or task.finished:
                return Text("")
            left = max(ready - time.monotonic(), 1.0)
            return Text(time_left(left, task.fields["is_least"]))

    with _bar(TimeElapsedColumn(), Left()) as bar:
        task = bar.add_task(unit, total=n_tasks, ready=None)

        def note(name: str, line: str) -> None:
            bar.console.print(printable(f"{name:12s} {line}"), **_PLAIN)
            bar.advance(task)

        yield Progress(
            note,
            left=lambda seconds, is_least: bar.update(
                task, ready=time.monotonic() + seconds, is_least=is_least
            ),
            say=lambda name, line: bar.update(
                task, description=printable(f"{name}: {line}")
            ),
        )
