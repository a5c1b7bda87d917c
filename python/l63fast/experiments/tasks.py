"""Runs named tasks, in this process or on workers: how each ended, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
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
Outcomes = Iterator[tuple[str, Any]]  # names, and results or errors


@dataclass(frozen=True)
class Scheduler:
    """A dask scheduler that runs already.

    Attributes
    ----------
    address : str or None
        Such as tls://host:8786.
    file : Path or None
        The scheduler file that holds the address, instead of the address.
    insecure : bool
        Allow another machine without TLS: whoever reaches such a scheduler can run
        programs as its user.
    """

    address: str | None = None
    file: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.address is None) == (self.file is None):
            raise ConfigurationError(
                "scheduler: expected an address or a scheduler file, one of the two"
            )


class Pool(Protocol):
    """Runs tasks, and hears of them meanwhile."""

    @property
    def n_workers(self) -> int:
        """Tasks that run at once, as things stand."""

    @property
    def tell(self) -> Say:
        """What a task may call with its name and a line, wherever it runs."""

    def run(self, tasks: Tasks) -> Outcomes:
        """Yield the name of each task when it ends, and its result or its error."""


class InProcess:
    """A pool that runs one task after the other, here."""

    n_workers = 1

    def __init__(self, say: Say) -> None:
        self.tell = say

    def run(self, tasks: Tasks) -> Outcomes:
        """Run each task when its outcome is asked for."""
        for name, task in tasks.items():
            try:
                outcome = task()
            except Exception as error:
                outcome = error
            yield name, outcome


def default_workers(n_tasks: int) -> int:
    """Return one worker per core that this process may use, at most one per task."""
    return max(1, min(_checks.usable_cores(), n_tasks))


@contextmanager
def executor(
    n_workers: int = 1,
    scheduler: Scheduler | None = None,
    say: Say = lambda name, line: None,
) -> Iterator[Pool]:
    """Give a pool; when it is left, its workers have ended.

    One worker is this process, more are processes beside it. A scheduler of dask has
    workers of its own. `say` hears the lines of tasks, and what is waited for.

    Raises
    ------
    ConfigurationError
        If a scheduler is given and dask is not installed, or the scheduler is on
        another machine and without TLS.
    ClusterError
        If the scheduler cannot be reached.
    """
    if scheduler is not None:
        if find_spec("distributed") is None:
            raise ConfigurationError(
                "a scheduler: dask is not installed; pip install 'l63fast[cluster]', "
                "or use --workers on this machine"
            )
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
    """Refuse to work where a folder is not seen that whoever started the run has made.

    Raises
    ------
    ClusterError
        Naming the machine.
    """
    if not folder.is_dir():
        raise ClusterError(
            f"the worker on {gethostname()} does not see {folder}: results and data "
            "must be on a file system that all workers share"
        )


@dataclass(frozen=True)
class Done:
    """What a task says when it ends.

    Attributes
    ----------
    line : str
        One line about its result.
    seconds : float or None
        What it took where it ran; None if its result was there already.
    """

    line: str
    seconds: float | None


@dataclass
class Progress:
    """Receives messages about a run, in the process that started it.

    Attributes
    ----------
    note : callable
        Takes the name of a task and one line about it, when it ends.
    left : callable
        Takes the seconds to completion, before the note, when a task ends that was run.
    say : callable
        Takes the name of a task and one line while it runs.
    """

    note: Callable[[str, str], None] = lambda name, line: None
    left: Callable[[float], None] = lambda seconds: None
    say: Say = lambda name, line: None

    @classmethod
    def of_lines(cls, say: Callable[[str], None], n_tasks: int) -> Progress:
        """Return what says a line per task, with its number and the time left."""
        done, left = 0, ""
        width = max(len(str(n_tasks)), 2)

        def expect(seconds: float) -> None:
            nonlocal left
            left = f"; about {duration(seconds)} left" if seconds else ""

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
    alike: Mapping[str, Hashable] | None = None,
) -> dict[str, str]:
    """Run every task; return the reason of each that failed, by its name.

    Tasks of the same value in `alike` are expected to take about as long, by default
    all.
    """
    left = dict(alike or dict.fromkeys(tasks))
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
            progress.left(seconds_left(seconds, list(left.values()), n_workers))
        progress.note(name, outcome.line)
    return {name: failures[name] for name in tasks if name in failures}


def seconds_left(
    seconds: Sequence[tuple[Hashable, float]], left: Sequence[Hashable], n_workers: int
) -> float:
    """Return the time until all tasks have ended, from those that have.

    Each of `left` takes the mean time of its kind among `seconds`, or that of all where
    none of its kind has ended. Tasks kept from an earlier run tell nothing about the
    others and are not among `seconds`. Those that run beside the one that has just
    ended, the first of `left`, count as half done. No task is shared by workers.
    """
    by_kind: dict[Hashable, list[float]] = defaultdict(list)
    for kind, each in seconds:
        by_kind[kind].append(each)
    of_all = [each for _, each in seconds]
    expected = [fmean(by_kind.get(kind, of_all)) for kind in left]
    for k in range(min(n_workers - 1, len(left))):
        expected[k] /= 2.0
    return max(sum(expected) / n_workers, max(expected, default=0.0))


def duration(seconds: float) -> str:
    """Return a time in words, no more exact than an estimate deserves."""
    if seconds < 1.5 * _MINUTE:
        return f"{max(round(seconds), 1)} s"
    if seconds < 1.5 * _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    minutes = round(seconds / (10 * _MINUTE)) * 10
    return f"{minutes // 60} h {minutes % 60:02d} min"


def reason(error: BaseException) -> str:
    """Return why a task failed, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, L63Error) else f"{type(error).__name__}: {text}"
