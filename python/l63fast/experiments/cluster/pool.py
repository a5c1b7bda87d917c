"""Tasks on the workers of a dask client: sent, suspected, tried again, given up."""

from __future__ import annotations

import threading
import time
from asyncio import CancelledError as AsyncCancelledError
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, ParamSpec, Self, TypeVar
from uuid import uuid4

import distributed

from l63fast.errors import ClusterError
from l63fast.experiments.tasks import Pool, Say

__all__ = ["PATIENCE", "DaskPool", "start_tasks_after"]

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE: Final = 6.0  # seconds until a scheduler that does not answer is given up
_DEADLY: Final = (
    "its worker process died each time it was tried (killed, or out of memory)"
)
_TOPIC: Final = "l63fast"
_LOST: Final = "the cluster was stopped, or lost, before it ended"


@dataclass(eq=False)
class _Task:
    call: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    is_alone: bool = False


class DaskPool(Pool):
    """Hands tasks to dask; a task that costs its worker is tried again, then named.

    Dask suspects every task that a worker held when it died. One that is suspected too
    often is tried once more when all others have ended: alone, it cannot be blamed for
    the deeds of another.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._sent: dict[_Task, Any] = {}  # dask forgets a task that nobody holds
        self._suspects: deque[_Task] = deque()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the scheduler; a task that has not ended by now fails.

        Dask stops listening to it, so that its own future may stay pending for ever.
        """
        self._client.close()
        with self._lock:
            lost = [*self._sent, *self._suspects]
            self._sent.clear()
            self._suspects.clear()
        for task in lost:
            task.future.set_exception(ClusterError(_LOST))

    @property
    def n_workers(self) -> int:
        """Processes that are there now; each runs one task at a time."""
        with suppress(Exception):  # the scheduler may be gone, and this is a number
            return len(self._client.nthreads())
        return 1

    def hearing(self, say: Say) -> Say:
        """Return what sends a line from a worker; it is dropped where nobody hears."""
        self._client.subscribe_topic(_TOPIC, lambda event: say(*event[1]))
        return _tell

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Send a task; its future has its result, its own error, or a ClusterError."""
        task = _Task(partial(fn, *args, **kwargs))
        task.future.set_running_or_notify_cancel()
        self._send(task)
        return task.future

    def _send(self, task: _Task) -> None:
        with self._lock:
            sent = self._client.submit(_in_turn, task.call, key=_new_key())
            self._sent[task] = sent
        sent.add_done_callback(partial(self._ended, task))

    def _ended(self, task: _Task, sent: Any) -> None:
        result, error = _outcome(sent)
        is_suspect = isinstance(error, distributed.KilledWorker)
        with self._lock:
            if self._sent.pop(task, None) is None:
                return  # this pool was left, and said so
            if is_suspect and not task.is_alone:
                self._suspects.append(task)
        if error is None:
            task.future.set_result(result)
        elif not is_suspect:
            task.future.set_exception(error)
        elif task.is_alone:
            task.future.set_exception(ClusterError(_DEADLY))
        self._try_next_suspect()

    def _try_next_suspect(self) -> None:
        with self._lock:
            if self._sent or not self._suspects:
                return
            task = self._suspects.popleft()
        task.is_alone = True
        self._send(task)


def _tell(name: str, line: str) -> None:
    with suppress(Exception):  # a line less is no reason to fail
        distributed.get_worker().log_event(_TOPIC, (name, line))


def _new_key() -> str:
    return f"l63fast-{uuid4().hex}"  # dask takes equal keys for one task


_turn = threading.Lock()
_ready = 0.0  # when this process, if it is a worker of ours, may start tasks


def start_tasks_after(seconds: float) -> None:
    """Hold back the tasks of this process for a while."""
    global _ready
    _ready = time.monotonic() + seconds


def _in_turn(call: Callable[[], T]) -> T:
    """Run a task while no other runs in this process.

    Another's workers may have several threads, and torch's random state, its number of
    threads and its exports belong to the process.
    """
    # Dask does not replace a worker that dies before it has been reported as started.
    time.sleep(max(_ready - time.monotonic(), 0.0))
    with _turn:
        return call()


def _outcome(sent: Any) -> tuple[Any, BaseException | None]:
    """Return result and error of a task of dask that has ended, one of them None.

    A result that is lost with its worker just now is made again, and waited for: for as
    long as dask listens, since a closed client never answers.
    """
    while not sent.cancelled():
        try:
            return sent.result(timeout=PATIENCE), None
        except (CancelledError, AsyncCancelledError):
            break
        except Exception as error:
            is_late = isinstance(error, TimeoutError) and sent.status != "error"
            if not is_late:
                return None, error
            if sent.client.status == "closed":
                break
    return None, ClusterError(_LOST)
