"""Workers of a running dask cluster; only this file imports dask."""

from __future__ import annotations

import logging
import socket
import threading
import time
from asyncio import CancelledError as AsyncCancelledError
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

import distributed
from distributed.comm.addressing import parse_address, parse_host_port

from l63fast.errors import ClusterError, ConfigurationError, DataFileError
from l63fast.experiments.workers import DIED
from l63fast.storage import read_json

if TYPE_CHECKING:
    from l63fast.experiments.tasks import Outcomes, Pool, Say, Scheduler, Tasks

T = TypeVar("T")

PATIENCE: Final = 6.0  # seconds to wait for an answer of the scheduler
FILE_PATIENCE: Final = 120.0  # seconds to wait until a job has written its file
REMINDER: Final = 30.0  # seconds between two messages about waiting
_POLL: Final = 0.02  # seconds between two checks for finished tasks
_TOPIC: Final = "l63fast"
_LOST: Final = "the cluster was stopped or lost before the task ended"


class DaskPool:
    """A pool that submits tasks to dask.

    When a worker dies, dask counts this against every task that the worker held. A task
    with too many counts is tried once more when all others have ended, because another
    task may have killed the workers. If it fails again, it was this task.
    """

    def __init__(self, client: Any, say: Say) -> None:
        self._client = client
        self._say = say
        client.subscribe_topic(_TOPIC, lambda event: say(*event[1]))

    @property
    def n_workers(self) -> int:
        """Number of connected worker processes; each runs one task at a time."""
        with suppress(Exception):  # the scheduler may be lost; 1 is good enough then
            return len(self._client.nthreads())
        return 1

    @staticmethod
    def tell(name: str, line: str) -> None:
        """Send a line about a task to the process that started the run."""
        with suppress(Exception):  # a task must not fail for a lost message
            distributed.get_worker().log_event(_TOPIC, (name, line))

    def run(self, tasks: Tasks) -> Outcomes:
        """Yield each task when it ends: its result, its error, or a ClusterError."""
        ended = distributed.as_completed(loop=self._client.loop)
        sent: dict[str, str] = {}  # names of tasks by the keys of dask
        suspects: list[str] = []
        alone: str | None = None

        def send(name: str) -> None:
            key = f"l63fast-{uuid4().hex}"  # equal keys would be one task for dask
            sent[key] = name
            ended.add(self._client.submit(_exclusive, tasks[name], key=key))

        for name in tasks:
            send(name)
        waiting = _Waiting(self._say, "the cluster has no worker yet")
        while sent and self._client.status != "closed":
            if not ended.has_ready():
                time.sleep(_POLL)
                if waiting.is_long and self.n_workers == 0:
                    waiting.remind()
                continue
            future = next(ended)
            name, outcome = sent.pop(future.key), _outcome(future)
            if not isinstance(outcome, distributed.KilledWorker):
                yield name, outcome
            elif name == alone:
                yield name, ClusterError(DIED)
            else:
                suspects.append(name)
            if suspects and not sent:
                alone = suspects.pop(0)
                send(alone)
        for name in (*sent.values(), *suspects):  # a closed client gets no results
            yield name, ClusterError(_LOST)


def _outcome(future: Any) -> Any:
    """Return the result or the error of a dask task that has ended.

    If the result has just been lost with its worker, dask makes it again. This waits
    for it while the client is connected, since a closed client never answers.
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


class _Waiting:
    """Messages about waiting, so that the user does not think that the run hangs."""

    def __init__(self, say: Say, why: str) -> None:
        self._say, self._why = say, why
        self._start = self._last = time.monotonic()

    @property
    def is_long(self) -> bool:
        """Whether it is time for the next message."""
        return time.monotonic() >= self._last + REMINDER

    def remind(self) -> None:
        """Say why the run waits, and since when."""
        self._last = time.monotonic()
        self._say("cluster", f"{self._why} ({self._last - self._start:.0f} s)")


_task_lock = threading.Lock()


def _exclusive(call: Callable[[], T]) -> T:
    """Run a task while no other task runs in this process.

    Workers may have several threads, and torch's random state, its number of
    threads and its exports belong to the process.
    """
    with _task_lock:
        return call()


def _silence() -> None:
    """Hide dask's log: the user sees its errors as the errors of tasks."""
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)


@contextmanager
def workers_of(scheduler: Scheduler, say: Say) -> Iterator[Pool]:
    """Return a context with the workers of a running scheduler.

    TLS is used as dask is configured.

    Raises
    ------
    ConfigurationError
        If the scheduler is on another machine without TLS, and this is not allowed.
    ClusterError
        If it does not answer.
    """
    _silence()
    address = scheduler.address or _address_in(Path(str(scheduler.file)), say)
    _refuse_open(address, allowed=scheduler.insecure)
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # of dask, tornado, ssl or the system
        text = " ".join(str(error).split()) or type(error).__name__
        raise ClusterError(f"{address}: no dask scheduler answers: {text}") from error
    with client:
        yield DaskPool(client, say)


def _address_in(file: Path, say: Say) -> str:
    """Return the address in a scheduler file; wait until a job has written it."""
    end = time.monotonic() + FILE_PATIENCE
    waiting = _Waiting(say, f"no scheduler has written {file} yet")
    # The file exists before dask has written the address: it is empty at first.
    while not (file.exists() and file.stat().st_size) and time.monotonic() < end:
        time.sleep(0.1)
        if waiting.is_long:
            waiting.remind()
    try:
        return str(read_json(file)["address"])
    except (KeyError, TypeError) as error:
        raise DataFileError(
            f"{file}: expected a scheduler file of dask, got one without an address"
        ) from error


def _refuse_open(address: str, *, allowed: bool) -> None:
    """Raise an error for a scheduler that everyone on the network can use."""
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
            f"scheduler: expected TLS on another machine, got {address} without TLS: "
            "everyone who reaches it can run programs as you and read what is sent. "
            "Use tls://, or --insecure in a network where you trust everyone"
        )


def _refuse_without_certificates(address: str) -> None:
    """Raise an error for TLS without certificates, which dask would try in vain."""
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
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ip_address(one.partition("%")[0]).is_loopback for one in addresses)
