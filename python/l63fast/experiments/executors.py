"""Where tasks run: in this process, in workers of our own, or on a dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from l63fast.errors import ConfigurationError
from l63fast.experiments.tasks import Pool, Say, Scheduler

__all__ = ["InProcess", "default_workers", "executor"]

P = ParamSpec("P")
T = TypeVar("T")


class InProcess(Pool):
    """A pool that runs each task when it is submitted."""

    @property
    def n_workers(self) -> int:
        """One."""
        return 1

    def hearing(self, say: Say) -> Say:
        """Return `say` itself."""
        return say

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run the task and return its finished future."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # the future hands it to whoever asks
            future.set_exception(error)
        return future


def default_workers(n_tasks: int) -> int:
    """Return one worker per core that this process may use, at most one per task.

    One where dask is not installed: more would need it.
    """
    cores = len(os.sched_getaffinity(0)) if _has_dask() else 1
    return max(1, min(cores, n_tasks))


@contextmanager
def executor(n_workers: int = 1, scheduler: Scheduler | None = None) -> Iterator[Pool]:
    """Give a pool; when it is left, its workers have ended.

    One worker is this process and needs no dask. A scheduler decides itself how many
    workers it has.

    Raises
    ------
    ConfigurationError
        If it needs dask, which is not installed, or the scheduler is on another machine
        and without TLS.
    ClusterError
        If the scheduler cannot be reached.
    """
    if n_workers == 1 and scheduler is None:
        yield InProcess()
        return
    if not _has_dask():
        asked = "a scheduler" if scheduler else f"{n_workers} workers"
        raise ConfigurationError(
            f"{asked}: dask is not installed; pip install 'l63fast[cluster]', or use "
            "one worker"
        )
    from l63fast.experiments.cluster import local_workers, workers_of

    opened = local_workers(n_workers) if scheduler is None else workers_of(scheduler)
    with opened as pool:
        yield pool


def _has_dask() -> bool:
    return find_spec("distributed") is not None
