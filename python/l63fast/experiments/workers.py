"""Workers of this machine: spawned processes, each at the end of a pipe of its own.

A pipe has no name and no address: no other process can reach a worker or this process,
whoever it belongs to.
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
    """Runs tasks in processes of one task at a time, which end with this one.

    A task that costs its worker is tried again, and once more when all others have
    ended: whoever takes the memory of all is then alone. If it kills again it is named.
    """

    def __init__(self, n_workers: int, say: Say) -> None:
        self.n_workers = n_workers
        self._say = say
        self._started: list[_Worker] = []
        self._idle: list[_Worker] = []

    @staticmethod
    def tell(name: str, line: str) -> None:
        """Send a line about a task to whoever started the run."""
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
                    with suppress(OSError):  # it has died: reading says so
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
        """End the workers, also those at work."""
        while self._started:
            self._end(self._started[-1])

    def _start(self) -> _Worker:
        self._started.append(_Worker())
        return self._started[-1]

    def _end(self, worker: _Worker) -> None:
        with suppress(ValueError):  # it has ended
            self._started.remove(worker)
        worker.end()


class _Worker:
    """A process that runs tasks, and this end of its pipe."""

    def __init__(self) -> None:
        # Started on first use, it would let Ctrl-C through in the thread that needs it.
        resource_tracker.ensure_running()
        self.pipe, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(there,), daemon=True)
        with there, _main_left_alone(), _interrupts_held():
            self._process.start()

    def end(self) -> None:
        """Kill the process: a task that it still runs would only be in the way."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: connection.Connection) -> None:
    """Run the tasks that come through a pipe, one after the other, until it closes."""
    global _pipe
    _pipe = pipe
    Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            pipe.send(_outcome(pipe.recv_bytes()))


def _end_with_parent() -> None:
    """End this process when its parent has ended, in the middle of a task too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _outcome(task: bytes) -> bytes:
    """Return the result or the error of a task, as bytes that can be read again."""
    try:
        outcome = pickle.loads(task)()
    except Exception as error:
        outcome = error
    try:
        data = pickle.dumps(outcome)
        pickle.loads(data)
    except Exception:  # some errors cannot travel
        data = pickle.dumps(RuntimeError(f"{type(outcome).__name__}: {outcome}"))
    return data


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep workers from running the user's script again, which needs no main guard.

    A spawned process imports the main module of its parent, by its spec or its file.
    Tasks are functions of this package, so that it has no need to.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name, None) for name in ("__spec__", "__file__")}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update({k: v for k, v in hidden.items() if v is not None})


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C; a process that begins meanwhile never hears of it.

    It reaches the whole group of processes, and the parent decides.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
