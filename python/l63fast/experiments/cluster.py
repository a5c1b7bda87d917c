"""Workers of dask clusters, our own or another's: only this file imports dask."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from asyncio import CancelledError as AsyncCancelledError
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

import dask
import distributed
from distributed.comm.addressing import parse_address, parse_host_port
from tornado.ioloop import PeriodicCallback

from l63fast.errors import ClusterError, ConfigurationError, DataFileError
from l63fast.storage import read_json

if TYPE_CHECKING:
    from l63fast.experiments.tasks import Outcomes, Pool, Say, Scheduler, Tasks

T = TypeVar("T")

PATIENCE: Final = 6.0  # seconds until a scheduler that does not answer is given up
_SETTLING: Final = 0.5  # seconds
_LOOK: Final = 0.02  # seconds between looks at what has ended
_LOOPBACK: Final = "127.0.0.1"
_TOPIC: Final = "l63fast"
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


class DaskPool:
    """Hands tasks to dask; a task that costs its worker is tried again, then named.

    Dask suspects every task that a worker held when it died. One that is suspected too
    often is tried once more when all others have ended: alone, it cannot be blamed for
    the deeds of another.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

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

    def run(self, tasks: Tasks) -> Outcomes:
        """Yield each task when it ends: its result, its error, or a ClusterError."""
        ended = distributed.as_completed(loop=self._client.loop)
        sent: dict[str, str] = {}  # names by dask's keys
        suspects: list[str] = []
        alone: str | None = None

        def send(name: str) -> None:
            key = f"l63fast-{uuid4().hex}"  # dask takes equal keys for one task
            sent[key] = name
            ended.add(self._client.submit(_in_turn, tasks[name], key=key))

        for name in tasks:
            send(name)
        while sent and self._client.status != "closed":
            if not ended.has_ready():
                time.sleep(_LOOK)
                continue
            future = next(ended)
            name, outcome = sent.pop(future.key), _outcome(future)
            if not isinstance(outcome, distributed.KilledWorker):
                yield name, outcome
            elif name == alone:
                why = "died each time it was tried (killed, or out of memory)"
                yield name, ClusterError(f"its worker process {why}")
            else:
                suspects.append(name)
            if suspects and not sent:
                alone = suspects.pop(0)
                send(alone)
        for name in (*sent.values(), *suspects):  # a closed client hears of no end
            yield name, ClusterError(_LOST)


def _outcome(future: Any) -> Any:
    """Return the result or the error of a task of dask that has ended.

    A result that is lost with its worker just now is made again, and waited for: for as
    long as dask listens, since a closed client never answers.
    """
    while not future.cancelled() and future.client.status != "closed":
        try:
            return future.result(timeout=PATIENCE)
        except (CancelledError, AsyncCancelledError):
            break
        except Exception as error:
            if not isinstance(error, TimeoutError) or future.status == "error":
                return error
    return ClusterError(_LOST)


def _tell(name: str, line: str) -> None:
    with suppress(Exception):  # a line less is no reason to fail
        distributed.get_worker().log_event(_TOPIC, (name, line))


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


def dask_setup(worker: Any) -> None:
    """Prepare a worker of ours: dask calls this where it starts."""
    global _ready
    _ready = time.monotonic() + _SETTLING
    _silence()


def dask_teardown(worker: Any) -> None:
    """End a worker of ours that is asked to close, while dask takes it for its own.

    A task that it still runs would go on for seconds beside its next attempt.
    """
    os.kill(os.getpid(), signal.SIGKILL)


def _silence() -> None:
    """Hide dask's log: what matters reaches the user as the error of a task."""
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)


@contextmanager
def local_workers(n_workers: int) -> Iterator[Pool]:
    """Give spawned processes of one thread each, reached over loopback only.

    Spawned, not forked: torch and Numba hold threads, and a fork would copy their locks
    without the threads that release them. They end with this process, however it ends.
    """
    _silence()
    with dask.config.set(_OURS), _main_left_alone():
        # Started on first use, it would let Ctrl-C through in the thread that needs it.
        resource_tracker.ensure_running()
        with _interrupts_held():
            cluster = distributed.LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                host=_LOOPBACK,
                dashboard_address=f"{_LOOPBACK}:0",
                scheduler_kwargs={"dashboard": False, "allowed_failures": 1},
                memory_limit=0,
                preload=__name__,
                silence_logs=logging.CRITICAL,
            )
        # Replaces workers that dask gives up: those that die while they are started.
        keeper = PeriodicCallback(partial(cluster.scale, n_workers), 1000.0)
        cluster.loop.add_callback(keeper.start)
        try:
            with distributed.Client(cluster, set_as_default=False) as client:
                yield DaskPool(client)
        finally:
            cluster.loop.add_callback(keeper.stop)
            deadline = time.monotonic() + PATIENCE
            while _is_starting(cluster) and time.monotonic() < deadline:
                time.sleep(_LOOK)  # dask fails to close what is not up yet
            cluster.close()


def _is_starting(cluster: Any) -> bool:
    processes = [nanny.process for nanny in cluster.workers.values() if nanny.process]
    return any(process.status.name in ("init", "starting") for process in processes)


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
    """Hold back Ctrl-C; threads and processes that begin meanwhile never hear of it.

    It reaches the whole group of processes, and the parent decides: it stops the
    workers, which dask starts, and starts again, from a thread that begins here.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    with client:
        yield DaskPool(client)


def _address_in(file: Path, end: float) -> str:
    """Return the address in a scheduler file, which a job may yet have to write."""
    # dask opens it, and writes it when it closes it: until then it is empty.
    while not (file.exists() and file.stat().st_size) and time.monotonic() < end:
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
    elif not allowed and not _is_this_machine(host):
        raise ConfigurationError(
            f"scheduler: {address} is another machine and without TLS: whoever reaches "
            "it can run programs as you, and read what is sent. Use tls://, or "
            "--insecure in a network where you trust everyone"
        )


def _refuse_without_certificates(address: str) -> None:
    """Refuse TLS that dask has no certificates for; it would try until it times out."""
    problem = "there is no certificate"
    try:
        if distributed.Security().get_connection_args("client").get("ssl_context"):
            return
    except (OSError, TypeError, ValueError) as error:
        problem = str(error)
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
