"""Where cells run: in this process for one worker, in spawned processes for more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

__all__ = ["InProcess", "default_workers", "executor"]

P = ParamSpec("P")
T = TypeVar("T")


def default_workers(n_tasks: int) -> int:
    """Return one worker per core that this process may use, at most one per task."""
    return max(1, min(len(os.sched_getaffinity(0)), n_tasks))


class InProcess(Executor):
    """An executor that runs each task when it is submitted."""

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


@contextmanager
def executor(n_workers: int) -> Iterator[Executor]:
    """Give an executor; on an interrupt its processes are stopped at once.

    Processes are spawned, not forked: torch and Numba hold threads, and a fork would
    copy their locks without the threads that release them.
    """
    if n_workers == 1:
        yield InProcess()
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        n_workers, multiprocessing.get_context("spawn"), initializer=_prepare_worker
    )
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    # Ctrl-C reaches the whole group; the parent decides and stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that is killed cannot stop its workers, and they would wait for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
