"""Compilation of the kernels: no fast-math, fma as one instruction, one array type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit
from numba.core import types
from numba.extending import intrinsic

from l63fast.errors import BackendError

if config.DISABLE_JIT:
    raise BackendError(
        "NUMBA_DISABLE_JIT: expected it to be unset, got 1: interpreted, Numba's "
        "kernels cannot round as the compiled ones do"
    )


def jit(function: Callable[..., Any]) -> Any:
    """Return the function compiled, and kept for the next process where it can be."""
    how: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}
    try:
        return njit(cache=True, **how)(function)
    except RuntimeError:  # neither the package nor the user has a folder to write to
        return njit(**how)(function)


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> ir.Value:
        return builder.fma(*args)

    return a(a, b, c), codegen


def _bits(context: Any, builder: Any, value: ir.Value, kind: Any) -> tuple[Any, ...]:
    """Return the bits of a float as an integer, and those of 1 and infinity."""
    width = types.int64 if kind == types.float64 else types.int32
    integer = context.get_value_type(width)
    one = 0x3FF0000000000000 if kind == types.float64 else 0x3F800000
    infinity = 0x7FF0000000000000 if kind == types.float64 else 0x7F800000
    bits = builder.bitcast(value, integer)
    return bits, ir.Constant(integer, one), ir.Constant(integer, infinity)


@intrinsic
def power_of_two(typing_context: Any, a: Any) -> Any:
    """Return the largest power of two that is not above a >= 1, from its bits."""
    if not isinstance(a, types.Float):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> ir.Value:
        bits, _, infinity = _bits(context, builder, args[0], a)
        return builder.bitcast(builder.and_(bits, infinity), args[0].type)

    return a(a), codegen


@intrinsic
def one_over_power(typing_context: Any, a: Any) -> Any:
    """Return 1 / a for a power of two; 0 for the largest of them."""
    if not isinstance(a, types.Float):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> ir.Value:
        bits, one, _ = _bits(context, builder, args[0], a)
        twice = builder.add(one, one)
        return builder.bitcast(builder.sub(twice, bits), args[0].type)

    return a(a), codegen


def one_type(array: np.ndarray) -> np.ndarray:
    """Return a read-only view of an array.

    For Numba a read-only array has another type than a writeable one, and each
    combination of types would be compiled again, which takes seconds.
    """
    view = array.view()
    view.flags.writeable = False
    return view
