"""Tasks for the tests of clusters, importable in a worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Event

import distributed

from l63fast.experiments.tasks import Done, Pool
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


def callbacks_of_this_worker() -> list[str]:
    """Return the names of what the worker that runs this does at intervals."""
    return list(distributed.get_worker().periodic_callbacks)


def address_of(pool: Pool) -> str:
    """Return the address of the scheduler behind a pool of local workers."""
    return str(pool._client.scheduler.address)  # type: ignore[attr-defined]


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
        if name.startswith(".") and name.endswith(".l63fast-lock")
    ]
