"""Checks of paths and file names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from l63fast._checks.scalars import shown
from l63fast.errors import ArgumentTypeError, ArgumentValueError


def path(name: str, value: Any) -> Path:
    """Return a path, `~` expanded; refuse an empty one and control characters."""
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise ArgumentTypeError(
            f"{name}: expected a path, got {shown(value)} ({type(value).__name__})"
        )
    text = os.fspath(value)
    if not text.strip() or any(ord(character) < 32 for character in text):
        raise ArgumentValueError(
            f"{name}: expected a path without control characters, got {shown(text)}"
        )
    if not _can_be_stored(text):
        raise ArgumentValueError(
            f"{name}: expected a path of UTF-8 characters, got {text!a}"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ArgumentValueError(
            f"{name}: expected a path of a known user, got {shown(text)}"
        ) from None


def _can_be_stored(text: str) -> bool:
    """Whether a name is UTF-8: netCDF, JSON and a terminal take no other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def file_name(name: str, value: Any, *, longest: int = 200) -> str:
    """Return `value` if it can name one file: no separator, not `.` or `..`."""
    if not isinstance(value, str):
        raise ArgumentTypeError(
            f"{name}: expected a name, got {shown(value)} ({type(value).__name__})"
        )
    plain = value.strip() and "/" not in value and value not in (".", "..")
    plain = plain and _can_be_stored(value)
    if not plain or any(ord(character) < 32 for character in value):
        raise ArgumentValueError(
            f"{name}: expected one name without '/' or control characters, "
            f"got {shown(value)}"
        )
    size = len(os.fsencode(value))
    if size > longest:
        raise ArgumentValueError(
            f"{name}: expected at most {longest} bytes, got {size}: {shown(value)}"
        )
    return value
