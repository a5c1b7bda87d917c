"""Which directories may be written: the refused ones, and the siblings of the rest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from l63fast import _checks
from l63fast.errors import ArgumentValueError, ResultError

__all__ = [
    "LOCK",
    "OLD",
    "PARTIAL",
    "WRITING",
    "checked_target",
    "neighbours",
    "sibling",
]

WRITING: Final = "writing"
OLD: Final = "old"
PARTIAL: Final = "partial"
LOCK: Final = "l63fast-lock"

_SIBLINGS: Final = (WRITING, OLD, PARTIAL, LOCK)
_REPOSITORIES: Final = (".git", ".hg", ".svn")


def sibling(target: Path, kind: str) -> Path:
    """Return the path beside `target` that serves one purpose while it is written."""
    return target.parent / f".{target.name}.{kind}"


def neighbours(target: Path) -> list[Path]:
    """Return the other targets in the same parent that have a sibling left over."""
    found = set()
    try:
        names = os.listdir(target.parent)
    except OSError:  # a directory may be open for writing and not for listing
        return []
    for name in names:
        for kind in (WRITING, OLD, LOCK):
            owner = name.removeprefix(".").removesuffix(f".{kind}")
            if owner and name == f".{owner}.{kind}":
                found.add(target.parent / owner)
    return sorted(found - {target})


def checked_target(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a directory that a result may be written to.

    Links are followed in the parent only. Nothing is created.

    Raises
    ------
    ResultError
        If it is a root, the home or working directory or one above them, a mount point,
        the root of a repository, or a link.
    ArgumentValueError
        If the last part cannot be the name of a result.
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
