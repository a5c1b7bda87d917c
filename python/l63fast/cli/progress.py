"""Shows how a run of tasks gets on: a bar on a terminal, one line a task in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from l63fast.cli.output import is_live, say

if TYPE_CHECKING:
    from l63fast.experiments.tasks import Progress

__all__ = ["duration", "task_progress"]

_MINUTE, _HOUR = 60, 3600


def duration(seconds: float) -> str:
    """Return a time in words, no more exact than an estimate deserves."""
    if seconds < 1.5 * _MINUTE:
        return f"{max(round(seconds), 1)} s"
    if seconds < 1.5 * _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    minutes = round(seconds / (10 * _MINUTE)) * 10
    return f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def task_progress(
    n_tasks: int, *, quiet: bool, unit: str = "cells"
) -> Iterator[Progress]:
    """Give who is told of each task that ends, and of the time until all have."""
    from l63fast.experiments.tasks import Progress

    if quiet or not is_live():
        lines = _Lines(n_tasks, quiet)
        yield Progress(lines.note, lines.expect, lines.say)
        return
    with _live_progress() as live:
        bar = _Bar(live, live.add_task(unit, total=n_tasks, ready=None))
        yield Progress(bar.note, bar.expect, bar.say)


class _Lines:
    def __init__(self, n_tasks: int, quiet: bool) -> None:
        self.n_tasks = n_tasks
        self.quiet = quiet
        self.done = 0
        self.left = ""

    def say(self, name: str, line: str) -> None:
        say(f"        {name:12s} {line}", quiet=self.quiet)

    def expect(self, seconds: float) -> None:
        self.left = f"; about {duration(seconds)} left" if seconds else ""

    def note(self, name: str, line: str) -> None:
        self.done += 1
        width = max(len(str(self.n_tasks)), 2)
        count = f"[{self.done:{width}d}/{self.n_tasks}]"
        left = self.left if self.done < self.n_tasks else ""
        say(f"{count} {name:12s} {line}{left}", quiet=self.quiet)


class _Bar:
    def __init__(self, live: Any, task: Any) -> None:
        self.live = live
        self.task = task

    def say(self, name: str, line: str) -> None:
        self.live.update(self.task, description=f"{name}: {line}")

    def expect(self, seconds: float) -> None:
        self.live.update(self.task, ready=time.monotonic() + seconds)

    def note(self, name: str, line: str) -> None:
        self.live.console.print(f"{name:12s} {line}", highlight=False, markup=False)
        self.live.advance(self.task)


def _live_progress() -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class Left(ProgressColumn):
        """Counts down to when all will be done; rich's own takes kept cells as run."""

        def render(self, task: Any) -> Text:
            ready = task.fields["ready"]
            if ready is None or task.finished:
                return Text("")
            left = max(ready - time.monotonic(), 1.0)
            return Text(f"about {duration(left)} left")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Left(),
    )
