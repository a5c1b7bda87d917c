"""Result directories that are written by one process and replaced in one step.

A result is written to a temporary directory beside its target, whose name then becomes
the target's. So a reader finds the complete old result or the complete new one, and a
killed process leaves only temporary directories, which the next writer removes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from l63fast import _checks
from l63fast.errors import DataFileError, L63Error, L63Warning, ResultError
from l63fast.storage.files import fsync_directory, writing_errors
from l63fast.storage.manifest import (
    MANIFEST,
    listed,
    make_manifest,
    parents,
    read_manifest,
    scan,
    unlisted,
    verify_directory,
    verify_file,
)
from l63fast.storage.targets import (
    LOCK,
    OLD,
    PARTIAL,
    WRITING,
    checked_target,
    is_leftover,
    left_over,
    locked,
    numbered,
    sibling,
)

UNFINISHED: Final = ".l63fast-unfinished"
_NOTE: Final = b"l63fast was writing here and has not finished. This may be deleted.\n"
_BEGUN: Final = f"0.{WRITING}"
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = (
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EXDEV,
)


@contextmanager
def result_directory(
    path: str | os.PathLike[str], *, replace: bool = True, kind: str = "result"
) -> Iterator[Path]:
    """Yield an empty directory to fill; on success it replaces `path` in one step.

    After an exception, a kill or a full disk the old directory at `path` is unchanged.

    Parameters
    ----------
    path : path
        Directory of the result: missing, empty, or an old result of this kind.
    replace : bool
        Whether an old result may be replaced.
    kind : str
        Kind of the result; a result of another kind is never replaced.

    Yields
    ------
    Path of a temporary directory beside `path`

    Raises
    ------
    ResultError
        If `path` is dangerous, holds files that l63fast did not write (they are named
        and not changed), or is not writable.
    LockedError
        If another process is writing to it.
    """
    target = checked_target(path)
    kind = _checks.file_name("kind", kind)
    with _prepared(target):
        _refuse_old(target, replace=replace, kind=kind)
        with _filled(target, kind) as working:
            yield working
        partial = sibling(target, PARTIAL)
        if is_unfinished(partial):
            _tidy(partial)


@contextmanager
def update_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a verified copy of the result at `path`, which replaces it on success.

    Files are copied, not hard-linked: writing to a linked file would change the old
    result too.

    Raises
    ------
    DataFileError
        If the old result is missing or damaged.
    ResultError, LockedError
        As in `result_directory`.
    """
    target = checked_target(path)
    read_manifest(target)  # before anything is created
    with _prepared(target):
        manifest = verify_directory(target)
        with _filled(target, manifest.kind) as working:
            for name in manifest.files:
                with writing_errors("copy the old result", target):
                    (working / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(target / name, working / name)
                verify_file(working, name, manifest)
            yield working


def partial_directory(path: str | os.PathLike[str], *, resume: bool = False) -> Path:
    """Return the directory beside `path` with the files that `resume` needs.

    Must be called inside `result_directory`, which holds the lock and removes the
    directory after success. Without `resume` an existing one is deleted first.
    """
    target = checked_target(path)
    partial = sibling(target, PARTIAL)
    with writing_errors("prepare the working directory", partial):
        if os.path.lexists(partial) and not is_unfinished(partial):
            refuse_unlisted(partial)
            partial.rmdir()
        if not resume:
            _discard(partial)
        if not partial.exists():
            partial.mkdir(parents=True)
            _mark(partial)
    return partial


@contextmanager
def _prepared(target: Path) -> Iterator[None]:
    """Hold the lock of a target, and remove what killed runs have left beside it."""
    with writing_errors("make the parent directory", target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target):
        with writing_errors("sweep the leftovers of a killed run", target):
            for stranger in _sweep(target):
                warnings.warn(
                    f"{stranger}: is left alone: it bears the name of a leftover of "
                    "l63fast and is none",
                    L63Warning,
                    stacklevel=2,
                )
        for other in left_over(target.parent):  # not those in use or of others
            with suppress(L63Error, OSError):
                if other != target:
                    with locked(other, patience=0):
                        _sweep(other)
        yield


def _sweep(target: Path) -> list[Path]:
    """Remove what killed runs have left; return what only bears such a name."""
    strangers = []
    # A kill between the two renames of `publish` leaves the old result set aside: it is
    # put back before what would have replaced it is removed.
    for path in sorted(left_over(target.parent).get(target, []), key=_is_old)[::-1]:
        if path == sibling(target, LOCK):
            continue
        if path == sibling(target, _BEGUN):  # killed before it got its name
            with suppress(OSError):
                path.rmdir()
        elif not is_leftover(path, target):
            strangers.append(path)
        elif _is_old(path) and not os.path.lexists(target) and _is_complete(path):
            os.rename(path, target)
        else:
            remove(path)
    return strangers


def _is_old(path: Path) -> bool:
    return path.suffix == f".{OLD}"


def _is_complete(directory: Path) -> bool:
    try:
        verify_directory(directory)
    except DataFileError:
        return False
    return True


def _refuse_old(target: Path, *, replace: bool, kind: str) -> None:
    if not os.path.lexists(target):
        return
    old = refuse_unlisted(target)
    if old is not None and not replace:
        raise ResultError(f"{target}: exists already")
    if old not in (None, kind):
        raise ResultError(
            f"{target}: holds a result of kind {old!r}, which a result of kind "
            f"{kind!r} does not replace"
        )


@contextmanager
def _filled(target: Path, kind: str) -> Iterator[Path]:
    with writing_errors("start a result", target):
        first = sibling(target, _BEGUN)
        first.mkdir()
        working = numbered(target, WRITING, first)
        os.rename(first, working)
        _mark(working)
    try:
        yield working
        with writing_errors("finish the result", target):
            _finish(working, kind)
            if os.path.lexists(target):
                refuse_unlisted(target)
            publish(working, target)
    except BaseException:
        with suppress(L63Error, OSError):
            remove(working)
        raise


def _finish(working: Path, kind: str) -> None:
    (working / MANIFEST).unlink(missing_ok=True)
    manifest = make_manifest(working, kind, ignore=UNFINISHED)
    _, directories, _ = scan(working)
    for name in sorted(directories - parents(manifest.files), key=len, reverse=True):
        (working / name).rmdir()
    # Files are on disk already, then directories, last the manifest. So after a power
    # cut no manifest lists a file that was not written.
    for name in parents(manifest.files):
        fsync_directory(working / name)
    with open(working / MANIFEST, "wb") as file:
        file.write(manifest.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    # Only now: without a manifest the mark shows that the directory is unfinished.
    (working / UNFINISHED).unlink(missing_ok=True)
    fsync_directory(working)


def _discard(directory: Path) -> None:
    if os.path.lexists(directory):
        with writing_errors("remove the working directory", directory):
            remove(directory)


def _tidy(directory: Path) -> None:
    """Remove what a result that is in place has no more need of, or say why not."""
    try:
        remove(directory)
    except (L63Error, OSError) as error:
        said = (
            f"{directory}: cannot be removed now: {error}; the next start tries again"
        )
        warnings.warn(said, L63Warning, stacklevel=2)


def _mark(directory: Path) -> None:
    """Mark a directory as an unfinished result of l63fast."""
    (directory / UNFINISHED).write_bytes(_NOTE)


def is_unfinished(directory: Path) -> bool:
    """Whether a directory is marked as an unfinished result."""
    return not directory.is_symlink() and (directory / UNFINISHED).is_file()


def exchange(first: Path, second: Path) -> bool:
    """Exchange two directories in one step; return False where this is not possible."""
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
    """Move the finished directory `working` to `target`, then remove the old one.

    Where the file system cannot exchange directories, the old one is renamed for an
    instant; if the process is killed just then, the next writer restores it.
    """
    if not os.path.lexists(target) or not os.listdir(target):
        os.rename(working, target)
        fsync_directory(target.parent)
        return
    # In one step: there is a complete result at `target` at every instant.
    if exchange(working, target):
        fsync_directory(target.parent)
        _tidy(working)
        return
    aside = numbered(target, OLD, target)
    os.rename(target, aside)
    try:
        os.rename(working, target)
    except BaseException:
        os.rename(aside, target)
        raise
    fsync_directory(target.parent)
    _tidy(aside)


def refuse_unlisted(directory: Path) -> str | None:
    """Return the kind of the result in a directory, or None if it is empty.

    Raises
    ------
    ResultError
        If it is not a directory, has no manifest of l63fast, or holds other files. They
        are named, and nothing is changed.
    """
    if directory.is_symlink() or not directory.is_dir():
        raise ResultError(f"{directory}: expected a directory, got a file or a link")
    files, directories, others = scan(directory)
    if not files and not directories and not others:
        return None
    try:
        manifest = read_manifest(directory)
    except DataFileError as error:
        held = sorted(files | {f"{name}/" for name in directories} | set(others))
        refusal = ResultError(
            f"{directory}: is not a result of l63fast and is left unchanged ({error}); "
            f"it holds {listed(held)}; move it away or choose another folder"
        )
        refusal.errno = error.errno
        raise refusal from error
    unknown = unlisted(directory, manifest)
    if unknown:
        raise ResultError(
            f"{directory}: holds files that l63fast did not write and is left "
            f"unchanged: {listed(unknown)}; move it away or choose another folder"
        )
    return manifest.kind


def remove(directory: Path) -> None:
    """Remove an unfinished result, or the files that a manifest lists.

    The mark or the manifest is removed last, so that a killed removal can be repeated.
    """
    if is_unfinished(directory):
        for entry in sorted(directory.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != UNFINISHED:
                entry.unlink()
        (directory / UNFINISHED).unlink()
    elif refuse_unlisted(directory) is not None:
        _remove_listed(directory)
    directory.rmdir()
    with suppress(OSError):  # if the removal is lost, it is repeated
        fsync_directory(directory.parent)


def _remove_listed(directory: Path) -> None:
    names = read_manifest(directory).files
    for name in names:
        (directory / name).unlink(missing_ok=True)
    for name in sorted(parents(names), key=len, reverse=True):
        with suppress(FileNotFoundError):
            (directory / name).rmdir()
    (directory / MANIFEST).unlink()
