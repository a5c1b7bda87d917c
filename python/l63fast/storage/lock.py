"""One writer per result directory: a file lock that dies with its owner."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from l63fast.errors import LockedError, ResultError
from l63fast.storage.files import writing_errors
from l63fast.storage.paths import LOCK, sibling

__all__ = ["PATIENCE", "locked"]

PATIENCE: Final = 0.5  # seconds; a start next door may hold the lock while it sweeps
_PAUSE: Final = 0.01
_held: set[int] = set()


def _close_in_child() -> None:
    # A forked worker that outlives its killed parent would keep the lock.
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def locked(target: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a result directory.

    Parameters
    ----------
    target : Path
    patience : float
        Seconds after which to give up on a lock that another holds.

    Raises
    ------
    LockedError
        If another process (or thread) holds it.
    ResultError
        If the lock cannot be made, or its name is taken by a file that is not ours.
    """
    path = sibling(target, LOCK)
    with writing_errors("lock the directory", target):
        descriptor = _acquire(path, target, time.monotonic() + patience)
    _held.add(descriptor)
    try:
        yield
    finally:
        _held.discard(descriptor)
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, target: Path, deadline: float) -> int:
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o644)
        try:
            _refuse_foreign(descriptor, path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The former owner may have removed the file between our open and our lock.
            if _is_at(path, descriptor):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                error = _held_by_another(descriptor, target)
                os.close(descriptor)
                raise error from None
            time.sleep(_PAUSE)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)


def _signature(descriptor: int) -> dict[str, Any] | None:
    """Return who signed the lock: {} if nobody yet, None if it is no lock of ours."""
    data = os.pread(descriptor, 4096, 0)
    if not data:
        return {}
    try:
        content = json.loads(data)
    except ValueError:
        return None
    ours = isinstance(content, dict) and set(content) == {"pid", "since"}
    return content if ours else None


def _refuse_foreign(descriptor: int, path: Path) -> None:
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if not regular or _signature(descriptor) is None:
        raise ResultError(f"{path}: is in the way and is not a lock of l63fast")


def _held_by_another(descriptor: int, target: Path) -> LockedError:
    owner = _signature(descriptor) or {}
    pid, since = owner.get("pid"), owner.get("since")
    error = LockedError(
        f"{target}: is being written by process {pid or '(unknown)'} "
        f"since {since or '(unknown)'}; wait until it ends or choose another folder",
        pid,
        since,
    )
    error.errno = errno.EWOULDBLOCK
    return error
