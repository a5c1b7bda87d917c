"""What several test processes need is made by the first of them that asks."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all the processes of one `pytest -n` have in common."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(folder: Path, make: Callable[[Path], Made]) -> Made:
    """Return what `make` gives for an empty folder; the others wait and get the same.

    Where it fails it is kept by nobody: each process sees the failure for itself.
    """
    folder.mkdir(exist_ok=True)
    kept = folder / "made"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            work = Path(folder, f"work-{os.getpid()}")
            work.mkdir(exist_ok=True)  # a second try after a failure
            kept.write_bytes(pickle.dumps(make(work)))
        made: Made = pickle.loads(kept.read_bytes())
    return made
