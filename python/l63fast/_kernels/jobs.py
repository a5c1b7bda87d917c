"""Arguments of the kernels, one tuple for each, and the particle filter's results.

Arrays are validated and C-contiguous, unless stated otherwise. All float arrays of one
job have the same dtype, float64 or float32, unless stated otherwise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class IntegrateJob(NamedTuple):
    """Integration of an ensemble by RK4.

    Attributes
    ----------
    initial : (n, 3)
        Initial states.
    out : (n, n_saved, 3), with any strides
        Filled with the saved states, without the initial state.
    save_every : int
        Steps between saved states.
    dt : float
        Time step (time units).
    parameters : tuple of float, or (n, 3) float64
        sigma, rho and beta, of all members or of each.
    """

    initial: np.ndarray
    out: np.ndarray
    save_every: int
    dt: float
    parameters: tuple[float, float, float] | np.ndarray


class AnalysisJob(NamedTuple):
    """Batched 3D-Var.

    Attributes
    ----------
    background : (n, 3)
    observation : (n, obs_dim)
        With `gaps`, NaN is a missing value.
    b_matrices : (1, 3, 3) or (n, 3, 3)
        B of all samples, or of each sample.
    r_matrices : (1, obs_dim, obs_dim) or (n, obs_dim, obs_dim)
        R of all samples, or of each sample.
    components, powers : tuple of int
        The observation operator.
    n_starts : int
        Starting points tried, one per basin of the cost.
    max_iter : int
        Largest number of iterations per start.
    tol : float
        The iteration ends at a relative step below this.
    gaps : bool
        Whether values may be missing. They have no row in H and R, and the residual
        NaN; without any value the analysis is the background, with the cost 0.
    """

    background: np.ndarray
    observation: np.ndarray
    b_matrices: np.ndarray
    r_matrices: np.ndarray
    components: tuple[int, ...]
    powers: tuple[int, ...]
    n_starts: int
    max_iter: int
    tol: float
    gaps: bool = False


class TangentJob(NamedTuple):
    """The tangent-linear model or its adjoint, applied to vectors.

    Attributes
    ----------
    state : (n, 3)
        States at the start.
    vectors : (n, k, 3)
        k >= 1 vectors per state. Tangent-linear: perturbations at the start; adjoint:
        gradients with respect to the state at the end.
    n_steps : int
        Number of model steps, at least 1.
    dt : float
    parameters : tuple of float
        As in IntegrateJob, of all members.
    """

    state: np.ndarray
    vectors: np.ndarray
    n_steps: int
    dt: float
    parameters: tuple[float, float, float]


class FilterJob(NamedTuple):
    """Forecasts, analyses, or cycles of both, of the particles of many trajectories.

    Each forecast and each analysis is a stage with its own random numbers.

    Attributes
    ----------
    states : (n, n_particles, 3) float64
    log_weights : (n, n_particles) float64
        Up to a constant; -inf means weight zero.
    observation : (n, n_cycles, obs_dim) float64, or None
        NaN is a missing value. None: a single forecast.
    noise_root : (3, 3) float64, or None
        Root of the covariance of the model error added after a forecast.
    whitening : (2^obs_dim, obs_dim, obs_dim) float64
        Lower triangular W with R^-1 = W^T W, for each set of values that are present,
        numbered by its bits, with zeros in the rows and columns of missing values.
    rescue_root : (3, 3) float64, or None
        Lower triangular. A filter that has lost the truth resamples all particles and
        adds noise with the forecast covariance, or with this root where that is too
        narrow, scaled so that it explains the misfit. None: no such rescue.
    n_steps : int or None
        Model steps of each forecast; None: analyses only.
    dt : float
    parameters : tuple of float, or (n, 3) float64
        As in IntegrateJob, of all trajectories or of each.
    components, powers : tuple of int
        The observation operator.
    threshold : float
        Resample where the effective size is at most this share of n_particles.
    bandwidth : float
        Noise added to particles drawn more than once, in standard deviations.
    lost : (2^obs_dim,) float64
        For each such set: the filter has lost the truth where |W (y - h)|^2 of the best
        particle is above this.
    folded : bool
        Whether mean and covariance take one particle of each mirrored pair of states.
    key : tuple of int
        Two 32-bit words, the key of the random numbers.
    first_stage : int
        Number of the first stage.
    operator : ObservationOperator, optional
        A custom operator, used instead of components and powers; Numba only.
    ancestry : bool
        Whether to return the ancestors.
    """

    states: np.ndarray
    log_weights: np.ndarray
    observation: np.ndarray | None
    noise_root: np.ndarray | None
    whitening: np.ndarray
    rescue_root: np.ndarray | None
    n_steps: int | None
    dt: float
    parameters: tuple[float, float, float] | np.ndarray
    components: tuple[int, ...]
    powers: tuple[int, ...]
    threshold: float
    bandwidth: float
    lost: np.ndarray
    folded: bool
    key: tuple[int, int]
    first_stage: int
    operator: Any = None
    ancestry: bool = False


class FilteredParticles(NamedTuple):
    """Particles after the last stage, and the results of each analysis.

    Attributes
    ----------
    states : (n, n_particles, 3)
    log_weights : (n, n_particles)
        Up to a constant; -inf for particles that became non-finite, whose states are
        set to the origin.
    background, mean, spread : (n, n_cycles, 3)
        Mean before the observation; mean and standard deviation after it.
    innovation : (n, n_cycles, obs_dim)
        y minus the mean of h(x) before the observation; NaN where y is missing.
    observed_covariance : (n, n_cycles, obs_dim, obs_dim)
        Covariance of h(x) before the observation.
    effective_size : (n, n_cycles)
        (sum w)^2 / sum w^2 after the observation.
    status : (n, n_cycles) int8
        0: converged. 2: the filter has lost the truth, or no particle has a likelihood
        above zero and the weights stay as they were. 3: no particle is finite.
    ancestors : (n, n_cycles, n_particles) int32
        The particle before each analysis that each one after it was; without
        `ancestry` the last axis is empty.
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
    ancestors: np.ndarray


class ChainJob(NamedTuple):
    """Cycles of an encoder in training (`Chain` in kernels.hpp).

    Attributes
    ----------
    values : (n_cycles, n_values) float32
        The slots of the network in every cycle, filled.
    context : (n_cycles, n, n_context) float32
        The slot `last_slot`, but for the scaled coordinates of the background and its
        innovations. With `turns` (2, n_cycles, n, n_context): also of mirror images.
    folds : bool
        Whether the coordinates are those of `fold`.
    turns : bool
        Whether the network sees the mirror image of everything where x < 0.
    signs : (obs_dim,) float32
        Of the observation of a mirror image.
    reads_slope : bool
        Whether there are two innovations for each value, as in `Encoder.innovation`.
    components, powers : (obs_dim,) int64
        Of the operator.
    observations : (n_cycles, n, obs_dim) float32
        NaN where missing.
    innovation_std : (obs_dim,) float32
    mean, std, scale : (3,) float32
        Scales of the coordinates, and unit of their increments.
    centre, reach : (3,) float64
        Estimates whose coordinates are further than `reach` from the centre are lost.
    truth : (n_cycles, n, 3) float64
        Where lost estimates continue.
    state : (n, 3) float64
    hidden : (n, n_hidden) float32
        Before the first cycle; then after the last.
    starts : (n_cycles, n, 3) float64
        Filled: the states that are forecast.
    backgrounds, analyses : (n_cycles, n, 3) float32
        Filled.
    lost : (n_cycles, n) uint8
        Filled: 1 where the estimate is lost.
    n_steps : (n_cycles,) int64
        Model steps of each forecast.
    dt, parameters
        As in IntegrateJob.
    last_slot, increment_slot : int
    other_slot : int
        Slot of an output of each cycle that stays in `values`; -1: none.
    parts_before, parts_after : tuple of int
        Slots of the hidden state.
    through : bool
        Whether gradients pass through the forecasts.
    max_gradient : float
        Largest gradient from one cycle to the one before, in units of the median one.
    """

    values: np.ndarray
    context: np.ndarray
    folds: bool
    turns: bool
    signs: np.ndarray
    reads_slope: bool
    components: np.ndarray
    powers: np.ndarray
    observations: np.ndarray
    innovation_std: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    reach: np.ndarray
    truth: np.ndarray
    state: np.ndarray
    hidden: np.ndarray
    starts: np.ndarray
    backgrounds: np.ndarray
    analyses: np.ndarray
    lost: np.ndarray
    n_steps: np.ndarray
    dt: float
    parameters: tuple[float, float, float]
    last_slot: int
    increment_slot: int
    other_slot: int
    parts_before: tuple[int, ...]
    parts_after: tuple[int, ...]
    through: bool
    max_gradient: float
