"""Checks of numbers, choices and other single values."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Collection
from typing import Any, Final

import numpy as np

from l63fast.errors import ArgumentTypeError, ArgumentValueError

MAX_THREADS: Final = 256
MAX_TIME_STEP: Final = 0.1
LARGE_TIME_STEP: Final = 0.05


def shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def count(name: str, value: Any, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
    """Return `value` as an int within [minimum, maximum]."""
    # The exact type first: the abstract classes take longer than a small kernel.
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
    """Return `value` as a seed: a non-negative integer."""
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
    """Return `value` as a bool; nothing else is taken for one."""
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
    """Return a NumPy generator, made from `value` where that is a seed."""
    if isinstance(value, np.random.Generator):
        return value
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
