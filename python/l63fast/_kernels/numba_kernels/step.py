"""One RK4 step, stage by stage; the order of operations is that of lorenz63.hpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from l63fast._kernels.numba_kernels.compile import fma, jit


def rk4_constants(
    dt: float, sigma: float, rho: float, beta: float, dtype: np.dtype[Any]
) -> tuple[Any, ...]:
    """Return 2, dt/2, dt, sigma dt/2, sigma dt, sigma dt/6, dt/6, rho and beta."""
    exact = (2.0, 0.5 * dt, dt, sigma * (0.5 * dt), sigma * dt, sigma * dt / 6)
    return tuple(dtype.type(v) for v in (*exact, dt / 6, rho, beta))


def own_rk4_constants(
    dt: float, parameters: np.ndarray, dtype: np.dtype[Any]
) -> np.ndarray:
    """Return the constants of each member, (n, 9), for parameters (n, 3)."""
    rows = [
        rk4_constants(dt, float(s), float(r), float(b), dtype) for s, r, b in parameters
    ]
    return np.array(rows, dtype=dtype).reshape(-1, 9)


def constants_of(constants: Any, i: int) -> Any:
    """Return the constants of member i, those of all members or its own."""
    raise NotImplementedError  # replaced where it is compiled


@overload(constants_of, inline="always")
def _constants_of(constants: Any, i: Any) -> Any:
    def of_all(constants: Any, i: Any) -> Any:
        return constants

    def of_each(constants: Any, i: Any) -> Any:
        c = constants[i]
        return c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8]

    return of_each if isinstance(constants, types.Array) else of_all


@jit
def stages(x0: Any, y0: Any, z0: Any, c: Any) -> Any:
    """Return x, y and rho - z of the four stages of a step, and the state after it."""
    two, h, dt, sh, sd, s6, h6, rho, beta = c
    # Tendencies a, b, c of the stages 0 to 3; a is without its factor sigma.
    r0 = rho - z0
    a1, b1, c1 = y0 - x0, fma(x0, r0, -y0), fma(x0, y0, -(beta * z0))
    x1, y1, z1 = fma(sh, a1, x0), fma(h, b1, y0), fma(h, c1, z0)
    r1 = rho - z1
    a2, b2, c2 = y1 - x1, fma(x1, r1, -y1), fma(x1, y1, -(beta * z1))
    x2, y2, z2 = fma(sh, a2, x0), fma(h, b2, y0), fma(h, c2, z0)
    r2 = rho - z2
    a3, b3, c3 = y2 - x2, fma(x2, r2, -y2), fma(x2, y2, -(beta * z2))
    x3, y3, z3 = fma(sd, a3, x0), fma(dt, b3, y0), fma(dt, c3, z0)
    r3 = rho - z3
    a4, b4, c4 = y3 - x3, fma(x3, r3, -y3), fma(x3, y3, -(beta * z3))
    x = fma(s6, fma(two, a2 + a3, a1 + a4), x0)
    y = fma(h6, fma(two, b2 + b3, b1 + b4), y0)
    z = fma(h6, fma(two, c2 + c3, c1 + c4), z0)
    return (x0, y0, r0), (x1, y1, r1), (x2, y2, r2), (x3, y3, r3), (x, y, z)
