"""The manifest of a result directory: what it holds, and whether it still does."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from l63fast import _checks
from l63fast.errors import ArgumentValueError, DataFileError
from l63fast.storage.files import (
    hash_file,
    open_regular,
    parse_json,
    reading_errors,
)
from l63fast.storage.tree import listed, parents, scan

__all__ = [
    "MANIFEST",
    "FileRecord",
    "Manifest",
    "make_manifest",
    "read_bytes",
    "read_manifest",
    "strangers",
    "verify_directory",
    "verify_file",
]

MANIFEST: Final = "manifest.json"
SCHEMA: Final = 1
_LONGEST: Final = 255  # bytes of one name, on every common file system
_SHA256: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and sha256 (hexadecimal) of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a result directory by name, and the kind of result it is.

    Attributes
    ----------
    kind : str
        What the directory holds, such as "result" or "twin".
    files : mapping of str to FileRecord
        Relative names with "/" between parts.
    """

    kind: str
    files: Mapping[str, FileRecord]

    def to_bytes(self) -> bytes:
        """Return the one form in which this manifest is written."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": self.kind,
            "files": {
                name: {"size": record.size, "sha256": record.sha256}
                for name, record in sorted(self.files.items())
            },
        }
        content["sha256"] = hashlib.sha256(_canonical(content)).hexdigest()
        return _canonical(content)

    @classmethod
    def from_bytes(cls, data: bytes, path: object) -> Manifest:
        """Return the manifest; a byte other than the written form is refused."""
        content = parse_json(data, path)
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != SCHEMA:
            raise DataFileError(f"{path}: expected schema {SCHEMA}, got {schema!r}")
        try:
            files = {
                name: FileRecord(int(record["size"]), str(record["sha256"]))
                for name, record in content["files"].items()
            }
            manifest = cls(str(content["kind"]), files)
        except (
            *(KeyError, TypeError, ValueError, AttributeError),
            OverflowError,  # a size of Infinity, which Python's JSON reads
        ) as error:
            raise DataFileError(f"{path}: is not a manifest of l63fast") from error
        if manifest.to_bytes() != data:
            raise DataFileError(f"{path}: is damaged: it does not match its own sha256")
        for name, record in files.items():
            if not _is_plain(name) or not _SHA256.fullmatch(record.sha256):
                raise DataFileError(f"{path}: lists {name!r}, which no result holds")
        for name in sorted(parents(files) & set(files)):
            raise DataFileError(f"{path}: lists {name!r} as a file and as a folder")
        return manifest


def _canonical(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _is_plain(name: str) -> bool:
    """Whether a name stays inside its directory and can be that of a file at all."""
    try:
        for part in name.split("/"):
            _checks.file_name("name", part, longest=_LONGEST)
    except ArgumentValueError:
        return False
    return name != MANIFEST


def read_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """Return the manifest of a directory, itself verified; no other file is read."""
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
    with open_regular(path, follow=False) as file, reading_errors(path):
        return Manifest.from_bytes(file.read(), path)


def strangers(directory: Path, manifest: Manifest) -> list[str]:
    """Return what lies in the directory without being listed in the manifest."""
    files, directories, others = scan(directory)
    unknown = files - set(manifest.files) - {MANIFEST}
    unknown |= {f"{name}/" for name in directories - parents(manifest.files)}
    unknown |= {f"{name} ({kind})" for name, kind in others.items()}
    return sorted(unknown)


def make_manifest(directory: Path, kind: str, *, ignore: str) -> Manifest:
    """Return the manifest of what the directory holds now, each file forced to disk."""
    files, _, others = scan(directory)
    if others:
        raise DataFileError(
            f"{directory}: expected files and directories only, got "
            + listed([f"{name} ({what})" for name, what in sorted(others.items())])
        )
    records = {
        name: FileRecord(*hash_file(directory / name, sync=True))
        for name in sorted(files - {MANIFEST, ignore})
    }
    return Manifest(kind, records)


def verify_file(
    directory: Path, name: str, manifest: Manifest, *, size_only: bool = False
) -> None:
    """Refuse a file that is missing, truncated or, unless `size_only`, changed."""
    record, path = _record(directory, name, manifest), directory / name
    if size_only:
        with open_regular(path, follow=False) as file:
            size = os.fstat(file.fileno()).st_size
        _compare(path, record, size, record.sha256)
        return
    _compare(path, record, *hash_file(path))


def _record(directory: Path, name: str, manifest: Manifest) -> FileRecord:
    if name not in manifest.files:
        raise DataFileError(f"{directory}: its manifest lists no file {name!r}")
    return manifest.files[name]


def _compare(path: Path, record: FileRecord, size: int, sha256: str) -> None:
    if size != record.size:
        raise DataFileError(
            f"{path}: is damaged: expected {record.size} bytes, got {size}; "
            "make it again or take a good copy"
        )
    if sha256 != record.sha256:
        raise DataFileError(
            f"{path}: is damaged: expected sha256 {record.sha256}, got {sha256}; "
            "make it again or take a good copy"
        )


def verify_directory(path: str | os.PathLike[str]) -> Manifest:
    """Return the manifest of a directory that holds exactly what it lists.

    Raises
    ------
    DataFileError
        Naming the file that is missing, truncated, changed, or not listed.
    """
    directory = _checks.path("path", path)
    manifest = read_manifest(directory)
    extra = strangers(directory, manifest)
    if extra:
        raise DataFileError(
            f"{directory}: holds what it does not list: {listed(extra)}"
        )
    for name in manifest.files:
        verify_file(directory, name, manifest)
    return manifest


def read_bytes(directory: str | os.PathLike[str], name: str) -> bytes:
    """Return the bytes of a file of a result directory, checked against its manifest.

    The bytes that are returned are the very bytes that were checked.

    Raises
    ------
    DataFileError
        If the manifest does not list the file, or the file is not what it lists.
    """
    folder = _checks.path("directory", directory)
    record = _record(folder, name, read_manifest(folder))
    path = folder / name
    with open_regular(path, follow=False) as file, reading_errors(path):
        data = file.read()
    _compare(path, record, len(data), hashlib.sha256(data).hexdigest())
    return data
