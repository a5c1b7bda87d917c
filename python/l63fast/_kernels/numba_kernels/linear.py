"""3D-Var for linear h in closed form, by blocks; the order is that of analyse.cpp.

x_a = x_b + B_{:,C} w, w = (G + R)^-1 (y - h(x_b)), where G is B of the observed
components C: the Kalman update. Loops run over the samples of a block, so that LLVM
makes vector code of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l63fast._kernels.numba_kernels.compile import fma, jit
from l63fast._kernels.numba_kernels.newton import CONVERGED, NON_FINITE
from l63fast._kernels.numba_kernels.small_matrix import inverse


@jit
def linear_constants(
    b_matrix: Any, r_matrix: Any, components: Any, one: Any, k: Any
) -> None:
    """Write (G + R)^-1 to rows 0 to 2 of k."""
    m = len(components)
    total = np.empty((3, 3), k.dtype)
    for i in range(m):
        for j in range(m):
            total[i, j] = b_matrix[components[i], components[j]] + r_matrix[i, j]
    inverse(total, m, k[0:3], one)


@jit
def _times(matrix: Any, v: Any, out: Any, m: int, n: int) -> None:
    for i in range(m):
        first = matrix[i, 0]
        for s in range(n):
            out[i, s] = first * v[0, s]
        for j in range(1, m):
            a = matrix[i, j]
            for s in range(n):
                out[i, s] = fma(a, v[j, s], out[i, s])


@jit
def analyse_linear(
    background: Any,
    observation: Any,
    b_matrix: Any,
    components: Any,
    c: Any,
    k: Any,
    work: Any,
    state: Any,
    status: Any,
    n_iter: Any,
    cost: Any,
    residual: Any,
) -> None:
    """Analyse a block of samples.

    Rows of the scratch: 0 y, 3 innovation, 6 w, 9 residual, 12 state, 15 cost.
    """
    n, m = observation.shape
    y, innovation, w = work[0:3], work[3:6], work[6:9]
    r, x, total = work[9:12], work[12:15], work[15]
    for i in range(m):
        for s in range(n):
            y[i, s] = observation[s, i]
            innovation[i, s] = y[i, s] - background[s, components[i]]
    _times(k[0:3], innovation, w, m, n)
    for j in range(3):
        for s in range(n):
            x[j, s] = b_matrix[j, components[0]] * w[0, s]
        for i in range(1, m):
            column = b_matrix[j, components[i]]
            for s in range(n):
                x[j, s] = fma(column, w[i, s], x[j, s])
        for s in range(n):
            x[j, s] = background[s, j] + x[j, s]
    for i in range(m):
        for s in range(n):
            r[i, s] = y[i, s] - x[components[i], s]
    for s in range(n):
        # At the minimum J = 1/2 w.(y - h(x_b)).
        total[s] = w[0, s] * innovation[0, s]
    for i in range(1, m):
        for s in range(n):
            total[s] = fma(w[i, s], innovation[i, s], total[s])
    for s in range(n):
        total[s] = c[5] * total[s]
        finite = np.isfinite((x[0, s] - x[0, s]) + (x[1, s] - x[1, s]))
        finite = finite & np.isfinite((x[2, s] - x[2, s]) + total[s])
        status[s] = CONVERGED if finite else NON_FINITE
        n_iter[s] = 1
        cost[s] = total[s] if finite else c[7]
        for j in range(3):
            state[s, j] = x[j, s] if finite else c[7]
        for i in range(m):
            residual[s, i] = r[i, s] if finite else c[7]
