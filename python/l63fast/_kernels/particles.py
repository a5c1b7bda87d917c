"""What the particle filter's kernel is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["FilterJob", "FilteredParticles"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FilterJob:
    """Forecasts, analyses, or cycles of both, for particles of many trajectories.

    Each forecast and each analysis is a stage with random numbers of its own.

    Attributes
    ----------
    n_steps : int or None
        Model steps of each forecast; None: analyses alone.
    observation : (n, n_cycles, obs_dim) or None
        None: one forecast alone.
    noise_root : (3, 3) or None
        Root of the covariance of the noise that ends a forecast.
    whitening : (obs_dim, obs_dim)
        Lower W with R^-1 = W^T W.
    components, powers : tuple of int
        The observation operator.
    threshold : float
        Particles are drawn anew where the effective size is at most this share.
    bandwidth : float
        Noise added to particles drawn more than once, in standard deviations.
    lost : float
        |W (y - h)|^2 of the best particle beyond which they have lost the truth.
    rescue_root : (3, 3) or None
        Lower. Particles that have lost the truth are all drawn anew and scattered with
        the covariance of the forecast, or with this root where that is too narrow,
        scaled so that it explains the misfit. None: they are left as they are.
    folded : bool
        Mean and covariance are of one of each mirrored pair of states.
    key : tuple of int
        Two 32-bit words.
    first_stage : int
    """

    n_steps: int | None
    observation: np.ndarray | None
    noise_root: np.ndarray | None
    whitening: np.ndarray
    components: tuple[int, ...]
    powers: tuple[int, ...]
    threshold: float
    bandwidth: float
    lost: float
    rescue_root: np.ndarray | None
    folded: bool
    key: tuple[int, int]
    first_stage: int
    dt: float
    parameters: tuple[float, float, float]


class FilteredParticles(NamedTuple):
    """Particles after the last stage, and what each analysis said.

    Attributes
    ----------
    states : (n, n_particles, 3)
    log_weights : (n, n_particles)
        Up to a constant; -inf for particles that are no longer finite, which stand at
        the origin.
    background, mean, spread : (n, n_cycles, 3)
    innovation : (n, n_cycles, obs_dim)
    observed_covariance : (n, n_cycles, obs_dim, obs_dim)
        Of h over the particles before the observation.
    effective_size : (n, n_cycles)
        (sum w)^2 / sum w^2 after it.
    status : (n, n_cycles) int8
        0; 2 where the particles had lost the truth, or none has any likelihood and the
        weights stay as they were; 3 where none is finite.
    """

    states: np.ndarray
    log_weights: np.ndarray
    background: np.ndarray
    innovation: np.ndarray
    observed_covariance: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    effective_size: np.ndarray
    status: np.ndarray
