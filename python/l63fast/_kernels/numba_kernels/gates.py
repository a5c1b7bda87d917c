"""The gates of a GRU and their derivatives, float32; the order is that of gates.hpp."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from l63fast._kernels.numba_kernels.compile import fma, jit

_ZERO: Final = np.float32(0.0)
_HALF: Final = np.float32(0.5)
_ONE: Final = np.float32(1.0)
_TWO: Final = np.float32(2.0)
_SHIFT: Final = np.float32(12582912.0)  # 1.5 * 2^23
_LOG2_E: Final = np.float32(float.fromhex("0x1.715476p0"))
_MINUS_LN2: Final = np.float32(float.fromhex("-0x1.62e43p-1"))
_LN2_REST: Final = np.float32(float.fromhex("0x1.05c61p-29"))
# Coefficients of the Taylor series of exp, 1/3! to 1/7!.
_THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH = (
    _ONE / np.float32(factorial) for factorial in (6, 24, 120, 720, 5040)
)
_SIGMOID_END: Final = np.float32(87.0)
_TANGENT_END: Final = np.float32(40.0)


@intrinsic
def _power_of_two(typing_context: Any, moved: Any) -> Any:
    """Return 2^n, given n + 1.5 * 2^23."""
    if moved != types.float32:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> ir.Value:
        word = ir.IntType(32)
        shifted = builder.shl(builder.bitcast(args[0], word), word(23))
        return builder.bitcast(builder.add(shifted, word(0x3F800000)), ir.FloatType())

    return moved(moved), codegen


@jit
def _exponential_parts(a: Any) -> Any:
    """Return scale and rest such that exp(a) = scale + scale * rest."""
    moved = fma(a, _LOG2_E, _SHIFT)
    n = moved - _SHIFT
    r = fma(n, _LN2_REST, fma(n, _MINUS_LN2, a))
    u = fma(_SEVENTH, r, _SIXTH)
    u = fma(u, r, _FIFTH)
    u = fma(u, r, _FOURTH)
    u = fma(u, r, _THIRD)
    u = fma(u, r, _HALF)
    return _power_of_two(moved), fma(u, r * r, r)


@jit
def _sigmoid(a: Any) -> Any:
    size = abs(a)
    scale, rest = _exponential_parts(-size)
    tail = fma(scale, rest, scale)
    tail = _ZERO if size > _SIGMOID_END else tail
    return (tail if a < _ZERO else _ONE) / (_ONE + tail)


@jit
def _tangent(a: Any) -> Any:
    size = abs(a)
    scale, rest = _exponential_parts(-(size + size))
    less_one = fma(scale, rest, scale - _ONE)
    less_one = -_ONE if size > _TANGENT_END else less_one
    t = less_one / (_TWO + less_one)
    return t if a < _ZERO else -t


@jit
def gates_of(reset: Any, update: Any, given: Any, part: Any, state: Any) -> Any:
    """Return r, z, the candidate and the next state."""
    r, z = _sigmoid(reset), _sigmoid(update)
    c = _tangent(fma(r, part, given))
    return r, z, c, fma(z, state - c, c)


@jit
def gradient_of(gates: Any, state: Any, gradient: Any) -> Any:
    """Return gradients of r, z, state part and input part, and the state's own."""
    r, z, c, part = gates
    kept = gradient * z
    given = (gradient - kept) * fma(-c, c, _ONE)
    through = given * r
    return (
        through * part * (_ONE - r),
        kept * (_ONE - z) * (state - c),
        through,
        given,
        kept,
    )
