"""States on the attractor, and their mean and covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l63fast import _checks, _random
from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63.model import DEFAULT_PARAMETERS, forecast


@dataclass(frozen=True)
class Climatology:
    """Mean (3,) and covariance C (3, 3) of states on the attractor."""

    mean: np.ndarray
    covariance: np.ndarray


@ieee_arithmetic()
def spin_up(
    n_members: int,
    *,
    seed: _checks.Seed,
    split: str = "none",
    first: int = 0,
    time: float = 20.0,
    dt: float = 0.01,
    parameters: Any = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
    backend: str = "auto",
) -> np.ndarray:
    """Return independent states on the attractor, (n_members, 3).

    Each member starts from its own random point near the attractor and is integrated
    for `time`. Member i depends only on (seed, split, first + i).

    Parameters
    ----------
    n_members : int
    seed : int, SeedSequence or Generator
    split : {"none", "train", "val", "test"}
        Each split has its own random stream.
    first : int
        Index of the first member.
    time : float
        Length of the spin-up (time units).
    dt, parameters, n_threads, backend
        As in `simulate`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    DivergenceError
        If a member left the floating-point range.
    """
    n_members = _checks.count("n_members", n_members)
    first = _checks.count("first", first)
    seed = _checks.seed("seed", seed)
    split = _checks.choice("split", split, _random.SPLITS)
    time = _checks.real("time", time, minimum=0.0)
    _checks.memory("n_members", 4 * n_members * 3 * 8)
    draws = _random.uniforms(seed, "initial", split, n_members, (3,), first=first)
    # A box around the attractor: trajectories from all its points reach the attractor.
    start = np.array([-15.0, -15.0, 10.0]) + draws * 30.0
    n_steps = round(time / _checks.real("dt", dt, above=0.0))
    return forecast(
        start,
        n_steps,
        dt=dt,
        parameters=parameters,
        n_threads=n_threads,
        backend=backend,
    )


@ieee_arithmetic()
def climatology(states: Any) -> Climatology:
    """Return mean and covariance of states (..., 3), symmetrised with S.

    S is the mirror symmetry (x, y, z) -> (-x, -y, z). Averaging over the states and
    their mirror images makes the means of x and y and the covariances xz and yz exactly
    zero, as they are on the attractor. Otherwise the asymmetry of a finite sample would
    enter every scheme that uses C.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If `states` is not an array of finite floats with at least two states.
    """
    flat = _checks.states("states", states).reshape(-1, 3).astype(np.float64)
    if len(flat) < 2:
        raise ArgumentValueError(f"states: expected at least 2, got {len(flat)}")
    mean = np.array([0.0, 0.0, flat[:, 2].mean()])
    covariance = symmetrised(second_moment(flat - mean))
    return Climatology(mean, covariance)


def second_moment(deviations: np.ndarray) -> np.ndarray:
    """Return the mean of d d^T over deviations (..., m): an (m, m) matrix."""
    m = deviations.shape[-1]
    columns = np.ascontiguousarray(deviations.reshape(-1, m).T)
    # A product of matrices rounds differently on each processor, and of a particle
    # filter that starts with another last bit no analysis stays the same.
    means = [(a * b).mean() for a in columns for b in columns]
    return np.array(means).reshape(m, m)


def symmetrised(covariance: np.ndarray) -> np.ndarray:
    """Return the mean of a covariance (3, 3) and its mirror image: xz and yz are 0."""
    signs = np.array([-1.0, -1.0, 1.0])
    return np.asarray(0.5 * (covariance + signs[:, None] * covariance * signs))
