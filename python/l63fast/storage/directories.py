"""Result directories: complete old or complete new, one writer, nothing left over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from l63fast import _checks
from l63fast.errors import DataFileError, L63Error, ResultError
from l63fast.storage.atomic import (
    UNFINISHED,
    begin,
    is_unfinished,
    publish,
    refuse_strangers,
    remove,
)
from l63fast.storage.files import fsync_directory, writing_errors
from l63fast.storage.lock import locked
from l63fast.storage.manifest import (
    MANIFEST,
    make_manifest,
    read_manifest,
    verify_directory,
    verify_file,
)
from l63fast.storage.paths import (
    OLD,
    PARTIAL,
    WRITING,
    checked_target,
    neighbours,
    sibling,
)
from l63fast.storage.tree import parents, scan

__all__ = ["partial_directory", "result_directory", "update_directory"]


@contextmanager
def result_directory(
    path: str | os.PathLike[str], *, replace: bool = True, kind: str = "result"
) -> Iterator[Path]:
    """Give an empty directory to fill; on a clean exit it becomes `path` in one step.

    On an exception, a kill or a full disk the old directory at `path` is as it was.

    Parameters
    ----------
    path : path
        Where the result will be: absent, empty, or a result of this kind.
    replace : bool
        Whether an old result may be replaced.
    kind : str
        What the directory holds; a result of another kind is never replaced.

    Yields
    ------
    Path of a temporary directory beside `path`

    Raises
    ------
    ResultError
        If `path` is dangerous, holds strangers (named, untouched), or is not writable.
    LockedError
        If another process is writing it.
    """
    target = checked_target(path)
    kind = _checks.file_name("kind", kind)
    with _prepared(target):
        _refuse_old(target, replace=replace, kind=kind)
        with _filled(target, kind) as working:
            yield working
        _discard(sibling(target, PARTIAL))


@contextmanager
def update_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a verified copy of the result at `path` to add to; at the end it is `path`.

    Copies, not hard links: a file opened for writing would change the old result too.

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
    """Return the directory beside `path` that a killed run leaves for `resume`.

    Call it inside `result_directory`, whose lock guards it and which removes it after
    a success. Without `resume` an earlier one is discarded.
    """
    target = checked_target(path)
    partial = sibling(target, PARTIAL)
    with writing_errors("prepare the working directory", partial):
        if os.path.lexists(partial) and not is_unfinished(partial):
            refuse_strangers(partial)
            partial.rmdir()
        if not resume:
            _discard(partial)
        if not partial.exists():
            partial.parent.mkdir(parents=True, exist_ok=True)
            begin(partial)
    return partial


@contextmanager
def _prepared(target: Path) -> Iterator[None]:
    """Hold the lock, with every leftover of killed runs beside the target removed."""
    with writing_errors("make the parent directory", target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target):
        with writing_errors("sweep the leftovers of a killed run", target):
            _sweep(target)
        for other in neighbours(target):  # in use or not ours: left alone
            with suppress(L63Error, OSError), locked(other, patience=0):
                _sweep(other)
        yield


def _sweep(target: Path) -> None:
    aside = sibling(target, OLD)
    if os.path.lexists(aside):
        if os.path.lexists(target) or not _is_complete(aside):
            remove(aside)
        else:
            os.rename(aside, target)
    working = sibling(target, WRITING)
    if os.path.lexists(working):
        remove(working)


def _is_complete(directory: Path) -> bool:
    try:
        verify_directory(directory)
    except DataFileError:
        return False
    return True


def _refuse_old(target: Path, *, replace: bool, kind: str) -> None:
    if not os.path.lexists(target):
        return
    old = refuse_strangers(target)
    if old is not None and not replace:
        raise ResultError(f"{target}: exists already")
    if old not in (None, kind):
        raise ResultError(
            f"{target}: holds a result of kind {old!r} and is not replaced by one of "
            f"kind {kind!r}"
        )


@contextmanager
def _filled(target: Path, kind: str) -> Iterator[Path]:
    working = sibling(target, WRITING)
    with writing_errors("start a result", target):
        begin(working)
    try:
        yield working
        with writing_errors("finish the result", target):
            _finish(working, kind)
            if os.path.lexists(target):
                refuse_strangers(target)
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
    for name in parents(manifest.files):
        fsync_directory(working / name)
    with open(working / MANIFEST, "wb") as file:
        file.write(manifest.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    # Only now: until the manifest vouches for the directory, the mark has to.
    (working / UNFINISHED).unlink(missing_ok=True)
    fsync_directory(working)


def _discard(directory: Path) -> None:
    if os.path.lexists(directory):
        with writing_errors("remove the working directory", directory):
            remove(directory)
