"""The jobs of the kernels, one tuple for each, and what the particle filter gives back.

Arrays are validated and C-contiguous unless said otherwise, all floats of one job of
one dtype: float64 or float32 where nothing else is said.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class IntegrateJob(NamedTuple):
    """The ensemble integration by RK4.

    Attributes
    ----------
    initial : (n, 3)
    out : (n, n_saved, 3), of any strides
        Filled, without the initial state.
    save_every : int
        Steps between saved states.
    dt : float
        Time step (time units).
    parameters : tuple of float
        sigma, rho and beta.
    """

    initial: np.ndarray
    out: np.ndarray
    save_every: int
    dt: float
    parameters: tuple[float, float, float]


class AnalysisJob(NamedTuple):
    """Batched 3D-Var.

    Attributes
    ----------
    background : (n, 3)
    observation : (n, obs_dim)
    b_matrices : (1, 3, 3) or (n, 3, 3)
    r_matrices : (1, obs_dim, obs_dim) or (n, obs_dim, obs_dim)
    components, powers : tuple of int
        The observation operator.
    n_starts : int
        Basins tried.
    max_iter : int
        Iterations at most, per start.
    tol : float
        Relative step that ends the iteration.
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


class TangentJob(NamedTuple):
    """Vectors that the derivative of some RK4 steps carries, or its transpose.

    Attributes
    ----------
    state : (n, 3)
        At the start.
    vectors : (n, k, 3)
        At least one per member. Tangent-linear: perturbations at the start; adjoint:
        gradients with respect to the state at the end.
    n_steps : int
        At least 1.
    dt, parameters
        As in IntegrateJob.
    """

    state: np.ndarray
    vectors: np.ndarray
    n_steps: int
    dt: float
    parameters: tuple[float, float, float]


class FilterJob(NamedTuple):
    """Forecasts, analyses, or cycles of both, for particles of many trajectories.

    Each forecast and each analysis is a stage with random numbers of its own.

    Attributes
    ----------
    states : (n, n_particles, 3) float64
    log_weights : (n, n_particles) float64
        Up to a constant; -inf: none.
    observation : (n, n_cycles, obs_dim) float64, or None
        None: one forecast alone.
    noise_root : (3, 3) float64, or None
        Root of the covariance of the noise that ends a forecast.
    whitening : (obs_dim, obs_dim) float64
        Lower W with R^-1 = W^T W.
    rescue_root : (3, 3) float64, or None
        Lower. Particles that have lost the truth are all drawn anew and scattered with
        the covariance of the forecast, or with this root where that is too narrow,
        scaled so that it explains the misfit. None: they are left as they are.
    n_steps : int or None
        Model steps of each forecast; None: analyses alone.
    dt, parameters
        As in IntegrateJob.
    components, powers : tuple of int
        The observation operator.
    threshold : float
        Particles are drawn anew where the effective size is at most this share.
    bandwidth : float
        Noise added to particles drawn more than once, in standard deviations.
    lost : float
        |W (y - h)|^2 of the best particle beyond which they have lost the truth.
    folded : bool
        Mean and covariance are of one of each mirrored pair of states.
    key : tuple of int
        Two 32-bit words.
    first_stage : int
    operator : ObservationOperator, optional
        One of the user's own, in place of components and powers; not for C++.
    """

    states: np.ndarray
    log_weights: np.ndarray
    observation: np.ndarray | None
    noise_root: np.ndarray | None
    whitening: np.ndarray
    rescue_root: np.ndarray | None
    n_steps: int | None
    dt: float
    parameters: tuple[float, float, float]
    components: tuple[int, ...]
    powers: tuple[int, ...]
    threshold: float
    bandwidth: float
    lost: float
    folded: bool
    key: tuple[int, int]
    first_stage: int
    operator: Any = None


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


class GruJob(NamedTuple):
    """A gated recurrent unit that reads windows of L steps from the state zero.

    Weights and biases hold the rows of r, z and the candidate below one another, as
    torch's nn.GRU keeps them. All is float32.

    Attributes
    ----------
    inputs : (n, L, n_inputs)
    input_weights : (3 n_units, n_inputs)
    state_weights : (3 n_units, n_units)
    input_bias, state_bias : (3 n_units,)
    gates : (L, n, 4 n_units)
        Filled: r, z, the candidate and its state part.
    states : (L, n, n_units)
        Filled: after each step.
    """

    inputs: np.ndarray
    input_weights: np.ndarray
    state_weights: np.ndarray
    input_bias: np.ndarray
    state_bias: np.ndarray
    gates: np.ndarray
    states: np.ndarray


class GruBackwardJob(NamedTuple):
    """The way back of a gradient through what GruJob has filled.

    Attributes
    ----------
    state_weights, gates, states
        As in GruJob.
    gradient : (n, n_units)
        With respect to the last state.
    preactivation_grad : (L, n, 4 n_units)
        Filled: with respect to the pre-activations of r and z, the candidate's state
        part and its input part.
    """

    state_weights: np.ndarray
    gates: np.ndarray
    states: np.ndarray
    gradient: np.ndarray
    preactivation_grad: np.ndarray
