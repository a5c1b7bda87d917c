"""Workers of dask clusters, our own or another's: dask is imported here alone."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from asyncio import CancelledError as AsyncCancelledError
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar
from uuid import uuid4

import dask
import distributed
from distributed.comm.addressing import parse_address, parse_host_port

from l63fast.errors import ClusterError, ConfigurationError, DataFileError
from l63fast.experiments.executors import Pool, Scheduler
from l63fast.storage import read_json

__all__ = ["dask_setup", "local_workers", "workers_of"]

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE: Final = 6.0  # seconds until a scheduler that does not answer is given up
_SETTLING: Final = 0.5  # seconds
_LOOPBACK: Final = "127.0.0.1"
_DEADLY: Final = (
    "its worker process died each time it was tried (killed, or out of memory)"
)
_LOST: Final = "the cluster was stopped, or lost, before it ended"
_OURS: Final[dict[str, Any]] = {
    # A task waits with the scheduler until a worker is free: dying beside another's
    # task is then rare.
    "distributed.scheduler.worker-saturation": 1.0,
    # A worker that is busy in one long native call is not lost; one that is killed
    # shows at once.
    "distributed.scheduler.worker-ttl": None,
    # As in this process: a sum must not depend on where it is taken.
    "distributed.nanny.pre-spawn-environ": {},
    # It holds on to the frames of a running task, and torch.export then fails at times.
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


@contextmanager
def local_workers(n_workers: int) -> Iterator[Pool]:
    """Give spawned processes of one thread each, reached over loopback only.

    Spawned, not forked: torch and Numba hold threads, and a fork would copy their locks
    without the threads that release them. They end with this process, however it ends.
    """
    _silence()
    with dask.config.set(_OURS):
        # Started on first use, it would let Ctrl-C through in the thread that needs it.
        resource_tracker.ensure_running()
        with _interrupts_held():
            cluster = _local_cluster(n_workers)
        ended = threading.Event()
        keeper = threading.Thread(target=_keep, args=(cluster, n_workers, ended))
        keeper.start()
        try:
            with _Workers(distributed.Client(cluster, set_as_default=False)) as pool:
                yield pool
        finally:
            ended.set()
            keeper.join()
            _end(cluster)


def _local_cluster(n_workers: int) -> Any:
    return distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        host=_LOOPBACK,
        dashboard_address=f"{_LOOPBACK}:0",
        scheduler_kwargs={"dashboard": False, "allowed_failures": 1},
        memory_limit=0,
        preload=__name__,
        silence_logs=logging.CRITICAL,
    )


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C; threads and processes that begin meanwhile never hear of it.

    It reaches the whole group of processes, and the parent decides: it stops the
    workers, which dask starts, and starts again, from a thread that begins here.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _keep(cluster: Any, n_workers: int, ended: threading.Event) -> None:
    """Replace workers that dask gives up: those that die while they are started."""
    while not ended.wait(1.0):
        cluster.scale(n_workers)


def dask_setup(worker: Any) -> None:
    """Prepare a worker of ours: dask calls this where it starts."""
    global _ready
    _ready = time.monotonic() + _SETTLING
    _silence()


def _silence() -> None:
    """Hide dask's log: what matters reaches the user as the error of a task."""
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)


def _end(cluster: Any) -> None:
    """End the workers at once and close: one in a native call hears no request."""
    nannies = list(cluster.workers.values())
    for nanny in nannies:
        nanny.close_gracefully()  # from now on nothing is started again
    deadline = time.monotonic() + PATIENCE
    while any(map(_is_starting, nannies)) and time.monotonic() < deadline:
        time.sleep(0.02)  # dask fails to close what is not up yet
    for nanny in nannies:
        if nanny.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)
    cluster.close()


def _is_starting(nanny: Any) -> bool:
    return nanny.process is not None and nanny.process.status.name in (
        "init",
        "starting",
    )


@contextmanager
def workers_of(scheduler: Scheduler) -> Iterator[Pool]:
    """Give the workers of a scheduler that runs already; TLS as dask is configured.

    Raises
    ------
    ConfigurationError
        If it is on another machine and without TLS, and that is not allowed.
    ClusterError
        If it does not answer.
    """
    _silence()
    end = time.monotonic() + PATIENCE
    address = scheduler.address or _address_in(Path(str(scheduler.file)), end)
    _refuse_open(address, allowed=scheduler.insecure)
    try:
        client = distributed.Client(
            address, timeout=max(end - time.monotonic(), 1.0), set_as_default=False
        )
    except Exception as error:  # of dask, tornado, ssl or the system
        text = " ".join(str(error).split()) or type(error).__name__
        raise ClusterError(f"{address}: no dask scheduler answers: {text}") from error
    with _Workers(client) as pool:
        yield pool


def _address_in(file: Path, end: float) -> str:
    """Return the address in a scheduler file, which a job may yet have to write."""
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.1)
    try:
        return str(read_json(file)["address"])
    except (KeyError, TypeError) as error:
        raise DataFileError(f"{file}: is not a scheduler file of dask") from error


def _refuse_open(address: str, *, allowed: bool) -> None:
    """Refuse a scheduler that anyone on the network may talk to."""
    try:
        protocol, location = parse_address(address)
        host, _ = parse_host_port(location)
    except ValueError as error:
        raise ConfigurationError(f"scheduler: {address}: {error}") from error
    if protocol not in ("tcp", "tls"):
        raise ConfigurationError(
            f"scheduler: expected tls://HOST:PORT or tcp://HOST:PORT, got {address}"
        )
    if protocol == "tls":
        _refuse_without_certificates(address)
    if protocol == "tcp" and not allowed and not _is_this_machine(host):
        raise ConfigurationError(
            f"scheduler: {address} is another machine and without TLS: whoever reaches "
            "it can run programs as you, and read what is sent. Use tls://, or "
            "--insecure in a network where you trust everyone"
        )


def _refuse_without_certificates(address: str) -> None:
    """Refuse TLS that dask has no certificates for; it would try until it times out."""
    try:
        security = distributed.Security().get_connection_args("client")
        problem = None if security.get("ssl_context") else "there is no certificate"
    except (OSError, TypeError, ValueError) as error:
        problem = str(error)
    if problem is not None:
        raise ConfigurationError(
            f"scheduler: {address}: {problem}; TLS needs dask's settings "
            "distributed.comm.tls: ca-file, client.cert and client.key "
            "(DASK_DISTRIBUTED__COMM__TLS__CA_FILE and so on)"
        )


def _is_this_machine(host: str) -> bool:
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ip_address(one.partition("%")[0]).is_loopback for one in found)


@dataclass(eq=False)
class _Task:
    call: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    is_alone: bool = False


class _Workers(Pool):
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


def _new_key() -> str:
    return f"l63fast-{uuid4().hex}"  # dask takes equal keys for one task


_turn = threading.Lock()
_ready = 0.0  # when this process, if it is a worker of ours, may start tasks


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
