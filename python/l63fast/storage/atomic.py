"""Putting a finished directory in its place, and removing what is ours to remove."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from l63fast.errors import DataFileError, ResultError
from l63fast.storage.files import fsync_directory
from l63fast.storage.manifest import MANIFEST, read_manifest, strangers
from l63fast.storage.paths import OLD, sibling
from l63fast.storage.tree import listed, parents, scan

__all__ = [
    "UNFINISHED",
    "begin",
    "exchange",
    "is_unfinished",
    "publish",
    "refuse_strangers",
    "remove",
]

UNFINISHED: Final = ".l63fast-unfinished"
_NOTE: Final = b"l63fast was writing here and has not finished. This may be deleted.\n"
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = (
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EXDEV,
)


def begin(directory: Path) -> None:
    """Make a directory and mark it as unfinished and ours."""
    directory.mkdir()
    (directory / UNFINISHED).write_bytes(_NOTE)


def is_unfinished(directory: Path) -> bool:
    """Whether a directory carries the mark of one that we began."""
    return not directory.is_symlink() and (directory / UNFINISHED).is_file()


def exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step; False where the file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    old, new = os.fsencode(first), os.fsencode(second)
    if rename(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(second))


def publish(working: Path, target: Path) -> None:
    """Put the finished directory `working` at `target`, then remove what was there.

    Where the file system cannot swap, the old one is set aside for an instant; if the
    process is killed just then, the next start puts it back.
    """
    if not os.path.lexists(target) or not os.listdir(target):
        os.rename(working, target)
        fsync_directory(target.parent)
        return
    if exchange(working, target):
        fsync_directory(target.parent)
        remove(working)
        return
    aside = sibling(target, OLD)
    os.rename(target, aside)
    try:
        os.rename(working, target)
    except BaseException:
        os.rename(aside, target)
        raise
    fsync_directory(target.parent)
    remove(aside)


def refuse_strangers(directory: Path) -> str | None:
    """Return the kind of result in a directory that is ours, None if it is empty.

    Raises
    ------
    ResultError
        If it is not a directory, has no manifest of ours, or holds other things: they
        are named and nothing is touched.
    """
    if directory.is_symlink() or not directory.is_dir():
        raise ResultError(f"{directory}: is in the way and is not a directory")
    files, directories, others = scan(directory)
    if not files and not directories and not others:
        return None
    try:
        manifest = read_manifest(directory)
    except DataFileError as error:
        held = sorted(files | {f"{name}/" for name in directories} | set(others))
        refusal = ResultError(
            f"{directory}: is not a result of l63fast and stays untouched ({error}); "
            f"it holds {listed(held)}; move it away or choose another folder"
        )
        refusal.errno = error.errno
        raise refusal from error
    unknown = strangers(directory, manifest)
    if unknown:
        raise ResultError(
            f"{directory}: holds what l63fast did not make and stays untouched: "
            f"{listed(unknown)}; move it away or choose another folder"
        )
    return manifest.kind


def remove(directory: Path) -> None:
    """Remove a directory of ours: one marked unfinished, or what its manifest lists.

    The mark or the manifest goes last, so that a killed removal can be taken up again.
    """
    if is_unfinished(directory):
        _remove_all_but(directory, UNFINISHED)
        (directory / UNFINISHED).unlink()
    elif refuse_strangers(directory) is not None:
        _remove_listed(directory)
    directory.rmdir()
    with suppress(OSError):  # a removal that is lost is done again
        fsync_directory(directory.parent)


def _remove_all_but(directory: Path, last: str) -> None:
    for entry in sorted(directory.iterdir()):
        if entry.name == last:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove_listed(directory: Path) -> None:
    names = read_manifest(directory).files
    for name in names:
        (directory / name).unlink(missing_ok=True)
    for name in sorted(parents(names), key=len, reverse=True):
        with suppress(FileNotFoundError):
            (directory / name).rmdir()
    (directory / MANIFEST).unlink()
