"""Running of named tasks in this process or on workers, and progress messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from statistics import fmean
from typing import Any, Protocol

from l63fast import _checks
from l63fast.errors import ClusterError, ConfigurationError, L63Error
from l63fast.experiments.workers import LocalPool

_MINUTE, _HOUR = 60, 3600
Say = Callable[[str, str], None]
Tasks = Mapping[str, Callable[[], Any]]
Outcomes = Iterator[tuple[str, Any]]  # name of a task, and its result or error


@dataclass(frozen=True)
class Scheduler:
    """Address of a running dask scheduler.

    Attributes
    ----------
    address : str or None
        Address, such as tls://host:8786.
    file : Path or None
        Scheduler file with the address, instead of the address.
    insecure : bool
        Allow a scheduler on another machine without TLS. Everyone who reaches such a
        scheduler can run programs as its user.
    """

    address: str | None = None
    file: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.address is None) == (self.file is None):
            raise ConfigurationError(
                "scheduler: expected either an address or a scheduler file, got "
                f"{'none' if self.file is None else 'both'}"
            )


class Pool(Protocol):
    """Runs tasks, and receives their messages."""

    @property
    def n_workers(self) -> int:
        """Number of tasks that can run at the same time now."""

    @property
    def tell(self) -> Say:
        """Function that a task calls with its name and a line, on any worker."""

    def run(self, tasks: Tasks) -> Outcomes:
        """Yield the name and the result or error of each task when it ends."""


class InProcess:
    """A pool that runs one task after the other in this process."""

    n_workers = 1

    def __init__(self, say: Say) -> None:
        self.tell = say

    def run(self, tasks: Tasks) -> Outcomes:
        """Yield the outcomes; a task runs when its outcome is requested."""
        for name, task in tasks.items():
            try:
                outcome = task()
            except Exception as error:
                outcome = error
            yield name, outcome


def default_workers(n_tasks: int) -> int:
    """Return the default number of workers: one per usable core, at most n_tasks."""
    return max(1, min(_checks.usable_cores(), n_tasks))


@contextmanager
def executor(
    n_workers: int = 1,
    scheduler: Scheduler | None = None,
    say: Say = lambda name, line: None,
) -> Iterator[Pool]:
    """Return a context with a pool of workers, which end with the context.

    One worker is this process; more workers are new processes. A dask scheduler has its
    own workers. `say` receives the messages of tasks and of waiting.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the number of workers is no count.
    MissingPackageError
        If dask is not installed.
    ConfigurationError
        If the scheduler is on another machine without TLS.
    ClusterError
        If the scheduler cannot be reached.
    """
    n_workers = _checks.count("workers", n_workers, minimum=1)
    if scheduler is not None:
        from l63fast.experiments.cluster import workers_of

        with workers_of(scheduler, say) as cluster:
            yield cluster
    elif n_workers == 1:
        yield InProcess(say)
    else:
        pool = LocalPool(n_workers, say)
        try:
            yield pool
        finally:
            pool.close()


def require_seen(folder: Path) -> None:
    """Raise an error if a worker does not see the folder that the run has made.

    Raises
    ------
    ClusterError
        The message names the machine.
    """
    if not folder.is_dir():
        raise ClusterError(
            f"the worker on {gethostname()} does not see {folder}: results and data "
            "must be on a file system that all workers share"
        )


@dataclass(frozen=True)
class Done:
    """Message of a finished task.

    Attributes
    ----------
    line : str
        One line about the result.
    seconds : float or None
        Time of the task; None if an earlier result was kept.
    """

    line: str
    seconds: float | None


@dataclass
class Progress:
    """Functions that receive messages about a run, in the process that started it.

    Attributes
    ----------
    note : callable
        Takes the name of a task and one line, when the task ends.
    left : callable
        Takes the estimated time to completion (seconds), and whether it is only the
        least, when a task ends; not for a task whose earlier result was kept. It is
        called before `note`.
    say : callable
        Takes the name of a task and one line, while the task runs.
    """

    note: Callable[[str, str], None] = lambda name, line: None
    left: Callable[[float, bool], None] = lambda seconds, is_least: None
    say: Say = lambda name, line: None

    @classmethod
    def of_lines(cls, say: Callable[[str], None], n_tasks: int) -> Progress:
        """Return progress that says one line per task: number, result, time left."""
        done, left = 0, ""
        width = max(len(str(n_tasks)), 2)

        def expect(seconds: float, is_least: bool) -> None:
            nonlocal left
            left = f"; {time_left(seconds, is_least)}" if seconds else ""

        def note(name: str, line: str) -> None:
            nonlocal done
            done += 1
            end = left if done < n_tasks else ""
            say(f"[{done:{width}d}/{n_tasks}] {name:12s} {line}{end}")

        return cls(note, expect, lambda name, line: say(f"        {name:12s} {line}"))


def run_tasks(
    pool: Pool,
    tasks: Mapping[str, Callable[[], Done]],
    progress: Progress,
    kinds: Mapping[str, Hashable] | None = None,
) -> dict[str, str]:
    """Run every task; return the reason of each failure, by the name of the task.

    Tasks with the same value in `kinds` are expected to take equally long; by default
    all tasks are of one kind.
    """
    left = dict(kinds or dict.fromkeys(tasks))
    seconds: list[tuple[Hashable, float]] = []
    failures: dict[str, str] = {}
    for name, outcome in pool.run(tasks):
        kind = left.pop(name)
        if isinstance(outcome, Exception):
            failures[name] = reason(outcome)
            progress.note(name, f"failed: {failures[name]}")
            continue
        if outcome.seconds is not None:
            seconds.append((kind, outcome.seconds))
            n_workers = max(pool.n_workers, 1)
            progress.left(*seconds_left(seconds, list(left.values()), n_workers))
        progress.note(name, outcome.line)
    return {name: failures[name] for name in tasks if name in failures}


def seconds_left(
    seconds: Sequence[tuple[Hashable, float]], left: Sequence[Hashable], n_workers: int
) -> tuple[float, bool]:
    """Return the estimated time (seconds) until all tasks have ended.

    A task of `left` is expected to take the mean time of the finished tasks of its
    kind. Where none of its kind has ended, it counts as nothing, and the time is only
    the least: True is returned with it. `seconds` contains no tasks whose earlier
    results were kept. The first tasks of `left` are running on the other workers and
    count as half done. A task runs on one worker only, so that the longest task is a
    lower bound.
    """
    by_kind: dict[Hashable, list[float]] = defaultdict(list)
    for kind, each in seconds:
        by_kind[kind].append(each)
    expected = [fmean(by_kind.get(kind, [0.0])) for kind in left]
    for k in range(min(n_workers - 1, len(left))):
        expected[k] /= 2.0
    least = max(sum(expected) / n_workers, max(expected, default=0.0))
    return least, not by_kind.keys() >= set(left)


def time_left(seconds: float, is_least: bool) -> str:
    """Return text such as "about 3 min left"."""
    return f"{'more than' if is_least else 'about'} {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return a time (seconds) as text, rounded as an estimate should be."""
    if seconds < 1.5 * _MINUTE:
        return f"{max(round(seconds), 1)} s"
    if seconds < 1.5 * _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    minutes = round(seconds / (10 * _MINUTE)) * 10
    return f"{minutes // 60} h {minutes % 60:02d} min"


def reason(error: BaseException) -> str:
    """Return the reason of a failure, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, L63Error) else f"{type(error).__name__}: {text}"
