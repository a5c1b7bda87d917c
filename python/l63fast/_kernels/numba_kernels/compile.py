"""How the kernels are compiled: no fast-math, fma as one instruction, one type."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

jit: Final = njit(cache=True, nogil=True, fastmath=False, error_model="numpy")


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Emit a * b + c, rounded once."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> ir.Value:
        return builder.fma(*args)

    return a(a, b, c), codegen


def one_type(array: np.ndarray) -> np.ndarray:
    """Return a read-only view: to Numba one that may be written is of another type.

    Each type of each argument would be compiled for itself, in seconds.
    """
    view = array.view()
    view.flags.writeable = False
    return view
