"""Is there enough memory for it: checked before any work is started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from l63fast.errors import MemoryLimitError

# Asking takes a quarter of a millisecond, in which this much is nearly filled.
_NOT_WORTH_ASKING: Final = 2**24

# Root, limit, usage and, in memory.stat, the file cache that can be dropped.
_CGROUP_V1: Final = (
    "/sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)
_CGROUP_V2: Final = ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def available_memory() -> int:
    """Return the bytes this process may still take: the machine's or the cgroup's."""
    limits = [_available_in_machine(), *_available_in_cgroup()]
    return min(limits)


def _available_in_machine() -> int:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))


def _available_in_cgroup() -> list[int]:
    """Return what each group above this process leaves, its file cache counted as free.

    A batch system limits the job's own group, a container the one it sees as the root.
    """
    found = []
    for line in _lines("/proc/self/cgroup") or ["0::/"]:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, limit, usage, cache = _CGROUP_V2
        elif "memory" in controllers.split(","):
            root, limit, usage, cache = _CGROUP_V1
        else:
            continue
        while True:
            folder = root + group.rstrip("/")
            at_most, used = _number(f"{folder}/{limit}"), _number(f"{folder}/{usage}")
            if at_most is not None and used is not None:
                free = at_most - used + _entry(f"{folder}/memory.stat", cache)
                found.append(max(free, 0))
            if group in ("/", ""):
                break
            group = group.rpartition("/")[0]
    return found


def _number(path: str) -> int | None:
    """Return the number that a file holds; no number means no limit."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _entry(path: str, key: str) -> int:
    """Return one entry of memory.stat, 0 where it is absent."""
    entries = (line.split() for line in _lines(path))
    return next((int(value) for name, value in entries if name == key), 0)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def memory(name: str, n_bytes: int) -> None:
    """Refuse a request for more memory than is available, before any work."""
    if n_bytes < _NOT_WORTH_ASKING:
        return
    free = available_memory()
    if n_bytes > free:
        raise MemoryLimitError(
            f"{name}: needs {n_bytes} bytes ({n_bytes / 2**30:.3g} GiB), "
            f"available {free} bytes ({free / 2**30:.3g} GiB); ask for less at a time"
        )
