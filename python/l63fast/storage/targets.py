"""Checks of the directory for a result, the names beside it, and its lock.

The lock is released when its owner ends, also by a kill. So there is one writer per
directory.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from l63fast import _checks
from l63fast.errors import (
    ArgumentValueError,
    DataFileError,
    LockedError,
    ResultError,
)
from l63fast.storage.files import BACKSLASH, writing_errors
from l63fast.storage.manifest import read_manifest

WRITING: Final = "writing"
OLD: Final = "old"
PARTIAL: Final = "partial"
LOCK: Final = "l63fast-lock"

_SIBLINGS: Final = (WRITING, OLD, PARTIAL, LOCK)
_LEFT: Final = re.compile(
    rf"\.(.+?)\.(?:(?:(\d+)\.)?({WRITING}|{OLD})|{LOCK})", re.DOTALL
)
_REPOSITORIES: Final = (".git", ".hg", ".svn")

PATIENCE: Final = 0.5  # seconds; another start may hold the lock while it cleans up
_PAUSE: Final = 0.01
_held: set[int] = set()


def sibling(target: Path, kind: str) -> Path:
    """Return the path beside `target` with a given use, such as "writing"."""
    return target.parent / f".{target.name}.{kind}"


def numbered(target: Path, kind: str, directory: Path) -> Path:
    """Return the sibling whose name says which directory it is, by its inode.

    A copy has another inode, and nobody gives a name with one: what fits was ours.
    """
    return sibling(target, f"{directory.lstat().st_ino}.{kind}")


def left_over(parent: Path) -> dict[Path, list[Path]]:
    """Return what killed runs may have left in a directory, by what they wrote."""
    found: dict[Path, list[Path]] = {}
    try:
        names = sorted(os.listdir(parent))
    except OSError:  # the directory may be writable but not readable
        return {}
    for name in names:
        if known := _LEFT.fullmatch(name):
            found.setdefault(parent / known[1], []).append(parent / name)
    return found


def is_leftover(path: Path, target: Path) -> bool:
    """Whether a directory bears its own inode in its name, or that of its target.

    The latter if it is the old result, swapped with the new one and not yet removed.
    """
    known = _LEFT.fullmatch(path.name)
    inodes = [p.lstat().st_ino for p in (path, target) if os.path.lexists(p)]
    of_ours = known is not None and known[2] and int(known[2]) in inodes
    return bool(of_ours) and path.is_dir() and not path.is_symlink()


def checked_target(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a directory that a result may be written to.

    Only links in the parent are followed. Nothing is created.

    Raises
    ------
    ResultError
        If it is a root, the home or the working directory or a parent of these, a mount
        point, the root of a repository, or a link.
    ArgumentValueError
        If the last part is not a valid name for a result.
    """
    given = _checks.path("path", path)
    if given.name in ("", ".."):
        raise ResultError(
            f"{str(path)!r}: expected a directory of its own for the result, "
            "not /, . or .."
        )
    name = _checks.file_name("path", given.name)
    if name.startswith(".") and name.endswith(tuple(f".{kind}" for kind in _SIBLINGS)):
        raise ArgumentValueError(
            f"path: expected no name of the form .<name>.{'|'.join(_SIBLINGS)} (they "
            f"are used while a result is written), got {name!r}"
        )
    try:
        target = given.parent.resolve() / name
        reason = _danger(target)
    except (OSError, RuntimeError) as error:
        raise ResultError(f"{path}: cannot be used as a path: {error}") from error
    if reason is not None:
        raise ResultError(
            f"{path}: is {reason}; expected a directory of its own for the result"
        )
    return target


def _danger(target: Path) -> str | None:
    home, here = Path.home().resolve(), Path.cwd()
    if "\\" in str(target):
        return f"no such path: {BACKSLASH}"
    for parent in target.parents:
        with suppress(DataFileError):
            read_manifest(parent)
            return f"inside the result {parent}"
    if target == home or target in home.parents:
        return "the home directory or one above it"
    if target == here or target in here.parents:
        return "the working directory or one above it"
    if target.is_symlink():
        return f"a link to {os.readlink(target)}"
    if os.path.ismount(target):
        return "a mount point"
    if any(os.path.lexists(target / name) for name in _REPOSITORIES):
        return "the root of a repository"
    return None


def _close_in_child() -> None:
    # Otherwise a forked worker that survives its killed parent would keep the lock.
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
        Longest time to wait for a lock that is held by another process (seconds).

    Raises
    ------
    LockedError
        If another process (or thread) holds the lock.
    ResultError
        If the lock cannot be made, or a file that is no lock has its name.
    """
    path = sibling(target, LOCK)
    with writing_errors("lock the directory", target):
        descriptor = _acquire(path, target, time.monotonic() + patience)
    _held.add(descriptor)
    try:
        yield
    finally:
        # Removed before it is released; a process that waits then makes a new file (see
        # `_is_at`).
        _held.discard(descriptor)
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, target: Path, deadline: float) -> int:
    while True:
        # O_NOFOLLOW refuses a link in place of the lock; O_NONBLOCK never waits on a
        # FIFO.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags, 0o644)
        except PermissionError:
            _refuse_lock_of_another(path, target)
            raise
        try:
            _refuse_foreign(descriptor, path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous owner may have removed the file between our open and our
            # lock.
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
    """Return the owner in a lock: {} if empty, None if it is no lock of l63fast."""
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
        raise ResultError(f"{path}: expected a lock of l63fast, got another file")


def _refuse_lock_of_another(path: Path, target: Path) -> None:
    """Say whose a lock is that may be read and not be written, if one is there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        _refuse_foreign(descriptor, path)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        raise LockedError(
            f"{path}: was left by user {os.fstat(descriptor).st_uid}, whose run has "
            "ended: let them delete it, or choose another folder"
        )
    except BlockingIOError:
        raise _held_by_another(descriptor, target) from None
    finally:
        os.close(descriptor)


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
