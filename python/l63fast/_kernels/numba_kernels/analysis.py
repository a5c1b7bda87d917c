"""Batched 3D-Var; the order of operations is that of analyse.cpp.

Three methods, as there: the closed form for linear h, the fast Newton iteration for
x^2 with independent observation errors, and the safeguarded iteration for all else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels.jobs import AnalysisJob
from l63fast._kernels.numba_kernels.certificate import analyse_squares
from l63fast._kernels.numba_kernels.compile import fma, jit, one_type
from l63fast._kernels.numba_kernels.linear import analyse_linear, linear_constants
from l63fast._kernels.numba_kernels.newton import (
    CONVERGED,
    MAX_ITER,
    NON_FINITE,
    cost_of,
    highest_acceptable,
    iterate,
    residual_of,
    smaller_spread,
)
from l63fast._kernels.numba_kernels.small_matrix import (
    inverse,
    symmetric_times,
)
from l63fast._kernels.numba_kernels.squares import (
    N_ROWS,
    SQUARE_BLOCK,
    is_independent,
    square_constants,
)
from l63fast._kernels.numba_kernels.threads import CHUNK, in_threads

DIVERGED: Final = 2


@jit
def _other_basin_may_be_lower(
    ub: Any, g: Any, powers: Any, m: int, cost: Any, half: Any
) -> bool:
    """Return whether another basin may hold a lower minimum; see three_d_var.hpp."""
    for i in range(m):
        if powers[i] == 3:
            return True
        if powers[i] > 1 and not cost < (ub[i] * ub[i]) * (half / g[i, i]):
            return True
    return False


@jit
def _analyse_sample(
    xb: Any,
    y: Any,
    b_matrix: Any,
    r_matrix: Any,
    components: Any,
    powers: Any,
    n_starts: int,
    max_iter: int,
    c: Any,
    s: Any,
    state: Any,
    residual: Any,
) -> Any:
    """Analyse one sample by the safeguarded iteration; return status, n_iter, cost."""
    zero, one, half = c[0], c[1], c[5]
    m = len(powers)
    ub, r, qr, best, zeros = s[19], s[3], s[4], s[20], s[21]
    g, q = s[22:25], s[25:28]
    for i in range(m):
        ub[i] = xb[components[i]]
        for j in range(m):
            g[i, j] = b_matrix[components[i], components[j]]
        spread = smaller_spread(g[i, i], r_matrix[i, i], powers[i])
        s[18, i] = abs(ub[i]) + spread
        best[i] = zero
        zeros[i] = zero
    inverse(r_matrix, m, q, one)
    residual_of(ub, y, powers, m, q, r, qr, one)
    background_cost = cost_of(zeros, zeros, r, qr, m, half)
    status, n_iter, cost = MAX_ITER, 0, background_cost
    if max_iter > 0:
        cost, rounding = c[11], zero
        for basin in range(n_starts):
            if basin > 0 and not _other_basin_may_be_lower(
                ub, g, powers, m, cost, half
            ):
                break
            ended, n, reached = iterate(ub, y, powers, m, basin, max_iter, g, q, c, s)
            # Another basin must be lower by more than rounding errors.
            if basin == 0 or not cost <= reached + rounding:
                status, n_iter, cost = ended, n, reached
                rounding = zero
                if status == CONVERGED:
                    highest = highest_acceptable(cost, y, s[3], s[4], m, c[9])
                    rounding = highest - cost
                for i in range(m):
                    best[i] = s[0, i]
        # Worse than no analysis at all: the iteration has diverged.
        if status == MAX_ITER and not cost <= background_cost:
            status = DIVERGED
    finite = True
    for j in range(3):
        t = b_matrix[j, components[0]] * best[0]
        for i in range(1, m):
            t = fma(b_matrix[j, components[i]], best[i], t)
        state[j] = xb[j] + t
        finite = finite and bool(np.isfinite(state[j]))
    for i in range(m):
        s[2, i] = state[components[i]]
    residual_of(s[2], y, powers, m, q, r, qr, one)
    symmetric_times(g, best, m, s[1])
    cost = cost_of(best, s[1], r, qr, m, half)
    for i in range(m):
        residual[i] = r[i]
    if not (finite and np.isfinite(cost)):
        status = NON_FINITE
    if status == NON_FINITE:
        cost = c[7]
        for j in range(3):
            state[j] = c[7]
        for i in range(m):
            residual[i] = c[7]
    return status, n_iter, cost


@jit
def _analyse_range(
    background: Any,
    observation: Any,
    b_matrices: Any,
    r_matrices: Any,
    components: Any,
    powers: Any,
    n_starts: int,
    max_iter: int,
    c: Any,
    begin: int,
    end: int,
    state: Any,
    status: Any,
    n_iter: Any,
    cost: Any,
    residual: Any,
) -> None:
    """Analyse samples [begin, end): in blocks where B and R are common, else singly."""
    s = np.zeros((29, 3), dtype=background.dtype)
    k = np.zeros((16, 3), dtype=background.dtype)
    work = np.empty((N_ROWS, SQUARE_BLOCK), dtype=background.dtype)
    done = np.zeros(SQUARE_BLOCK, np.bool_)
    each_b, each_r = b_matrices.shape[0] > 1, r_matrices.shape[0] > 1
    linear, squares = max_iter > 0, max_iter > 0
    for power in powers:
        linear, squares = linear and power == 1, squares and power == 2
    block = 1 if each_b or each_r else SQUARE_BLOCK
    for first in range(begin, end, block):
        last = min(first + block, end)
        b = b_matrices[first if each_b else 0]
        r = r_matrices[first if each_r else 0]
        new = first == begin or block == 1
        done[:] = False
        if linear:
            if new:
                linear_constants(b, r, components, c[1], k)
            analyse_linear(
                background[first:last], observation[first:last], b, components, c, k,
                work, state[first:last], status[first:last], n_iter[first:last],
                cost[first:last], residual[first:last],
            )  # fmt: skip
            continue
        if squares and is_independent(r, len(powers)):
            if new:
                square_constants(b, r, components, c[10], c, k)
            analyse_squares(
                background[first:last], observation[first:last], b, components,
                n_starts > 1, max_iter, c, k, work, done, state[first:last],
                status[first:last], n_iter[first:last], cost[first:last],
                residual[first:last],
            )  # fmt: skip
        for i in range(first, last):
            if done[i - first]:
                continue
            status[i], n_iter[i], cost[i] = _analyse_sample(
                background[i],
                observation[i],
                b,
                r,
                components,
                powers,
                n_starts,
                max_iter,
                c,
                s,
                state[i],
                residual[i],
            )


def _three_d_var_constants(dtype: np.dtype[Any], tol: float) -> np.ndarray:
    """Return constants of the kernel's dtype: c[i] = i to 4, c[11 + p] = p (p - 1)."""
    kind = dtype.type
    c = np.zeros(17, dtype=dtype)
    c[:5] = (0, 1, 2, 3, 4)
    c[5], c[6], c[7], c[8] = 0.5, 0.25, np.nan, kind(1) / kind(3)
    c[9] = kind(16) * np.finfo(dtype).eps
    c[10] = tol if kind(tol) * kind(tol) > 0 else 0  # with 0 no step is below it
    c[11] = np.inf
    c[13:16] = (2, 6, 12)
    c[16] = 64 * np.finfo(dtype).eps
    return c


@ieee_arithmetic()
def analyse(job: AnalysisJob, n_threads: int) -> tuple[np.ndarray, ...]:
    """Return state (n, 3), status, n_iter, cost (n,) and residual (n, obs_dim)."""
    if job.gaps:
        return _analyse_present(job, n_threads)
    arrays = [one_type(array) for array in job[:4]]
    index = [np.array(job.components, np.int64), np.array(job.powers, np.int64)]
    (n, m), dtype = job.observation.shape, job.background.dtype
    with np.errstate(under="ignore", over="ignore"):
        constants = _three_d_var_constants(dtype, job.tol)
    state, residual = np.empty((n, 3), dtype), np.empty((n, m), dtype)
    status, n_iter = np.empty(n, np.int8), np.empty(n, np.int32)
    cost = np.empty(n, dtype)
    members = max(1, CHUNK // (4 * job.n_starts * max(1, job.max_iter)))

    def run(begin: int, end: int, cancelled: Callable[[], bool]) -> int:
        for first in range(begin, end, members):
            if cancelled():
                break
            _analyse_range(
                *arrays, *index, job.n_starts, job.max_iter, constants, first,
                min(first + members, end), state, status, n_iter, cost, residual,
            )  # fmt: skip
        return 0

    in_threads(run, n, n_threads)
    return state, status, n_iter, cost, residual


def _analyse_present(job: AnalysisJob, n_threads: int) -> tuple[np.ndarray, ...]:
    """Return the same where NaN is a missing value; see analyse_present.hpp.

    Samples with the same values present are analysed as a problem of these values.
    """
    (n, m), dtype = job.observation.shape, job.background.dtype
    state, residual = job.background.copy(), np.full((n, m), np.nan, dtype)
    finite = np.isfinite(state).all(axis=1)
    state[~finite] = np.nan
    # Without any value the analysis is the background.
    status = np.where(finite, np.int8(CONVERGED), np.int8(NON_FINITE))
    cost, n_iter = np.where(finite, 0.0, np.nan).astype(dtype), np.zeros(n, np.int32)
    patterns = (~np.isnan(job.observation)) @ (1 << np.arange(m))
    for pattern in range(1, 1 << m):
        rows = np.flatnonzero(patterns == pattern)
        chosen = np.flatnonzero(pattern >> np.arange(m) & 1)
        powers = tuple(job.powers[j] for j in chosen)
        n_starts = 2 ** sum(power > 1 for power in powers)
        if len(powers) == 1 and powers[0] % 2 == 0:
            n_starts = 1
        each_b, each_r = len(job.b_matrices) > 1, len(job.r_matrices) > 1
        R = job.r_matrices[rows] if each_r else job.r_matrices
        part = AnalysisJob(
            job.background[rows],
            np.ascontiguousarray(job.observation[np.ix_(rows, chosen)]),
            job.b_matrices[rows] if each_b else job.b_matrices,
            np.ascontiguousarray(R[:, chosen[:, None], chosen]),
            tuple(job.components[j] for j in chosen),
            powers,
            min(n_starts, job.n_starts),
            job.max_iter,
            job.tol,
        )
        results = analyse(part, n_threads)
        state[rows], status[rows], n_iter[rows], cost[rows] = results[:4]
        residual[np.ix_(rows, chosen)] = results[4]
    return state, status, n_iter, cost, residual
