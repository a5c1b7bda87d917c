"""Is there enough memory for it: checked before any work is started."""

from __future__ import annotations

import os
from pathlib import Path

from l63fast.errors import MemoryLimitError


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
    pairs = (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    )
    found = []
    for limit_file, usage_file in pairs:
        limit, usage = _lines(limit_file), _lines(usage_file)
        if limit and usage and limit[0].isdigit() and usage[0].isdigit():
            found.append(max(int(limit[0]) - int(usage[0]), 0))
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def memory(name: str, n_bytes: int) -> None:
    """Refuse a request for more memory than is available, before any work."""
    if n_bytes < 2**20:
        return
    free = available_memory()
    if n_bytes > free:
        raise MemoryLimitError(
            f"{name}: needs {n_bytes} bytes ({n_bytes / 2**30:.3g} GiB), "
            f"available {free} bytes ({free / 2**30:.3g} GiB)"
        )
