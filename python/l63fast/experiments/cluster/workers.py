"""Workers of dask clusters, our own or another's: started, reached, ended."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Final

import dask
import distributed
from distributed.comm.addressing import parse_address, parse_host_port

from l63fast.errors import ClusterError, ConfigurationError, DataFileError
from l63fast.experiments.cluster.pool import PATIENCE, DaskPool, start_tasks_after
from l63fast.experiments.tasks import Pool, Scheduler
from l63fast.storage import read_json

__all__ = ["dask_setup", "local_workers", "workers_of"]

_SETTLING: Final = 0.5  # seconds
_LOOPBACK: Final = "127.0.0.1"
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
    with dask.config.set(_OURS), _main_left_alone():
        # Started on first use, it would let Ctrl-C through in the thread that needs it.
        resource_tracker.ensure_running()
        with _interrupts_held():
            cluster = _local_cluster(n_workers)
        ended = threading.Event()
        keeper = threading.Thread(target=_keep, args=(cluster, n_workers, ended))
        keeper.start()
        try:
            with DaskPool(distributed.Client(cluster, set_as_default=False)) as pool:
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


def _keep(cluster: Any, n_workers: int, ended: threading.Event) -> None:
    """Replace workers that dask gives up: those that die while they are started."""
    while not ended.wait(1.0):
        cluster.scale(n_workers)


def dask_setup(worker: Any) -> None:
    """Prepare a worker of ours: dask calls this where it starts."""
    start_tasks_after(_SETTLING)
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
    with DaskPool(client) as pool:
        yield pool


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
