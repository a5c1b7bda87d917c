"""What a command shows: plain lines, live progress on a terminal, nothing if quiet."""

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
    """Print a line at once, so that a batch log follows the run."""
    if not quiet:
        print(printable(line), flush=True)


def complain(line: str) -> None:
    """Print a line to standard error."""
    print(printable(line), file=sys.stderr)


def print_whole(table: Any) -> None:
    """Print a table of rich; lines too long for the terminal are not cut."""
    from rich.console import Console

    console, needed = Console(), Console(width=_WIDEST).measure(table).minimum
    console.width = max(console.width, needed)
    console.print(table)


def _bar(*more: Any) -> Any:
    """Return a live bar with its text before it, and these columns behind it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    text = TextColumn("{task.description}", markup=False)
    return Progress(text, BarColumn(), MofNCompleteColumn(), *more)


@contextmanager
def epoch_progress(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], ShowEpoch]]:
    """Give what shows a line and what shows an epoch of one training."""
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
    """Give who is told of each task that ends, and of the time until all have."""
    from l63fast.experiments.tasks import Progress, duration

    if quiet or not is_live(sys.stdout):
        yield Progress.of_lines(partial(say, quiet=quiet), n_tasks)
        return
    from rich.progress import ProgressColumn, TimeElapsedColumn
    from rich.text import Text

    class Left(ProgressColumn):
        """Counts down to when all will be done; rich's own takes kept cells as run."""

        def render(self, task: Any) -> Text:
            ready = task.fields["ready"]
            if ready is None or task.finished:
                return Text("")
            left = max(ready - time.monotonic(), 1.0)
            return Text(f"about {duration(left)} left")

    with _bar(TimeElapsedColumn(), Left()) as bar:
        task = bar.add_task(unit, total=n_tasks, ready=None)

        def note(name: str, line: str) -> None:
            bar.console.print(printable(f"{name:12s} {line}"), **_PLAIN)
            bar.advance(task)

        yield Progress(
            note,
            left=lambda seconds: bar.update(task, ready=time.monotonic() + seconds),
            say=lambda name, line: bar.update(
                task, description=printable(f"{name}: {line}")
            ),
        )
