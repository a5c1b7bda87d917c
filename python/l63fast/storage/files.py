"""Reading and writing single files: regular ones only, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from l63fast import _checks
from l63fast.errors import ArgumentTypeError, DataFileError, L63Error, ResultError

__all__ = [
    "fsync_directory",
    "hash_file",
    "kind_of",
    "open_regular",
    "parse_json",
    "read_file",
    "read_json",
    "reading_errors",
    "write_bytes",
    "write_json",
    "writing_errors",
]

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_BLOCK: Final = 2**20


def kind_of(mode: int) -> str | None:
    """Return what a file that is not a regular one is, or None if it is regular."""
    return next((name for test, name in _KINDS if test(mode)), None)


@contextmanager
def writing_errors(action: str, path: object) -> Iterator[None]:
    """Turn an error of the system while writing into a `ResultError` with its errno."""
    with _errors_as(ResultError, f"{path}: cannot {action}"):
        yield


@contextmanager
def reading_errors(path: object) -> Iterator[None]:
    """Turn an error of the system while reading into a `DataFileError`, with errno."""
    with _errors_as(DataFileError, f"{path}: cannot be read"):
        yield


@contextmanager
def _errors_as(kind: type[OSError], message: str) -> Iterator[None]:
    try:
        yield
    except L63Error:
        raise
    except OSError as error:
        refusal = kind(f"{message}: {error.strerror or error}")
        refusal.errno = error.errno
        raise refusal from error


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> BinaryIO:
    """Return a regular file opened for reading; anything else is refused at once.

    A FIFO or a device is recognised before it is opened, so nothing can block.
    """
    with reading_errors(path):
        if os.path.islink(path) and not os.path.exists(path):
            raise DataFileError(f"{path}: is a link to a file that is gone")
        _refuse_special(path, os.stat(path, follow_symlinks=follow).st_mode)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        flags |= 0 if follow else os.O_NOFOLLOW
        opened = os.fdopen(os.open(path, flags), "rb")
    try:
        _refuse_special(path, os.fstat(opened.fileno()).st_mode)
    except L63Error:
        opened.close()
        raise
    return opened


def _refuse_special(path: object, mode: int) -> None:
    kind = kind_of(mode)
    if kind is not None:
        raise DataFileError(f"{path}: expected a file, got {kind}")


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a regular file.

    Raises
    ------
    DataFileError
        If it is missing, unreadable, or a directory, FIFO, device or dangling link.
    """
    with open_regular(_checks.path("path", path)) as file, reading_errors(path):
        return file.read()


def hash_file(path: str | os.PathLike[str], *, sync: bool = False) -> tuple[int, str]:
    """Return size and sha256 of a regular file; with `sync`, force it to disk first."""
    digest, size = hashlib.sha256(), 0
    with open_regular(path, follow=False) as file, reading_errors(path):
        if sync:
            with writing_errors("force the file to disk", path):
                os.fsync(file.fileno())
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def fsync_directory(path: str | os.PathLike[str]) -> None:
    """Force the entries of a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as a whole: after a failure or a kill the old one is still there.

    Raises
    ------
    ResultError
        If the system refuses (disk full, read-only, quota); `errno` says why.
    """
    target = _checks.path("path", path)
    temporary = target.parent / f".{target.name}.tmp"
    with writing_errors("write the file", target):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        fsync_directory(target.parent)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON; NumPy arrays become lists, NaN and infinities "nan", "inf", "-inf".

    JSON has no NaN, yet a diverged score must not be lost: `float("inf")` reads it.
    """
    text = json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, (np.ndarray, np.generic)):
        return _plain(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    if content is None or isinstance(content, (bool, int, float, str)):
        return content
    if isinstance(content, Path):
        return str(content)
    raise ArgumentTypeError(
        f"content: expected JSON values, got {type(content).__name__}"
    )


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file, `DataFileError` if it is not one."""
    return parse_json(read_file(path), path)


def parse_json(data: bytes, path: object) -> Any:
    """Return the content of JSON bytes; `path` names them in the error."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: is not valid JSON: {error}") from error
