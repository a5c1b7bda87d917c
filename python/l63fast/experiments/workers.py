"""Workers on this machine: spawned processes that receive tasks through pipes.

A pipe has no name and no address, unlike a socket: no other process, of this or of
another user, can send tasks to a worker.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from l63fast.errors import ClusterError

if TYPE_CHECKING:
    from l63fast.experiments.tasks import Outcomes, Say, Tasks

DIED: Final = (
    "its worker process died each time it was tried (killed, or out of memory)"
)
# Spawned, not forked: torch and Numba hold threads, and a fork would copy their locks
# without the threads that release them.
_SPAWN: Final = multiprocessing.get_context("spawn")
_pipe: connection.Connection | None = None  # to the parent, where this is a worker


class LocalPool:
    """A pool of worker processes with one task each; they end with this process.

    A task whose worker dies is tried again, and a third time when all other tasks have
    ended: if memory was short because of another task, it then has all of it. If the
    worker dies again, the task has failed.
    """

    def __init__(self, n_workers: int, say: Say) -> None:
        self.n_workers = n_workers
        self._say = say
        self._started: list[_Worker] = []
        self._idle: list[_Worker] = []

    @staticmethod
    def tell(name: str, line: str) -> None:
        """Send a line about a task to the process that started the run."""
        if _pipe is not None:
            _pipe.send((name, line))

    def run(self, tasks: Tasks) -> Outcomes:
        """Yield each task when it ends: its result, its error, or a ClusterError."""
        waiting, suspects = deque(tasks), deque[str]()
        deaths: Counter[str] = Counter()
        working: dict[Any, tuple[_Worker, str]] = {}
        try:
            while waiting or suspects or working:
                if not waiting and not working:
                    waiting.append(suspects.popleft())
                while waiting and len(working) < self.n_workers:
                    try:
                        task = pickle.dumps(tasks[waiting[0]])
                    except Exception as error:
                        yield waiting.popleft(), error
                        continue
                    worker = self._idle.pop() if self._idle else self._start()
                    working[worker.pipe] = worker, waiting.popleft()
                    with suppress(OSError):  # it has died: the read below finds it
                        worker.pipe.send_bytes(task)
                for pipe in connection.wait(list(working)) if working else ():
                    worker, name = working[pipe]
                    try:
                        message = worker.pipe.recv()
                    except (EOFError, OSError):
                        del working[pipe]
                        self._end(worker)
                        deaths[name] += 1
                        if deaths[name] == 1:
                            waiting.append(name)
                        elif deaths[name] == 2:
                            suspects.append(name)
                        else:
                            yield name, ClusterError(DIED)
                        continue
                    if isinstance(message, tuple):
                        self._say(*message)
                        continue
                    del working[pipe]
                    self._idle.append(worker)
                    yield name, pickle.loads(message)
        finally:
            for worker, _ in working.values():
                self._end(worker)

    def close(self) -> None:
        """End all workers, also those that run a task."""
        while self._started:
            self._end(self._started[-1])

    def _start(self) -> _Worker:
        self._started.append(_Worker())
        return self._started[-1]

    def _end(self, worker: _Worker) -> None:
        with suppress(ValueError):  # it was removed before
            self._started.remove(worker)
        worker.end()


class _Worker:
    """A worker process, and our end of its pipe."""

    def __init__(self) -> None:
        # Python would start the tracker below, and that would unblock Ctrl-C too early.
        resource_tracker.ensure_running()
        self.pipe, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(there,), daemon=True)
        with there, _main_module_hidden(), _interrupts_blocked():
            self._process.start()

    def end(self) -> None:
        """Kill the process, also if it runs a task."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: connection.Connection) -> None:
    """Run the tasks that a pipe delivers, one after the other, until it closes."""
    global _pipe
    _pipe = pipe
    Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            pipe.send(_outcome(pipe.recv_bytes()))


def _end_with_parent() -> None:
    """End this process when its parent has ended, even in the middle of a task."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _outcome(task: bytes) -> bytes:
    """Return the result or the error of a task as pickled bytes."""
    try:
        outcome = pickle.loads(task)()
    except Exception as error:
        outcome = error
    try:
        data = pickle.dumps(outcome)
        pickle.loads(data)
    except Exception:  # some errors cannot be pickled
        data = pickle.dumps(RuntimeError(f"{type(outcome).__name__}: {outcome}"))
    return data


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Hide the main module, so that workers do not run the user's script again.

    A spawned process imports the main module of its parent, by its spec or its file.
    That is not needed here, because tasks are functions of this package. The user's
    script therefore needs no `if __name__ == "__main__"`.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name, None) for name in ("__spec__", "__file__")}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update({k: v for k, v in hidden.items() if v is not None})


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C; in a process that is started meanwhile it stays blocked.

    Ctrl-C reaches all processes of a group. Only the parent should react to it, and
    then end its workers.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
