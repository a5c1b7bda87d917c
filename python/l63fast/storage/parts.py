"""Large files made one by one in a directory: whole or absent, each with its hash."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from l63fast.errors import DataFileError, ResultError
from l63fast.storage.files import (
    fsync_directory,
    hash_file,
    read_json,
    write_json,
    writing_errors,
)
from l63fast.storage.manifest import FileRecord

__all__ = [
    "adopt_part",
    "finished_part",
    "move_part",
    "publish_part",
    "require_space",
    "sweep_parts",
]

_TEMPORARY: Final = ".tmp"


def publish_part(
    directory: Path, name: str, write: Callable[[Path], None]
) -> FileRecord:
    """Write a file under a name of its own, then put it in place with its hash beside.

    Two processes may do it at once, with the same content: neither sees half a file.

    Parameters
    ----------
    directory : Path
    name : str
    write : callable
        Takes a path and writes the file there.
    """
    temporary = directory / f".{name}.{uuid4().hex}{_TEMPORARY}"
    try:
        write(temporary)
        record = FileRecord(*hash_file(temporary, sync=True))
        with writing_errors("put the file in place", directory / name):
            os.replace(temporary, directory / name)
            fsync_directory(directory)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _write_record(directory, name, record)
    return record


def finished_part(directory: Path, name: str) -> FileRecord | None:
    """Return the record of a finished file, None if it is not there or not finished.

    Raises
    ------
    DataFileError
        If it is there and is not what was written.
    """
    if not (directory / name).exists() or not _record_of(directory, name).exists():
        return None
    try:
        content = read_json(_record_of(directory, name))
        record = FileRecord(int(content["size"]), str(content["sha256"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataFileError(f"{directory / name}: its record is damaged") from error
    found = FileRecord(*hash_file(directory / name))
    if found != record:
        raise DataFileError(
            f"{name}: is damaged: expected sha256 {record.sha256}, got {found.sha256}"
        )
    return record


def adopt_part(source: Path, directory: Path, record: FileRecord) -> None:
    """Take over a file of a finished result, whose content has this record."""
    with writing_errors("take over a finished file", directory / source.name):
        _link(source, directory / source.name)
    _write_record(directory, source.name, record)


def move_part(directory: Path, name: str, target: Path) -> None:
    """Put a finished file into another directory; where links exist, it stays here."""
    with writing_errors("put a finished file in place", target / name):
        try:
            os.link(directory / name, target / name)
        except OSError:  # not every file system has links
            os.rename(directory / name, target / name)


def sweep_parts(directory: Path, names: Iterable[str]) -> None:
    """Remove what killed runs have left of these files half written."""
    beginnings = tuple(f".{name}." for name in names)
    for path in directory.iterdir():
        if path.name.startswith(beginnings) and path.name.endswith(_TEMPORARY):
            path.unlink(missing_ok=True)


def require_space(path: Path, n_bytes: int) -> None:
    """Refuse what the disk has no room for, before any work.

    Raises
    ------
    ResultError
        Naming the bytes needed and available.
    """
    place = path.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if n_bytes > free:
        raise ResultError(
            f"{path}: needs {n_bytes} bytes ({n_bytes / 2**30:.3g} GiB), the disk has "
            f"{free} bytes ({free / 2**30:.3g} GiB) left"
        )


def _link(source: Path, target: Path) -> None:
    # A part is never opened for writing again, so a second name for it is safe.
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _record_of(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


def _write_record(directory: Path, name: str, record: FileRecord) -> None:
    content = {"size": record.size, "sha256": record.sha256}
    write_json(_record_of(directory, name), content)
