"""What lies below a directory, links never followed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from l63fast.storage.files import kind_of, reading_errors

__all__ = ["listed", "parents", "scan"]

_SHOWN: Final = 10


def scan(directory: Path) -> tuple[set[str], set[str], dict[str, str]]:
    """Return the files, the directories and what else lies below; links not followed.

    Returns
    -------
    files, directories : set of str
        Relative names.
    others : dict
        Relative name of each link, FIFO, socket or device, and which of these it is.
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
    """Return every directory that the named files need."""
    return {
        "/".join(parts[:depth])
        for parts in (name.split("/") for name in names)
        for depth in range(1, len(parts))
    }


def listed(names: list[str]) -> str:
    """Return the names for a message, the first few of them in full."""
    shown = ", ".join(ascii(name) for name in names[:_SHOWN])
    left = len(names) - _SHOWN
    return f"{shown} and {left} more" if left > 0 else shown
