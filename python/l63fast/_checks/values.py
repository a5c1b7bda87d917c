"""Checks of single values: numbers, choices, paths, and the memory needed."""

from __future__ import annotations

import math
import numbers
import os
import resource
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, Union

import numpy as np

from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    MemoryLimitError,
    printable,
)

# In quotes, so that `import l63fast` does not import numpy.random, which is slow.
Seed = Union[int, "np.random.SeedSequence", "np.random.Generator"]
MAX_THREADS: Final = 256
MAX_TIME_STEP: Final = 0.1
LARGE_TIME_STEP: Final = 0.05
# Requests below this size (bytes) are not checked: asking the system takes a quarter of
# a millisecond, as long as filling that much memory.
_ALWAYS_ALLOWED: Final = 2**24

# Folder, file of the limit, file of the usage, and the entry of memory.stat for the
# file cache, which the system can free.
_CGROUP_V1: Final = (
    "/sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)
_CGROUP_V2: Final = ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4300 digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def count(name: str, value: Any, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
    """Return `value` as an int within [minimum, maximum]."""
    # The exact type first: a check by abstract classes takes longer than a small
    # kernel.
    if type(value) is not int and (
        isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral)
    ):
        raise ArgumentTypeError(
            f"{name}: expected an integer, got {shown(value)} ({type(value).__name__})"
        )
    number = int(value)
    if not minimum <= number <= maximum:
        limit = f"at least {minimum}" if number < minimum else f"at most {maximum}"
        raise ArgumentValueError(f"{name}: expected {limit}, got {shown(number)}")
    return number


def seed(name: str, value: Any) -> int:
    """Return `value` as a seed: a non-negative integer.

    A SeedSequence gives the same seed each time; a Generator draws a new one.
    """
    if isinstance(value, np.random.SeedSequence):
        return int(value.generate_state(1, np.uint64)[0]) >> 1
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**63))
    return count(name, value)


def real(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return `value` as a finite float within the bounds (`above` is exclusive)."""
    if type(value) is not float and (
        isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real)
    ):
        raise ArgumentTypeError(
            f"{name}: expected a real number, got {shown(value)} "
            f"({type(value).__name__})"
        )
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction beyond the largest float
        number = math.inf
    wanted = None
    if not math.isfinite(number):
        wanted = "a finite number"
    elif minimum is not None and number < minimum:
        wanted = f"at least {minimum:g}"
    elif above is not None and number <= above:
        wanted = f"a number above {above:g}"
    elif maximum is not None and number > maximum:
        wanted = f"at most {maximum:g}"
    if wanted is not None:
        raise ArgumentValueError(f"{name}: expected {wanted}, got {number!r}")
    return number


def boolean(name: str, value: Any) -> bool:
    """Return `value` as a bool; only bools are accepted."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"{name}: expected True or False, got {shown(value)}")
    return bool(value)


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return `value` if it is one of the allowed names."""
    if type(value) is str and value in allowed:
        return value
    names = list(allowed)
    if not isinstance(value, str):
        raise ArgumentTypeError(
            f"{name}: expected one of {', '.join(names)}, got {shown(value)} "
            f"({type(value).__name__})"
        )
    if value not in names:
        raise ArgumentValueError(
            f"{name}: expected one of {', '.join(names)}, got {value!r}"
        )
    return value


def generator(name: str, value: Any) -> np.random.Generator:
    """Return a NumPy generator: `value` itself, or one made from a seed."""
    if isinstance(value, np.random.Generator):
        return value
    if isinstance(value, np.random.SeedSequence):
        return np.random.default_rng(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(
            f"{name}: expected a numpy.random.Generator or a seed, got {shown(value)}"
        )
    return np.random.default_rng(seed(name, value))


def instance(name: str, value: Any, kind: type) -> None:
    """Refuse a value that is not of this class."""
    if not isinstance(value, kind):
        raise ArgumentTypeError(
            f"{name}: expected {kind.__name__}, got {type(value).__name__}"
        )


def usable_cores() -> int:
    """Return how many cores this process may use; macOS does not say, and has all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads(name: str, value: Any) -> int:
    """Return a number of threads; `None` means every core that this process may use."""
    if value is None:
        return usable_cores()
    return min(count(name, value, minimum=1), MAX_THREADS)


def time_step(name: str, value: Any, *, allow_large: bool) -> tuple[float, bool]:
    """Return the time step, and whether it is large enough for a warning.

    From dt = 0.12 on RK4 takes Lorenz-63 to a fixed point while every number stays
    finite: nothing in the state shows that the result is wrong.
    """
    dt = real(name, value, above=0.0)
    if dt > MAX_TIME_STEP and not allow_large:
        raise ArgumentValueError(
            f"{name}: expected at most {MAX_TIME_STEP:g} (RK4 is wrong beyond it, even "
            f"where it stays finite; allow_large_dt=True overrides), got {dt!r}"
        )
    return dt, dt > LARGE_TIME_STEP


def path(name: str, value: Any) -> Path:
    """Return a path with `~` expanded; refuse empty paths and control characters."""
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
        known = sys.getfilesystemencoding()
        more = "" if known == "utf-8" else f" (paths are {known} here: PYTHONUTF8=1?)"
        raise ArgumentValueError(
            f"{name}: expected a path of UTF-8 characters, got {text!a}{more}"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ArgumentValueError(
            f"{name}: expected a path of a known user, got {shown(text)}"
        ) from None


def _can_be_stored(text: str) -> bool:
    """Whether a name is UTF-8, as netCDF, JSON and terminals require."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def file_name(name: str, value: Any, *, longest: int = 200) -> str:
    """Return `value` if it is the name of one file: no separator, not `.` or `..`."""
    if not isinstance(value, str):
        raise ArgumentTypeError(
            f"{name}: expected a name, got {shown(value)} ({type(value).__name__})"
        )
    plain = value.strip() and not {*"/\\"} & {*value} and value not in (".", "..")
    plain = plain and _can_be_stored(value)
    if not plain or any(c in "\n\t" or printable(c) != c for c in value):
        raise ArgumentValueError(
            f"{name}: expected one name without '/', '\\' or control characters, "
            f"got {shown(value)}"
        )
    size = len(os.fsencode(value))
    if size > longest:
        raise ArgumentValueError(
            f"{name}: expected at most {longest} bytes, got {size}: {shown(value)}"
        )
    return value


def memory(name: str, n_bytes: int) -> None:
    """Refuse a request for more memory than is available, before any work is done."""
    if n_bytes < _ALWAYS_ALLOWED:
        return
    free = available_memory()
    if n_bytes > free:
        raise MemoryLimitError(
            f"{name}: needs {n_bytes} bytes ({n_bytes / 2**30:.3g} GiB), "
            f"available {free} bytes ({free / 2**30:.3g} GiB); ask for less at a time"
        )


def available_memory() -> int:
    """Return the bytes that machine, cgroup and `ulimit` let this process take."""
    machine = _available_in_machine()
    return min(machine, _available_addresses(machine), *_available_in_cgroup())


def _available_addresses(most: int) -> int:
    """Return what `ulimit -v` leaves, `most` where it is not set."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _lines("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not used:
        return most
    return max(limit - int(used[0].split()[0]) * resource.getpagesize(), 0)


def _available_in_machine() -> int:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))


def _available_in_cgroup() -> list[int]:
    """Return the bytes that each control group above this process leaves to it.

    The file cache of a group counts as free. A batch system limits the group of the
    job, a container the group that it sees as the root.
    """
    free_bytes = []
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
                free_bytes.append(max(free, 0))
            if group in ("/", ""):
                break
            group = group.rpartition("/")[0]
    return free_bytes


def _number(path: str) -> int | None:
    """Return the number in a file, None where it holds no number (no limit)."""
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
