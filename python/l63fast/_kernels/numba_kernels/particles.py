"""The particle filter in NumPy, around the integration kernel.

The algorithm is that of particle.cpp, with other random numbers: both backends agree in
distribution. The random numbers of a trajectory do not depend on how many trajectories
come after it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels.jobs import FilteredParticles, FilterJob, IntegrateJob
from l63fast._kernels.numba_kernels.integration import integrate

_DIVERGED: Final = 2
_NON_FINITE: Final = 3
# Largest factors of a rescue: of the forecast's root, and of the given rescue_root.
_WIDEST_FORECAST: Final = 3.0
_WIDEST_GIVEN: Final = 10.0
_NOISE, _JITTER, _OFFSET = range(3)  # the use of a random number


class _Moments(NamedTuple):
    mean: np.ndarray
    covariance: np.ndarray
    effective_size: np.ndarray
    side: np.ndarray  # (n, n_particles): -1 where the mirror image is used


@ieee_arithmetic()
@np.errstate(all="ignore")  # such values become NaN, and the status says so
def filter_particles(job: FilterJob, n_threads: int) -> FilteredParticles:
    """Return the particles after the job, and the results of its analyses."""
    states, log_weights = _discard_nonfinite(job.states, job.log_weights)
    stage = job.first_stage
    analyses = []
    for cycle in range(1 if job.observation is None else job.observation.shape[1]):
        if job.n_steps is not None:
            states = _forecast(states, job, stage, n_threads)
            states, log_weights = _discard_nonfinite(states, log_weights)
            stage += 1
        if job.observation is not None:
            y = job.observation[:, cycle]
            states, log_weights, analysis = _analysed(
                states, log_weights, y, job, stage
            )
            analyses.append(analysis)
            stage += 1
    if analyses:
        results = [np.stack(values, axis=1) for values in zip(*analyses, strict=True)]
        results[-1] = results[-1][..., : states.shape[1] if job.ancestry else 0]
    else:
        results = _no_analyses(len(states), len(job.components))
    return FilteredParticles(states, log_weights, *results)


def _no_analyses(n: int, m: int) -> list[np.ndarray]:
    shapes = [(3,), (m,), (m, m), (3,), (3,), ()]
    none = [np.empty((n, 0, *shape)) for shape in shapes]
    codes, ancestors = np.empty((n, 0), np.int8), np.empty((n, 0, 0), np.int32)
    return [*none, codes, ancestors]


def _generator(job: FilterJob, stage: int, use: int) -> np.random.Generator:
    low, high = job.key
    counter = np.array(
        [0, 0, use, stage], dtype=np.uint64
    )  # draws count up the lowest word
    return np.random.Generator(np.random.Philox(counter=counter, key=low | high << 32))


def _forecast(
    states: np.ndarray, job: FilterJob, stage: int, n_threads: int
) -> np.ndarray:
    later = states.copy()
    if job.n_steps and states.size:
        flat = later.reshape(-1, 1, 3)
        initial = states.reshape(-1, 3)
        parameters = job.parameters
        if isinstance(parameters, np.ndarray):  # those of its trajectory
            parameters = np.repeat(parameters, states.shape[1], axis=0)
        steps = IntegrateJob(initial, flat, job.n_steps, job.dt, parameters)
        integrate(steps, n_threads)
    if job.noise_root is not None:
        normals = _generator(job, stage, _NOISE).standard_normal(states.shape)
        later += normals @ job.noise_root.T
    return later


def _discard_nonfinite(
    states: np.ndarray, log_weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    usable = np.isfinite(states).all(axis=-1) & np.isfinite(log_weights)
    return np.where(usable[..., None], states, 0.0), np.where(
        usable, log_weights, -np.inf
    )


def _normalised(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log weights whose largest is 0, the weights, and whether any is finite."""
    top = log_weights.max(axis=1)
    good = np.isfinite(top)
    log_weights = log_weights - np.where(good, top, 0.0)[:, None]
    return log_weights, np.exp(log_weights), good


def _analysed(
    states: np.ndarray,
    log_weights: np.ndarray,
    y: np.ndarray,
    job: FilterJob,
    stage: int,
) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
    log_prior, prior, any_finite = _normalised(log_weights)
    present = ~np.isnan(y)
    pattern = present @ (1 << np.arange(y.shape[1]))
    W, limit = job.whitening[pattern], job.lost[pattern]
    # W has zeros for the missing values, so that 0 in their place changes nothing.
    misfit = np.where(present, y, 0.0)[:, None] - _observed(states, job)
    likelihood = -0.5 * ((misfit @ np.swapaxes(W, 1, 2)) ** 2).sum(axis=-1)
    likelihood[np.isnan(likelihood) | (prior == 0.0)] = -np.inf
    log_after, weights, likely = _normalised(log_prior + likelihood)
    log_after[~likely], weights[~likely] = log_prior[~likely], prior[~likely]
    after = _moments(states, weights, job.folded)
    lost = likely & (-2 * likelihood.max(axis=1) > limit)
    good = likely & ~lost
    status = np.where(good, 0, np.where(any_finite, _DIVERGED, _NON_FINITE))
    background, innovation, covariance = _before(states, prior, misfit)
    analysis = (
        background,
        np.where(present, innovation, np.nan),
        covariance,
        after.mean,
        np.sqrt(np.diagonal(after.covariance, axis1=1, axis2=2)),
        after.effective_size,
        status.astype(np.int8),
    )
    parents = np.tile(np.arange(states.shape[1], dtype=np.int32), (len(states), 1))
    rescued = lost & (job.rescue_root is not None)
    few = rescued | (after.effective_size <= job.threshold * states.shape[1])
    few &= present.any(axis=1)
    if few.any():
        before = _moments(states, prior, job.folded)
        root = job.bandwidth * _jitter_root(after, before)
        if rescued.any():
            wider = _rescue_root(states, misfit, weights, after, before, W, job)
            root = np.where(rescued[:, None, None], wider, root)
        drawn, chosen = _redrawn(states, weights, after.side, root, rescued, job, stage)
        states = np.where(few[:, None, None], drawn, states)
        log_after = np.where(few[:, None], 0.0, log_after)
        parents = np.where(few[:, None], chosen, parents)
    return states, log_after, (*analysis, parents)


def _observed(states: np.ndarray, job: FilterJob) -> np.ndarray:
    if job.operator is not None:
        return np.asarray(job.operator(states))
    return np.asarray(states[..., list(job.components)] ** np.array(job.powers))


def _before(
    states: np.ndarray, prior: np.ndarray, misfit: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    share = (prior / prior.sum(axis=1, keepdims=True))[:, None]
    innovation = (share @ misfit)[:, 0]
    around = misfit - innovation[:, None]
    covariance = np.swapaxes(around, 1, 2) @ (around * share[:, 0, :, None])
    return (share @ states)[:, 0], innovation, covariance


def _moments(states: np.ndarray, weights: np.ndarray, folded: bool) -> _Moments:
    total = weights.sum(axis=1)
    share = weights / total[:, None]
    side = np.ones_like(weights)
    if folded:
        plane = states[..., :2]
        # The principal axis of (x, y), pointing towards the mean; see posterior.hpp.
        second = np.swapaxes(plane, 1, 2) @ (plane * share[..., None])
        finite = np.isfinite(second).all(axis=(1, 2))
        second[~finite] = 0.0
        axis = np.linalg.eigh(second)[1][..., -1]
        mean = (share[:, None] @ plane)[:, 0]
        axis *= np.where((axis * mean).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        side = np.where((plane @ axis[..., None])[..., 0] < 0, -1.0, 1.0)
    seen = _mirrored(states, side)
    mean = (share[:, None] @ seen)[:, 0]
    around = seen - mean[:, None]
    covariance = np.swapaxes(around, 1, 2) @ (around * share[..., None])
    return _Moments(mean, covariance, total**2 / (weights**2).sum(axis=1), side)


def _mirrored(vectors: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Return vectors, mirrored where the side is -1."""
    return np.asarray(vectors * np.stack([side, side, np.ones_like(side)], axis=-1))


def _redrawn(
    states: np.ndarray,
    weights: np.ndarray,
    side: np.ndarray,
    root: np.ndarray,
    rescued: np.ndarray,
    job: FilterJob,
    stage: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Resample systematically; add noise to copies, or to all that are rescued.

    Returns the particles and their parents.
    """
    n, n_particles = weights.shape
    offset = _generator(job, stage, _OFFSET).random((n, 1))
    parents = np.zeros((n, n_particles), dtype=np.int32)
    for one, share, shift in zip(parents, weights, offset, strict=True):
        edges = np.cumsum(share)
        if edges[-1] > 0.0:
            levels = (np.arange(n_particles) + shift) * (edges[-1] / n_particles)
            one[:] = np.minimum(np.searchsorted(edges, levels), n_particles - 1)
    drawn = np.take_along_axis(states, parents[..., None], axis=1)
    side = np.take_along_axis(side, parents, axis=1)
    same = parents[:, 1:] == parents[:, :-1]
    moves = np.repeat(rescued[:, None], n_particles, axis=1)
    moves[:, 1:] |= same
    moves[:, :-1] |= same
    normals = _generator(job, stage, _JITTER).standard_normal(states.shape)
    scatter = normals @ np.swapaxes(root, 1, 2)
    return np.asarray(drawn + moves[..., None] * _mirrored(scatter, side)), parents


def _rescue_root(
    states: np.ndarray,
    misfit: np.ndarray,
    weights: np.ndarray,
    after: _Moments,
    before: _Moments,
    W: np.ndarray,
    job: FilterJob,
) -> np.ndarray:
    """Return the roots (n, 3, 3) of the noise that lost particles get.

    As in particle.cpp: scaled so that the standard deviation along the misfit of the
    heaviest particle equals that misfit.
    """
    heaviest = (np.arange(len(states)), weights.argmax(axis=1))
    d = (W @ misfit[heaviest][..., None])[..., 0]
    square = (d**2).sum(axis=-1)
    whitened = (d[:, None] @ W)[:, 0]
    if job.operator is not None:
        g = (whitened[:, None] @ job.operator.jacobian(states[heaviest]))[:, 0]
    else:
        components, powers = list(job.components), np.array(job.powers)
        slope = powers * states[heaviest][:, components] ** (powers - 1)
        g = np.zeros((len(states), 3))
        g[:, components] = slope * whitened
    g = _mirrored(g, after.side[heaviest])

    def needed(root: np.ndarray) -> np.ndarray:
        along = (g[:, None] @ root)[:, 0]
        return np.asarray(square / np.sqrt((along**2).sum(axis=-1)))[:, None, None]

    forecast, given = _root(before.covariance), np.asarray(job.rescue_root)
    factor = needed(forecast)
    wider = np.fmin(needed(given), _WIDEST_GIVEN)
    narrow = factor <= _WIDEST_FORECAST
    return np.asarray(np.where(narrow, factor * forecast, wider * given))


def _jitter_root(after: _Moments, before: _Moments) -> np.ndarray:
    # Unbiased covariance of weighted particles: divided by 1 - sum w^2 / (sum w)^2.
    others = 1 - 1 / after.effective_size
    alone = ~(others > 1e-10)
    unbiased = after.covariance / np.where(alone, 1.0, others)[:, None, None]
    return _root(np.where(alone[:, None, None], before.covariance, unbiased))


def _root(covariance: np.ndarray) -> np.ndarray:
    covariance = covariance.copy()
    covariance[~np.isfinite(covariance).all(axis=(1, 2))] = 0.0
    variances, axes = np.linalg.eigh(covariance)
    return np.asarray(axes * np.sqrt(np.maximum(variances, 0.0))[:, None])
