"""Tangent-linear and adjoint of many RK4 steps; the order is that of tangent.hpp.

The adjoint needs the trajectory in reverse order. It integrates forwards first, keeps
checkpoints, and integrates again between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels.jobs import TangentJob
from l63fast._kernels.numba_kernels.compile import fma, jit
from l63fast._kernels.numba_kernels.step import rk4_constants, stages
from l63fast._kernels.numba_kernels.threads import BLOCK, CHUNK, in_threads

SEGMENT: Final = 512  # states that the adjoint keeps per level of checkpoints


@jit
def _tangent_tendency(stage: Any, u: Any, v: Any, w: Any, beta: Any) -> Any:
    """Return the change of the tendency for a change (u, v, w) of the state."""
    x, y, r = stage
    b = fma(u, r, -fma(x, w, v))
    return v - u, b, fma(x, v, fma(y, u, -(beta * w)))


@jit
def _adjoint_tendency(stage: Any, a: Any, b: Any, c: Any, beta: Any) -> Any:
    """Return the transpose of `_tangent_tendency` times (a, b, c)."""
    x, y, r = stage
    u = fma(y, c, fma(r, b, -a))
    return u, fma(x, c, a - b), fma(-x, b, -(beta * c))


@jit
def _carry(state: Any, vector: Any, n_steps: int, c: Any) -> None:
    """Advance the state (3, n) and its perturbation (3, n)."""
    two, h, dt, sh, sd, s6, h6, _, beta = c
    x, y, z = state[0], state[1], state[2]
    u, v, w = vector[0], vector[1], vector[2]
    for _ in range(n_steps):
        for i in range(len(x)):
            s0, s1, s2, s3, end = stages(x[i], y[i], z[i], c)
            du, dv, dw = u[i], v[i], w[i]
            a1, b1, c1 = _tangent_tendency(s0, du, dv, dw, beta)
            a2, b2, c2 = _tangent_tendency(
                s1, fma(sh, a1, du), fma(h, b1, dv), fma(h, c1, dw), beta
            )
            a3, b3, c3 = _tangent_tendency(
                s2, fma(sh, a2, du), fma(h, b2, dv), fma(h, c2, dw), beta
            )
            a4, b4, c4 = _tangent_tendency(
                s3, fma(sd, a3, du), fma(dt, b3, dv), fma(dt, c3, dw), beta
            )
            u[i] = fma(s6, fma(two, a2 + a3, a1 + a4), du)
            v[i] = fma(h6, fma(two, b2 + b3, b1 + b4), dv)
            w[i] = fma(h6, fma(two, c2 + c3, c1 + c4), dw)
            x[i], y[i], z[i] = end


@jit
def _advance(state: Any, n_steps: int, kept: Any, c: Any) -> None:
    """Advance the state (3, n); keep the states before the first len(kept) steps."""
    x, y, z = state[0], state[1], state[2]
    for step in range(n_steps):
        if step < len(kept):
            kept[step] = state
        for i in range(len(x)):
            _, _, _, _, end = stages(x[i], y[i], z[i], c)
            x[i], y[i], z[i] = end


@jit
def _adjoint_step(state: Any, vector: Any, c: Any) -> None:
    """Carry a gradient (3, n) back over the step that begins at the state (3, n)."""
    _, h, dt, sh, sd, s6, h6, _, beta = c
    x, y, z = state[0], state[1], state[2]
    u, v, w = vector[0], vector[1], vector[2]
    for i in range(len(x)):
        s0, s1, s2, s3, _ = stages(x[i], y[i], z[i], c)
        a, b, g = s6 * u[i], h6 * v[i], h6 * w[i]
        # k2 and k3 have twice the weight of k1 and k4 in the step.
        a2, b2, g2 = a + a, b + b, g + g
        u4, v4, w4 = _adjoint_tendency(s3, a, b, g, beta)
        u3, v3, w3 = _adjoint_tendency(
            s2, fma(sd, u4, a2), fma(dt, v4, b2), fma(dt, w4, g2), beta
        )
        u2, v2, w2 = _adjoint_tendency(
            s1, fma(sh, u3, a2), fma(h, v3, b2), fma(h, w3, g2), beta
        )
        u1, v1, w1 = _adjoint_tendency(
            s0, fma(sh, u2, a), fma(h, v2, b), fma(h, w2, g), beta
        )
        u[i] = u[i] + ((u1 + u2) + (u3 + u4))
        v[i] = v[i] + ((v1 + v2) + (v3 + v4))
        w[i] = w[i] + ((w1 + w2) + (w3 + w4))


@jit
def _adjoint_segment(state: Any, vectors: Any, n_steps: int, kept: Any, c: Any) -> None:
    """Carry gradients (k, 3, n) back over at most len(kept) steps."""
    _advance(state, n_steps, kept, c)
    for step in range(n_steps - 1, -1, -1):
        for j in range(len(vectors)):
            _adjoint_step(kept[step], vectors[j], c)


class _Cancelled(Exception):
    """Raised in a thread whose work is no longer needed, since another has failed."""


def _chunks(n_steps: int, cancelled: Callable[[], bool]) -> Iterator[int]:
    """Yield parts of n_steps, short enough for a quick answer to Ctrl-C."""
    for done in range(0, n_steps, CHUNK // BLOCK):
        if cancelled():
            raise _Cancelled
        yield min(CHUNK // BLOCK, n_steps - done)


def _adjoint_steps(
    state: np.ndarray,
    vectors: np.ndarray,
    n_steps: int,
    kept: np.ndarray,
    c: Any,
    cancelled: Callable[[], bool],
) -> None:
    """Carry gradients back over any number of steps; adjoint_steps in tangent.cpp."""
    if n_steps <= SEGMENT:
        if cancelled():
            raise _Cancelled
        _adjoint_segment(state, vectors, n_steps, kept, c)
        return
    stride = SEGMENT
    while stride <= (n_steps - 1) // SEGMENT:
        stride *= SEGMENT
    checkpoints = []
    for done in range(0, n_steps, stride):
        checkpoints.append((done, state.copy()))
        if done + stride < n_steps:
            for steps in _chunks(stride, cancelled):
                _advance(state, steps, kept[:0], c)
    for done, checkpoint in reversed(checkpoints):
        steps = min(stride, n_steps - done)
        _adjoint_steps(checkpoint, vectors, steps, kept, c, cancelled)


def _over_blocks(
    run: Callable[[slice, Callable[[], bool]], None], n: int, n_threads: int
) -> None:
    def run_range(begin: int, end: int, cancelled: Callable[[], bool]) -> int:
        try:
            for first in range(begin, end, BLOCK):
                run(slice(first, min(first + BLOCK, end)), cancelled)
        except _Cancelled:
            pass
        return 0

    in_threads(run_range, n, n_threads)


def _n_diverged(*results: np.ndarray) -> int:
    """Replace non-finite values by NaN; return how many members have one."""
    bad = np.zeros(len(results[0]), dtype=bool)
    for result in results:
        rows = result.reshape(len(result), -1)
        broken = ~np.isfinite(rows)
        rows[broken] = np.nan
        bad |= broken.any(axis=1)
    return int(np.count_nonzero(bad))


@ieee_arithmetic()
def tangent(job: TangentJob, n_threads: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return states and perturbations after n_steps, and how many are NaN."""
    constants = rk4_constants(job.dt, *job.parameters, job.state.dtype)
    final, carried = np.empty_like(job.state), np.empty_like(job.vectors)

    def run(block: slice, cancelled: Callable[[], bool]) -> None:
        states, vectors = _packed(job, block)
        for vector in vectors:
            end = states.copy()
            for steps in _chunks(job.n_steps, cancelled):
                _carry(end, vector, steps, constants)
        final[block], carried[block] = end.T, vectors.transpose(2, 0, 1)

    _over_blocks(run, len(final), n_threads)
    return final, carried, _n_diverged(final, carried)


@ieee_arithmetic()
def adjoint(job: TangentJob, n_threads: int) -> tuple[np.ndarray, int]:
    """Return gradients at the start, and how many are not finite."""
    constants = rk4_constants(job.dt, *job.parameters, job.state.dtype)
    carried = np.empty_like(job.vectors)

    def run(block: slice, cancelled: Callable[[], bool]) -> None:
        states, vectors = _packed(job, block)
        kept = np.empty((min(job.n_steps, SEGMENT), *states.shape), states.dtype)
        _adjoint_steps(states, vectors, job.n_steps, kept, constants, cancelled)
        carried[block] = vectors.transpose(2, 0, 1)

    _over_blocks(run, len(carried), n_threads)
    return carried, _n_diverged(carried)


def _packed(job: TangentJob, block: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of a block's state (3, n) and vectors (k, 3, n)."""
    return job.state[block].T.copy(), job.vectors[block].transpose(1, 2, 0).copy()
