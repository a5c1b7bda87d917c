"""Tasks for the tests of workers, importable in one; a cluster of dask, an intruder."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import Any

import psutil

from l63fast.experiments.tasks import Done
from l63fast.storage import parse_json

CALM = 0.2


def pause(seconds: float) -> Done:
    """Sleep, and say in which process."""
    time.sleep(seconds)
    return Done(str(os.getpid()), seconds)


def die() -> Done:
    """End the process at once."""
    os._exit(3)


def touch_and_wait(folder: Path) -> Done:
    """Say that this process works, then wait until told to go on."""
    (folder / str(os.getpid())).touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
    return Done("went on", None)


def busy(folder: str) -> None:
    """Say in which process this runs, then compute for a minute."""
    Path(folder, str(os.getpid())).touch()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(range(10**5))


class NoTraveller(Exception):
    """An error that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = Lock()


def raise_no_traveller() -> None:
    """Raise an error that cannot be sent."""
    raise NoTraveller("of a lock")


@contextmanager
def dask_cluster(n_workers: int = 2) -> Iterator[Any]:
    """Give a cluster of dask on this machine, as a user would start one."""
    import distributed

    with distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"allowed_failures": 1},
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


def listening() -> list[Any]:
    """Return the sockets, of any kind, at which this process or a child waits."""
    here = psutil.Process()
    return [
        socket.laddr
        for process in (here, *here.children(recursive=True))
        for kind in ("inet", "unix")
        for socket in process.net_connections(kind)
        if socket.status == psutil.CONN_LISTEN or (kind == "unix" and socket.laddr)
    ]


_INTRUDER = """
import json, os, sys
import distributed, encodings.idna
doors = json.loads(sys.argv[1])
# The other user must be able to read the modules that a client imports later.
folder, readable = sys.prefix, True
while folder != "/":
    readable = readable and os.stat(folder).st_mode & 5 == 5
    folder = os.path.dirname(folder)
if os.getuid() == 0 and readable:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
ran = 0
for host, port in doors:
    try:
        with distributed.Client(f"{host}:{port}", timeout=2) as client:
            ran += client.submit(os.getuid).result(timeout=10) >= 0
    except Exception:
        continue
print(ran)
"""


def intrude(doors: list[Any]) -> int:
    """Return how many calls a client of dask ran there, as another user if it can."""
    doors = [tuple(door) for door in doors if isinstance(door, tuple)]
    words = [sys.executable, "-c", _INTRUDER, json.dumps(doors)]
    run = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    return int(run.stdout)


def kill_writers(
    root: Path,
    n_kills: int,
    *,
    seconds: float = 60.0,
    calm: float = CALM,
    stop: Event | None = None,
) -> list[int]:
    """Kill the processes that write results below a folder, one after the other.

    Who writes is in the lock beside the result. No process is killed twice, nor this
    one; between two kills is a moment, so that tasks get on.
    """
    killed: list[int] = []
    deadline = time.monotonic() + seconds
    while len(killed) < n_kills and time.monotonic() < deadline:
        if stop is not None and stop.is_set():
            break
        for lock in _locks(root):
            try:
                pid = parse_json(lock.read_bytes(), lock)["pid"]
            except (OSError, KeyError):
                continue
            if pid not in (os.getpid(), *killed) and len(killed) < n_kills:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(pid)
                time.sleep(calm)
                # A worker that always dies in its imports would prove nothing.
                n = _finished(root)
                while stop and not stop.is_set() and _finished(root) <= n:
                    time.sleep(0.02)
        time.sleep(0.002)
    return killed


def _finished(root: Path) -> int:
    return sum("manifest.json" in names for _, _, names in os.walk(root))


def _locks(root: Path) -> list[Path]:
    # Not by glob, which fails where a folder goes away under it.
    return [
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if name.startswith(".")
        and name.endswith(".l63fast-lock")
        # Who is killed three times is named: not the one who makes the data of all.
        and Path(folder).name != "data"
    ]
