"""Runs named tasks on a pool: how each ended, why one failed, how long it will take."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from threading import Event

from l63fast.errors import ConfigurationError, L63Error

__all__ = [
    "Done",
    "Pool",
    "Progress",
    "Say",
    "Scheduler",
    "reason",
    "run_tasks",
    "seconds_left",
]


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


Say = Callable[[str, str], None]


class Pool(Executor):
    """An executor that knows how many tasks it runs, and hears of them meanwhile."""

    @property
    @abstractmethod
    def n_workers(self) -> int:
        """Tasks that run at once, as things stand."""

    @abstractmethod
    def hearing(self, say: Say) -> Say:
        """Return what a task may call with its name and a line; `say` is given both."""


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


def run_tasks(
    pool: Pool,
    tasks: Mapping[str, Callable[[], Done]],
    progress: Progress,
    alike: Mapping[str, Hashable] | None = None,
) -> dict[str, str]:
    """Run every task; return the reason of each that failed, by its name.

    An interrupt ends the run: what comes back after it is not told any more. Tasks of
    the same value in `alike` are expected to take about as long, by default all.
    """
    ledger = _Ledger(pool, dict(alike or dict.fromkeys(tasks)), progress)
    try:
        for name, task in tasks.items():
            ledger.submit(name, task)
        if tasks:
            ledger.all_told.wait()
    except BaseException:
        ledger.closed = True
        raise
    return {name: ledger.failures[name] for name in tasks if name in ledger.failures}


@dataclass
class _Ledger:
    """Who was sent to work and who came back how; closed when the run is stopped."""

    pool: Pool
    left: dict[str, Hashable]  # in the order of work; what a task's time is like
    progress: Progress
    failures: dict[str, str] = field(default_factory=dict)
    seconds: list[tuple[Hashable, float]] = field(default_factory=list)
    closed: bool = False
    all_told: Event = field(default_factory=Event)

    def submit(self, name: str, task: Callable[[], Done]) -> None:
        self.pool.submit(task).add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, future: Future[Done]) -> None:
        kind = self.left.pop(name)
        try:
            if not self.closed:
                self._tell(name, kind, future)
        finally:
            if not self.left:
                self.all_told.set()

    def _tell(self, name: str, kind: Hashable, future: Future[Done]) -> None:
        error = future.exception()
        if error is None:
            done = future.result()
            line, seconds = done.line, done.seconds
        else:
            self.failures[name] = reason(error)
            line, seconds = f"failed: {reason(error)}", None
        if seconds is not None:
            self.seconds.append((kind, seconds))
            kinds, n_workers = list(self.left.values()), max(self.pool.n_workers, 1)
            self.progress.left(seconds_left(self.seconds, kinds, n_workers))
        self.progress.note(name, line)


def seconds_left(
    seconds: Sequence[tuple[Hashable, float]], left: Sequence[Hashable], n_workers: int
) -> float:
    """Return the time until all tasks have ended, from those that have.

    Each of `left` takes the mean time of its kind among `seconds`, or that of all where
    none of its kind has ended. Tasks kept from an earlier run tell nothing about the
    others and are not among `seconds`. Those that run beside the one that has just
    ended, the first of `left`, count as half done. No task is shared by workers.
    """
    by_kind: dict[Hashable, list[float]] = {}
    for kind, each in seconds:
        by_kind.setdefault(kind, []).append(each)
    of_all = [each for _, each in seconds]
    expected = [fmean(by_kind.get(kind, of_all)) for kind in left]
    for k in range(min(n_workers - 1, len(left))):
        expected[k] /= 2.0
    return max(sum(expected) / n_workers, max(expected, default=0.0))


def reason(error: BaseException) -> str:
    """Return why a task failed, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, L63Error) else f"{type(error).__name__}: {text}"
