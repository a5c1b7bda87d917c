"""Manifests: the list of files in a result directory, with sizes and hashes.

Parts are large files that are made one by one, before the directory has a manifest;
each has its own record in a JSON file beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from l63fast import _checks
from l63fast.errors import (
    ArgumentValueError,
    DataFileError,
    L63Error,
    ResultError,
)
from l63fast.storage.files import (
    LARGEST_TEXT,
    FileRecord,
    content_errors,
    contents,
    hash_file,
    kind_of,
    open_regular,
    parse_json,
    read_json,
    reading_errors,
    replacing,
    write_json,
    writing_errors,
)

T = TypeVar("T")

MANIFEST: Final = "manifest.json"
SCHEMA: Final = 1
_LONGEST: Final = 255  # bytes of a file name on common file systems
_SHA256: Final = re.compile("[0-9a-f]{64}")
_SHOWN: Final = 10
_PATIENCE: Final = 10.0  # seconds of reading a directory again that is replaced


@dataclass(frozen=True)
class Manifest:
    """The kind of a result, and its files by name.

    Attributes
    ----------
    kind : str
        Kind of the result, such as "result" or "twin".
    files : mapping of str to FileRecord
        Relative names with "/" between parts.
    """

    kind: str
    files: Mapping[str, FileRecord]

    def to_bytes(self) -> bytes:
        """Return the bytes of the manifest; equal manifests have equal bytes."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": self.kind,
            "files": {name: asdict(self.files[name]) for name in sorted(self.files)},
        }
        content["sha256"] = hashlib.sha256(_canonical(content)).hexdigest()
        return _canonical(content)

    @classmethod
    def from_bytes(cls, data: bytes, path: object) -> Manifest:
        """Return the manifest; bytes other than those of `to_bytes` are refused."""
        content = parse_json(data, path)
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != SCHEMA:
            raise DataFileError(f"{path}: expected schema {SCHEMA}, got {schema!r}")
        with content_errors(path):
            files = {
                name: FileRecord.from_dict(record)
                for name, record in content["files"].items()
            }
            manifest = cls(str(content["kind"]), files)
        # The manifest holds its own hash, so that every changed byte is found.
        if manifest.to_bytes() != data:
            raise DataFileError(f"{path}: is damaged: it does not match its own sha256")
        for name, record in files.items():
            if not _is_plain(name) or not _SHA256.fullmatch(record.sha256):
                raise DataFileError(
                    f"{path}: lists {name!r}, which is not a valid name"
                )
        for name in sorted(parents(files) & set(files)):
            raise DataFileError(f"{path}: lists {name!r} as a file and as a folder")
        return manifest


def _canonical(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _is_plain(name: str) -> bool:
    """Whether a name is a valid file name inside the directory."""
    try:
        for part in name.split("/"):
            _checks.file_name("name", part, longest=_LONGEST)
    except ArgumentValueError:
        return False
    return name != MANIFEST


def read_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """Return the verified manifest of a directory; no other file is read."""
    directory = _checks.path("directory", directory)
    if not directory.is_dir():
        kind = "is not a directory" if os.path.lexists(directory) else "does not exist"
        raise DataFileError(
            f"{directory}: {kind}; expected a folder that l63fast wrote"
        )
    path = directory / MANIFEST
    if not os.path.lexists(path):
        raise DataFileError(
            f"{directory}: has no {MANIFEST}; expected a folder that l63fast wrote"
        )
    with open_regular(path, follow=False) as file:
        data = contents(file, path, most=LARGEST_TEXT)
    return Manifest.from_bytes(data, path)


def read_unchanged(
    directory: Path, read: Callable[[], T], manifest: Manifest | None = None
) -> T:
    """Return what `read` reads of a directory, all of it of one result.

    A writer replaces the directory as a whole, at any moment: what was read, or could
    not be read, while that happened is read again.

    Parameters
    ----------
    directory : Path
    read : callable
    manifest : Manifest, optional
        Of the result that is meant, if it was opened before.

    Raises
    ------
    DataFileError
        If another result has taken its place since, or does all the time.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        failure, before = None, _identity(directory)
        try:
            if manifest is not None and read_manifest(directory) != manifest:
                raise DataFileError(
                    f"{directory}: holds another result than when it was opened: open "
                    "it again"
                )
            found = read()
        except (L63Error, OSError) as error:
            failure = error
        if _identity(directory) == before:
            if failure is not None:
                raise failure
            return found
        if time.monotonic() > end:
            raise DataFileError(f"{directory}: is replaced faster than it can be read")


def _identity(directory: Path) -> tuple[int, ...]:
    """Return what no two manifests that were written share."""
    try:
        found = os.stat(directory / MANIFEST)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def unlisted(directory: Path, manifest: Manifest) -> list[str]:
    """Return the entries of a directory that its manifest does not list."""
    files, directories, others = scan(directory)
    unknown = files - set(manifest.files) - {MANIFEST}
    unknown |= {f"{name}/" for name in directories - parents(manifest.files)}
    unknown |= {f"{name} ({kind})" for name, kind in others.items()}
    return sorted(unknown)


def make_manifest(directory: Path, kind: str, *, ignore: str) -> Manifest:
    """Return the manifest of a directory's present files; all are written to disk."""
    files, _, others = scan(directory)
    if others:
        raise DataFileError(
            f"{directory}: expected files and directories only, got "
            + listed([f"{name} ({what})" for name, what in sorted(others.items())])
        )
    records = {
        name: hash_file(directory / name, sync=True)
        for name in sorted(files - {MANIFEST, ignore})
    }
    return Manifest(kind, records)


def verify_file(
    directory: Path, name: str, manifest: Manifest, *, size_only: bool = False
) -> None:
    """Refuse a file that is missing, truncated or, unless `size_only`, changed."""
    record = _record(directory, name, manifest)
    _verify(directory / name, record, size_only=size_only)


def _verify(path: Path, record: FileRecord, *, size_only: bool = False) -> None:
    with open_regular(path, follow=False) as file:
        _compare_size(path, record, file)
    if not size_only:
        _compare(path, record, hash_file(path))


def _record(directory: Path, name: str, manifest: Manifest) -> FileRecord:
    if name not in manifest.files:
        raise DataFileError(f"{directory}: its manifest lists no file {name!r}")
    return manifest.files[name]


def _compare_size(path: Path, expected: FileRecord, file: BinaryIO) -> None:
    """Refuse a file of another size: it is not read to find that out."""
    size = os.fstat(file.fileno()).st_size
    _compare(path, expected, FileRecord(size, expected.sha256))


def _compare(path: Path, expected: FileRecord, got: FileRecord) -> None:
    if got == expected:
        return
    difference = f"sha256 {expected.sha256}, got {got.sha256}"
    if got.size != expected.size:
        difference = f"{expected.size} bytes, got {got.size}"
    raise DataFileError(
        f"{path}: is damaged: expected {difference}; make it again or take a good copy"
    )


def verify_directory(path: str | os.PathLike[str]) -> Manifest:
    """Return the manifest of a directory that holds exactly the listed files.

    Raises
    ------
    DataFileError
        If a file is missing, truncated, changed or not listed; the message names it.
    """
    return read_directory(path)[0]


def read_directory(
    path: str | os.PathLike[str], *names: str
) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest of a directory, and the bytes of some files that it lists.

    The directory holds exactly what it lists; all of it is of one result.

    Raises
    ------
    DataFileError
        As in `verify_directory`.
    """
    directory = _checks.path("path", path)

    def read() -> tuple[Manifest, dict[str, bytes]]:
        manifest, content = read_manifest(directory), {}
        extra = unlisted(directory, manifest)
        if extra:
            raise DataFileError(
                f"{directory}: holds files that its manifest does not list: "
                f"{listed(extra)}"
            )
        for name in manifest.files:
            if name in names:
                content[name] = _checked_bytes(directory, name, manifest)
            else:
                verify_file(directory, name, manifest)
        return manifest, content

    return read_unchanged(directory, read)


def read_bytes(directory: str | os.PathLike[str], name: str) -> bytes:
    """Return the bytes of a file in a result directory, checked against its manifest.

    The returned bytes are the checked bytes; the file is read only once.

    Raises
    ------
    DataFileError
        If the manifest does not list the file, or the file differs from its record.
    """
    folder = _checks.path("directory", directory)
    return read_unchanged(
        folder, lambda: _checked_bytes(folder, name, read_manifest(folder))
    )


def _checked_bytes(directory: Path, name: str, manifest: Manifest) -> bytes:
    record, path = _record(directory, name, manifest), directory / name
    with open_regular(path, follow=False) as file:
        _compare_size(path, record, file)
        data = contents(file, path)
    _compare(path, record, FileRecord(len(data), hashlib.sha256(data).hexdigest()))
    return data


def scan(directory: Path) -> tuple[set[str], set[str], dict[str, str]]:
    """Return files, directories and other entries below a directory.

    Links are not followed.

    Returns
    -------
    files, directories : set of str
        Relative names.
    others : dict
        Relative name and kind of each link, FIFO, socket or device.
    """
    files: set[str] = set()
    directories: set[str] = set()
    others: dict[str, str] = {}
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with reading_errors(directory), os.scandir(directory / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    directories.add(name)
                    waiting.append(name + "/")
                elif entry.is_file(follow_symlinks=False):
                    files.add(name)
                else:
                    mode = entry.stat(follow_symlinks=False).st_mode
                    others[name] = kind_of(mode) or "unknown"
    return files, directories, others


def parents(names: Iterable[str]) -> set[str]:
    """Return the names of all directories that contain the named files."""
    return {
        "/".join(parts[:depth])
        for parts in (name.split("/") for name in names)
        for depth in range(1, len(parts))
    }


def listed(names: list[str]) -> str:
    """Return names as text for a message; only the first few are shown."""
    shown = ", ".join(ascii(name) for name in names[:_SHOWN])
    left = len(names) - _SHOWN
    return f"{shown} and {left} more" if left > 0 else shown


def publish_part(
    directory: Path, name: str, write: Callable[[Path], None]
) -> FileRecord:
    """Write a part under a temporary name, rename it, and write its record beside it.

    Two processes may write the same content at once; neither sees half a file.

    Parameters
    ----------
    directory : Path
    name : str
    write : callable
        Takes a path and writes the file there.
    """
    with replacing(directory / name, action="put the file in place") as temporary:
        write(temporary)
        record = hash_file(temporary)
    _write_record(directory, name, record)
    return record


def finished_part(directory: Path, name: str) -> FileRecord | None:
    """Return the record of a finished part, or None if it is missing or unfinished.

    Raises
    ------
    DataFileError
        If the part differs from its record.
    """
    if not (directory / name).exists() or not _record_of(directory, name).exists():
        return None
    with content_errors(_record_of(directory, name)):
        record = FileRecord.from_dict(read_json(_record_of(directory, name)))
    _verify(directory / name, record)
    return record


def adopt_part(source: Path, directory: Path, record: FileRecord) -> None:
    """Link or copy a part of a finished result, whose record is given."""
    target = directory / source.name
    with writing_errors("take over a finished file", target):
        target.unlink(missing_ok=True)
        try:  # a link is safe, since parts are never written again
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    _write_record(directory, source.name, record)


def move_part(directory: Path, name: str, target: Path) -> None:
    """Put a finished part into another directory; where links exist, it also stays."""
    with writing_errors("put a finished file in place", target / name):
        try:
            os.link(directory / name, target / name)
        except OSError:  # not every file system has links
            os.rename(directory / name, target / name)


def sweep_parts(directory: Path, names: Iterable[str]) -> None:
    """Remove the temporary files that killed runs left of these parts."""
    beginnings = tuple(f".{name}." for name in names)
    for path in directory.iterdir():
        if path.name.startswith(beginnings) and path.name.endswith(".tmp"):
            path.unlink(missing_ok=True)


def require_space(path: Path, n_bytes: int) -> None:
    """Refuse to write more bytes than the disk has free, before any work is done.

    Raises
    ------
    ResultError
        If there is not enough space; the message gives both numbers of bytes.
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


def _record_of(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


def _write_record(directory: Path, name: str, record: FileRecord) -> None:
    write_json(_record_of(directory, name), asdict(record))
