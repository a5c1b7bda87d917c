"""What an assimilation scheme is, and what one of its analyses says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

import numpy as np

__all__ = ["Analysis", "Scheme", "Status"]

State = TypeVar("State")


class Status(IntEnum):
    """How the analysis of one sample ended.

    DIVERGED is a minimisation without a finite cost, or a filter that has lost the
    truth: an innovation that its own covariance gives once in 1e9.
    """

    CONVERGED = 0
    MAX_ITER = 1
    DIVERGED = 2
    NON_FINITE = 3


@dataclass(frozen=True, eq=False)
class Analysis:
    """Analyses of a batch, with how each of them ended.

    Attributes
    ----------
    state : (..., 3)
        The analysis x_a (of an ensemble: its mean).
    status : (...,) int8
        A `Status` per sample.
    n_iter : (...,) int32
        Iterations taken; 0 for schemes that do not iterate.
    cost : (...,)
        The variational cost at the analysis; NaN for schemes without one.
    residual : (..., obs_dim)
        y - h(x_a).
    background : (..., 3) or None
        The background x_b as the scheme saw it; every scheme's `analyse` fills it.
    spread : (..., 3) or None
        Standard deviation of the analysis error as the scheme believes it to be.
    innovation : (..., obs_dim) or None
        y - h(x_b) (of an ensemble: y less the mean of its h).
    innovation_covariance : (..., obs_dim, obs_dim) or None
        What the scheme believes the covariance of those to be, H B H^T + R.
    members : (..., n_members, 3) or None
        The analysis ensemble.
    effective_size : (...,) or None
        How many equally weighted particles the analysis is worth.
    """

    state: np.ndarray
    status: np.ndarray
    n_iter: np.ndarray
    cost: np.ndarray
    residual: np.ndarray
    background: np.ndarray | None = None
    spread: np.ndarray | None = None
    innovation: np.ndarray | None = None
    innovation_covariance: np.ndarray | None = None
    members: np.ndarray | None = None
    effective_size: np.ndarray | None = None


class Scheme(Protocol[State]):
    """Three pure methods on a state of the scheme's own, batched over trajectories.

    The state may be an array, an ensemble, a mean with a covariance, or a background
    with a network's memory; only the scheme looks inside. A trajectory whose state
    is no longer finite stays so and is reported as `Status.NON_FINITE`; its
    neighbours go on.

    What a scheme takes for granted about the data it may say in an attribute
    `made_for`, a `Setup`; a scheme without one agrees with any twin experiment.
    """

    @property
    def window(self) -> int:
        """How many observations `analyse` is given, L; the last is at analysis time.

        A scheme that sets `window_grows` is given fewer until L exist.
        """

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> State:
        """Return the state that knows nothing but the background (n, 3)."""

    def forecast(self, state: State, n_steps: int) -> State:
        """Return the state `n_steps` model steps later."""

    def analyse(self, state: State, obs_window: np.ndarray) -> tuple[State, Analysis]:
        """Return the state after seeing (n, L, obs_dim) observations, and how."""
