"""Ensemble integration in blocks that fit the L1 cache; the order is lorenz63.hpp's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels.jobs import IntegrateJob
from l63fast._kernels.numba_kernels.compile import jit, one_type
from l63fast._kernels.numba_kernels.step import (
    constants_of,
    own_rk4_constants,
    rk4_constants,
    stages,
)
from l63fast._kernels.numba_kernels.threads import BLOCK, CHUNK, in_threads


@jit
def _integrate_block(
    initial: Any,
    out: Any,
    begin: int,
    end: int,
    first_step: int,
    last_step: int,
    save_every: int,
    constants: Any,
    work: Any,
) -> int:
    """Integrate members [begin, end), at most BLOCK of them, from one step to another.

    Returns how many are then non-finite. Between two calls `work` keeps the states.
    """
    n = end - begin
    x, y, z = work[0], work[1], work[2]
    if first_step == 0:
        for i in range(n):
            x[i] = initial[begin + i, 0]
            y[i] = initial[begin + i, 1]
            z[i] = initial[begin + i, 2]
    step = first_step
    while step < last_step:
        k = step // save_every
        stop = min((k + 1) * save_every, last_step)
        for _ in range(step, stop):
            for i in range(n):
                own = constants_of(constants, begin + i)
                _, _, _, _, after = stages(x[i], y[i], z[i], own)
                x[i], y[i], z[i] = after
        step = stop
        if step == (k + 1) * save_every:
            for i in range(n):
                out[begin + i, k, 0] = x[i]
                out[begin + i, k, 1] = y[i]
                out[begin + i, k, 2] = z[i]
    diverged = 0
    for i in range(n):
        if not (np.isfinite(x[i]) and np.isfinite(y[i]) and np.isfinite(z[i])):
            diverged += 1
            for k in range(first_step // save_every, last_step // save_every):
                for j in range(3):
                    if not np.isfinite(out[begin + i, k, j]):
                        out[begin + i, k, j] = np.nan
    return diverged


@jit
def _integrate_range(
    initial: Any,
    out: Any,
    begin: int,
    end: int,
    first_step: int,
    last_step: int,
    save_every: int,
    constants: Any,
    work: Any,
) -> int:
    """Integrate any number of members; above BLOCK only all steps at once."""
    diverged = 0
    for i in range(begin, end, BLOCK):
        j = min(i + BLOCK, end)
        diverged += _integrate_block(
            initial, out, i, j, first_step, last_step, save_every, constants, work
        )
    return diverged


@ieee_arithmetic()
def integrate(job: IntegrateJob, n_threads: int) -> int:
    """Fill the job's `out`; return the number of non-finite members."""
    initial, out, save_every = one_type(job.initial), job.out, job.save_every
    constants: Any
    if isinstance(job.parameters, np.ndarray):
        constants = own_rk4_constants(job.dt, job.parameters, initial.dtype)
    else:
        constants = rk4_constants(job.dt, *job.parameters, initial.dtype)
    n, n_steps = initial.shape[0], out.shape[1] * save_every
    members = BLOCK * max(1, CHUNK // (BLOCK * max(1, n_steps)))
    # One chunk holds all steps where `members` is more than one block.
    steps = CHUNK // max(1, min(n, BLOCK))

    def run(begin: int, end: int, cancelled: Callable[[], bool]) -> int:
        work = np.empty((3, BLOCK), dtype=initial.dtype)
        diverged = ended = 0
        for i in range(begin, end, members):
            j = min(i + members, end)
            for first in range(0, n_steps, steps):
                if cancelled():
                    return diverged
                last = min(first + steps, n_steps)
                ended = _integrate_range(
                    initial, out, i, j, first, last, save_every, constants, work
                )
            diverged += ended
        return diverged

    return sum(in_threads(run, n, n_threads))
