"""Workers of a dask cluster that runs already: only this file imports dask."""

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

PATIENCE: Final = 6.0  # seconds until a scheduler that does not answer is given up
FILE_PATIENCE: Final = 120.0  # seconds until its file, which a job has yet to write, is
REMINDER: Final = 30.0  # seconds between two lines about what is waited for
_LOOK: Final = 0.02  # seconds between looks at what has ended
_TOPIC: Final = "l63fast"
_LOST: Final = "the cluster was stopped, or lost, before it ended"


class DaskPool:
    """Hands tasks to dask; a task that costs its worker is tried again, then named.

    Dask suspects every task that a worker held when it died. One that is suspected too
    often is tried once more when all others have ended: alone, it cannot be blamed for
    the deeds of another.
    """

    def __init__(self, client: Any, say: Say) -> None:
        self._client = client
        self._say = say
        client.subscribe_topic(_TOPIC, lambda event: say(*event[1]))

    @property
    def n_workers(self) -> int:
        """Processes that are there now; each runs one task at a time."""
        with suppress(Exception):  # the scheduler may be gone, and this is a number
            return len(self._client.nthreads())
        return 1

    @staticmethod
    def tell(name: str, line: str) -> None:
        """Send a line about a task to whoever started the run."""
        with suppress(Exception):  # a line less is no reason to fail
            distributed.get_worker().log_event(_TOPIC, (name, line))

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
        waiting = _Waiting(self._say, "no worker of the cluster is there yet")
        while sent and self._client.status != "closed":
            if not ended.has_ready():
                time.sleep(_LOOK)
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


class _Waiting:
    """Says now and then what is waited for, so that nobody takes it for a hang."""

    def __init__(self, say: Say, why: str) -> None:
        self._say, self._why = say, why
        self._start = self._last = time.monotonic()

    @property
    def is_long(self) -> bool:
        """Whether it is time to say so."""
        return time.monotonic() >= self._last + REMINDER

    def remind(self) -> None:
        """Say what is waited for, and for how long."""
        self._last = time.monotonic()
        self._say("cluster", f"{self._why} ({self._last - self._start:.0f} s)")


_turn = threading.Lock()


def _in_turn(call: Callable[[], T]) -> T:
    """Run a task while no other runs in this process.

    Workers may have several threads, and torch's random state, its number of
    threads and its exports belong to the process.
    """
    with _turn:
        return call()


def _silence() -> None:
    """Hide dask's log: what matters reaches the user as the error of a task."""
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)


@contextmanager
def workers_of(scheduler: Scheduler, say: Say) -> Iterator[Pool]:
    """Give the workers of a scheduler that runs already; TLS as dask is configured.

    Raises
    ------
    ConfigurationError
        If it is on another machine and without TLS, and that is not allowed.
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
    """Return the address in a scheduler file, which a job may yet have to write."""
    end = time.monotonic() + FILE_PATIENCE
    waiting = _Waiting(say, f"no scheduler has written {file} yet")
    # dask opens it, and writes it when it closes it: until then it is empty.
    while not (file.exists() and file.stat().st_size) and time.monotonic() < end:
        time.sleep(0.1)
        if waiting.is_long:
            waiting.remind()
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
