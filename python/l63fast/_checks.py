"""The only argument validation: argument, what was expected, what came."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from l63fast.errors import ArgumentTypeError, ArgumentValueError, MemoryLimitError

__all__ = [
    "array",
    "available_memory",
    "batch",
    "boolean",
    "choice",
    "count",
    "covariance",
    "file_name",
    "finite",
    "float_dtype",
    "generator",
    "instance",
    "memory",
    "output",
    "path",
    "real",
    "seed",
    "states",
    "threads",
    "time_step",
    "vectors",
]

FLOATS: Final = (np.dtype(np.float64), np.dtype(np.float32))
MAX_THREADS: Final = 256
MAX_TIME_STEP: Final = 0.1
LARGE_TIME_STEP: Final = 0.05


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def count(name: str, value: Any, *, minimum: int = 0, maximum: int = 2**62) -> int:
    """Return `value` as an int within [minimum, maximum]."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(
            f"{name}: expected an integer, got {_shown(value)} ({type(value).__name__})"
        )
    number = int(value)
    if not minimum <= number <= maximum:
        limit = f"at least {minimum}" if number < minimum else f"at most {maximum}"
        raise ArgumentValueError(f"{name}: expected {limit}, got {number}")
    return number


def seed(name: str, value: Any) -> int:
    """Return `value` as a seed: a non-negative integer."""
    return count(name, value, minimum=0, maximum=2**63 - 1)


def real(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return `value` as a finite float within the bounds (`above` is exclusive)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise ArgumentTypeError(
            f"{name}: expected a real number, got {_shown(value)} "
            f"({type(value).__name__})"
        )
    number = float(value)
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
    """Return `value` as a bool; nothing else is taken for one."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"{name}: expected True or False, got {_shown(value)}")
    return bool(value)


def choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of the allowed names."""
    names = list(allowed)
    if not isinstance(value, str):
        raise ArgumentTypeError(
            f"{name}: expected one of {', '.join(names)}, got {_shown(value)} "
            f"({type(value).__name__})"
        )
    if value not in names:
        raise ArgumentValueError(
            f"{name}: expected one of {', '.join(names)}, got {value!r}"
        )
    return value


def path(name: str, value: Any) -> Path:
    """Return a path, `~` expanded; refuse an empty one and control characters."""
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise ArgumentTypeError(
            f"{name}: expected a path, got {_shown(value)} ({type(value).__name__})"
        )
    text = os.fspath(value)
    if not text.strip() or any(ord(character) < 32 for character in text):
        raise ArgumentValueError(
            f"{name}: expected a path without control characters, got {_shown(text)}"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ArgumentValueError(
            f"{name}: expected a path of a known user, got {_shown(text)}"
        ) from None


def file_name(name: str, value: Any, *, longest: int = 200) -> str:
    """Return `value` if it can name one file: no separator, not `.` or `..`."""
    if not isinstance(value, str):
        raise ArgumentTypeError(
            f"{name}: expected a name, got {_shown(value)} ({type(value).__name__})"
        )
    plain = value.strip() and "/" not in value and value not in (".", "..")
    if not plain or any(ord(character) < 32 for character in value):
        raise ArgumentValueError(
            f"{name}: expected one name without '/' or control characters, "
            f"got {_shown(value)}"
        )
    size = len(os.fsencode(value))
    if size > longest:
        raise ArgumentValueError(
            f"{name}: expected at most {longest} bytes, got {size}: {_shown(value)}"
        )
    return value


def generator(name: str, value: Any) -> np.random.Generator:
    """Return a NumPy generator, made from `value` where that is a seed."""
    if isinstance(value, np.random.Generator):
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(
            f"{name}: expected a numpy.random.Generator or a seed, got {_shown(value)}"
        )
    return np.random.default_rng(seed(name, value))


def instance(name: str, value: Any, kind: type) -> None:
    """Refuse a value that is not of this class."""
    if not isinstance(value, kind):
        raise ArgumentTypeError(
            f"{name}: expected {kind.__name__}, got {type(value).__name__}"
        )


def float_dtype(name: str, value: Any) -> np.dtype[Any]:
    """Return float64 or float32 as a dtype; refuse any other."""
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise ArgumentTypeError(
            f"{name}: expected float64 or float32, got {_shown(value)}"
        ) from None
    if dtype not in FLOATS:
        raise ArgumentTypeError(f"{name}: expected float64 or float32, got {dtype}")
    return dtype


def threads(name: str, value: Any) -> int:
    """Return a thread count: `None` means every core this process may use."""
    if value is None:
        return len(os.sched_getaffinity(0))
    return min(count(name, value, minimum=1), MAX_THREADS)


def time_step(name: str, value: Any, *, allow_large: bool) -> tuple[float, bool]:
    """Return the time step and whether it deserves a warning.

    From dt = 0.12 on RK4 sends Lorenz-63 to a fixed point while every number stays
    finite, so nothing in the state would show that the result is wrong.
    """
    dt = real(name, value, above=0.0)
    if dt > MAX_TIME_STEP and not allow_large:
        raise ArgumentValueError(
            f"{name}: expected at most {MAX_TIME_STEP:g} (RK4 is wrong beyond it, even "
            f"where it stays finite; allow_large_dt=True overrides), got {dt!r}"
        )
    return dt, dt > LARGE_TIME_STEP


def vectors(
    name: str, value: Any, *, size: int, dtype: np.dtype[Any] | None = None
) -> np.ndarray:
    """Return a C-contiguous, native-endian (..., size) array of finite floats.

    Only the layout is ever changed; an array of another dtype is refused. Torch CPU
    tensors are taken through the array protocol.
    """
    array = _as_array(name, value)
    if array.ndim < 1 or array.shape[-1] != size:
        raise ArgumentValueError(
            f"{name}: expected (..., {size}), got {_shape(array.shape)}"
        )
    wanted = array.dtype.newbyteorder("=")
    if wanted not in FLOATS:
        raise ArgumentTypeError(
            f"{name}: expected float64 or float32, got {array.dtype}"
        )
    if dtype is not None and wanted != dtype:
        raise ArgumentTypeError(f"{name}: expected {dtype}, got {array.dtype}")
    contiguous = np.require(array, dtype=wanted, requirements=["C", "A"])
    finite(name, contiguous)
    return contiguous


def output(
    name: str,
    value: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: Iterable[Any],
) -> np.ndarray:
    """Return an output array; refuse another shape or dtype, read-only, overlapping."""
    instance(name, value, np.ndarray)
    array: np.ndarray = value
    problem = None
    if array.shape != shape:
        problem = f"shape {_shape(shape)}, got {_shape(array.shape)}"
    elif array.dtype != dtype:
        problem = f"{dtype}, got {array.dtype}"
    elif not array.flags.writeable:
        problem = "a writeable array, got a read-only one"
    elif not array.flags.aligned:
        problem = "an aligned array, got a misaligned one"
    elif any(np.shares_memory(array, np.asarray(given)) for given in inputs):
        problem = "memory of its own, got an array that overlaps the input"
    elif _overlaps_itself(array):
        problem = f"no two entries in one place, got strides {array.strides}"
    if problem is not None:
        raise ArgumentValueError(f"{name}: expected {problem}")
    return array


def _overlaps_itself(array: np.ndarray) -> bool:
    # Axes by growing stride: each must step over everything that the ones before span.
    axes = [
        (abs(stride), length)
        for stride, length in zip(array.strides, array.shape, strict=True)
        if length > 1
    ]
    span = array.itemsize
    for stride, length in sorted(axes):
        if stride < span:
            return True
        span = stride * (length - 1) + span
    return False


def states(name: str, value: Any, *, dtype: np.dtype[Any] | None = None) -> np.ndarray:
    """Return states as a C-contiguous (..., 3) array of finite floats."""
    return vectors(name, value, size=3, dtype=dtype)


def array(name: str, value: Any, *, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a float64 array of this shape (`None`: any size); NaN is let through."""
    given = _as_array(name, value)
    fits = given.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, given.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        raise ArgumentValueError(
            f"{name}: expected ({wanted}), got {_shape(given.shape)}"
        )
    if given.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"{name}: expected real numbers, got {given.dtype}")
    return given.astype(np.float64)


def _as_array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ArgumentTypeError(
            f"{name}: expected no masked values, got {np.ma.count_masked(value)}"
        )
    if getattr(value, "requires_grad", False):
        raise ArgumentTypeError(
            f"{name}: expected an array without gradient; detach first"
        )
    if not isinstance(value, np.ndarray) and isinstance(value, (str, bytes)):
        raise ArgumentTypeError(f"{name}: expected an array, got {_shown(value)}")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(
            f"{name}: expected an array of floats, got {type(value).__name__} ({error})"
        ) from None


def _shape(shape: tuple[int, ...]) -> str:
    return str(tuple(int(n) for n in shape))


def finite(name: str, array: np.ndarray) -> None:
    """Refuse NaN and infinity, naming how many there are and the first."""
    good = np.isfinite(array)
    if good.all():
        return
    first = tuple(int(i) for i in np.argwhere(~good)[0])
    raise ArgumentValueError(
        f"{name}: expected finite values, got {np.count_nonzero(~good)} that are not, "
        f"the first at index {first} ({array[first]})"
    )


def batch(name: str, array: np.ndarray, shape: tuple[int, ...], of: str) -> None:
    """Refuse an array whose leading axes are not those of another argument."""
    if array.shape[:-1] != shape:
        raise ArgumentValueError(
            f"{name}: expected leading shape {_shape(shape)} as in {of}, "
            f"got {_shape(array.shape[:-1])}"
        )


def covariance(
    name: str, value: Any, *, size: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> np.ndarray:
    """Return a covariance, (size, size) or (*shape, size, size), in the given dtype.

    Raises
    ------
    ArgumentValueError
        If it is not symmetric (to 1e-10 of its largest entry, 1e-5 in float32) or not
        positive definite, with the figure that says so.
    """
    array = _as_array(name, value)
    if array.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"{name}: expected real numbers, got {array.dtype}")
    if array.shape not in ((size, size), (*shape, size, size)):
        one = f"({size}, {size})"
        each = f" or {_shape((*shape, size, size))}" if shape else ""
        raise ArgumentValueError(
            f"{name}: expected {one}{each}, got {_shape(array.shape)}"
        )
    wide = array.astype(np.float64)
    finite(name, wide)
    if wide.size == 0:
        return np.ascontiguousarray(array, dtype=dtype)
    skew = float(np.abs(wide - np.swapaxes(wide, -1, -2)).max())
    tolerance = 1e-10 if array.dtype == np.float64 else 1e-5
    if skew > tolerance * float(np.abs(wide).max()):
        raise ArgumentValueError(
            f"{name}: expected a symmetric matrix, got entries that differ from their "
            f"transposes by up to {skew:.3g}"
        )
    smallest = float(np.linalg.eigvalsh(wide)[..., 0].min())
    if smallest <= 0.0:
        raise ArgumentValueError(
            f"{name}: expected a positive definite matrix, got smallest eigenvalue "
            f"{smallest:.3g}"
        )
    return np.ascontiguousarray(array, dtype=dtype)


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
