"""Filters that estimate the parameters of the model together with its state.

The state is extended by u = log(p / p_0) of the parameters p = (sigma, rho, beta) with
the nominal ones p_0: p stays positive. Members are forecast with their own
parameters, which persist, but for a small random walk; the observations correct them
through their covariance with what is observed, or through the weights of particles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from l63fast import _checks, _random
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation import ensemble_update as update
from l63fast.assimilation.scheme import (
    Analysis,
    Draws,
    FilterSettings,
    KalmanSettings,
    Status,
    forecast_members,
    lost_beyond,
    observed_values,
    present_whitening,
)
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import model_errors
from l63fast.observation import as_operator

_LARGEST_LOG: Final = 0.7  # a factor of two; beyond it a step of 0.01 may be unstable
_DIMENSIONS: Final = 6
_RESCUED: Final = 1.0  # scatter of parameters, in standard deviations of the prior


class JointState(NamedTuple):
    """Members with their own parameters.

    Attributes
    ----------
    members, logs : (n, n_members, 3)
        States, and logarithms of the parameters in units of the nominal ones.
    log_weights : (n, n_members)
        Up to a constant; of a Kalman filter zeros.
    draws : Draws
    """

    members: np.ndarray
    logs: np.ndarray
    log_weights: np.ndarray
    draws: Draws


@dataclass(frozen=True, eq=False, kw_only=True)
class _Joint(FilterSettings):
    """Settings that both filters share.

    Parameters
    ----------
    operator, B, R, Q, dt, parameters, n_threads, backend
        As in `FilterSettings`; `parameters` are the nominal ones.
    prior_spread : float or (3,)
        Half the width of the uniform prior of each parameter, as a share of its nominal
        value; 0 for a known one.
    walk : float
        Standard deviation of the random walk of log(p) in a time unit, as a share of
        the standard deviation of its prior.
    """

    prior_spread: Any = 0.1
    walk: float = 0.0

    def _checked(self) -> dict[str, Any]:
        checked = super()._checked()
        if min(self.parameters.as_tuple()) <= 0.0:
            raise ArgumentValueError(
                "parameters: expected all above 0, as their logarithms are estimated, "
                f"got {self.parameters}"
            )
        if self.parameters.taylor is not None:
            raise ArgumentValueError(
                "parameters: expected steps by RK4 where they are estimated, got "
                f"{self.parameters.steps_by}"
            )
        if checked["smoother_lag"]:
            raise ArgumentValueError(
                "smoother_lag: expected 0 for a filter of state and parameters, got "
                f"{checked['smoother_lag']}"
            )
        spread = np.broadcast_to(np.asarray(self.prior_spread, dtype=float), (3,))
        for value in spread.tolist():
            _checks.real("prior_spread", value, minimum=0.0, maximum=0.5)
        walk = _checks.real("walk", self.walk, minimum=0.0)
        return {**checked, "prior_spread": np.array(spread), "walk": walk}

    @property
    def nominal(self) -> np.ndarray:
        """The nominal sigma, rho and beta, (3,)."""
        return np.array(self.parameters.as_tuple())

    @property
    def _prior_deviation(self) -> np.ndarray:
        return np.asarray(self.prior_spread / np.sqrt(3.0))  # of a uniform variable

    @ieee_arithmetic()
    def forecast(self, state: JointState, n_steps: int) -> JointState:
        """Return the members `n_steps` later, each by its own parameters."""
        n_steps = _checks.count("n_steps", n_steps)
        model = self._model | {"parameters": self.nominal * np.exp(state.logs)}
        members = forecast_members(state.members, n_steps, **model)
        logs, draws, shape = state.logs, state.draws, members.shape[1:]
        if self.Q is not None:
            normals, draws = draws.normals(len(members), shape)
            members = members + model_errors(normals, self.Q)
        if self.walk:
            normals, draws = draws.normals(len(members), shape)
            width = self.walk * np.sqrt(n_steps * self.dt) * self._prior_deviation
            logs = _bounded(logs + width * normals)
        return JointState(members, logs, state.log_weights, draws)

    def _observed(
        self, state: JointState, obs_window: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the latest observation, 0 where missing, W, and what is present."""
        observation = observed_values(obs_window[:, -1])
        _checks.batch("obs_window", observation, (len(state.members),), "the members")
        present = ~np.isnan(observation)
        W = present_whitening(self.R, present)
        return np.where(present, observation, 0.0), W, present

    def _described(
        self, observation: np.ndarray, mean: np.ndarray, **values: Any
    ) -> Analysis:
        n = len(mean)
        return Analysis(
            state=mean,
            n_iter=np.zeros(n, dtype=np.int32),
            cost=np.full(n, np.nan),
            residual=observation - as_operator(self.operator)(mean),
            **values,
        )


def _bounded(logs: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(logs, -_LARGEST_LOG, _LARGEST_LOG))


@dataclass(frozen=True, eq=False, kw_only=True)
class JointEnKF(_Joint, KalmanSettings):
    """The square-root ensemble Kalman filter for state and parameters.

    The prior of log(p) is normal, with the variance of the uniform one. Inflation acts
    on the states only: parameters without dynamics have no growing errors.

    Parameters
    ----------
    operator, B, R, Q, dt, parameters, n_threads, backend, inflation
        As in `KalmanSettings`; `parameters` are the nominal ones.
    prior_spread, walk
        As in `JointParticleFilter`.
    n_members : int

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    n_members: int = 100

    def _checked(self) -> dict[str, Any]:
        n = _checks.count("n_members", self.n_members, minimum=_DIMENSIONS + 1)
        return {**super()._checked(), "n_members": n}

    @ieee_arithmetic()
    def initial(self, background: np.ndarray, rng: np.random.Generator) -> JointState:
        """Return members drawn from N(background, B), with parameters of the prior."""
        shape = (self.n_members, _DIMENSIONS)
        normals, draws = Draws.keyed_by(rng).normals(len(background), shape)
        errors = normals[..., :3] @ np.linalg.cholesky(self.B).T
        logs = _bounded(self._prior_deviation * normals[..., 3:])
        weights = np.zeros(logs.shape[:2])
        return JointState(background[:, None] + errors, logs, weights, draws)

    @ieee_arithmetic()
    @np.errstate(over="ignore", invalid="ignore")
    def analyse(
        self, state: JointState, obs_window: np.ndarray
    ) -> tuple[JointState, Analysis]:
        """Return members and parameters after the latest observation, and the analysis.

        The status is as in `EnKF`.
        """
        observation, W, present = self._observed(state, obs_window)
        operator, root = as_operator(self.operator), update.whitening(self.R)[0]
        good = np.isfinite(state.members).all(axis=(1, 2))
        members = np.where(good[:, None, None], state.members, 0.0)
        ensemble = update.observe_members(
            members, observation, operator, root, update.transposed(W)
        )
        mean = update.analysed_mean(ensemble)
        anomalies = update.symmetric_anomalies(ensemble)
        anomalies *= np.where(present.any(axis=1), self.inflation, 1.0)[:, None, None]
        of_logs = _of_logs(ensemble, state.logs)
        logs = update.analysed_mean(of_logs)[:, None]
        logs = _bounded(logs + update.symmetric_anomalies(of_logs))
        analysed = mean[:, None] + anomalies
        good &= np.isfinite(analysed).all(axis=(1, 2))
        for values in (analysed, mean, ensemble.mean):
            values[~good] = np.nan
        lost = ensemble.squared_innovation > lost_beyond(present)
        status = np.where(lost, Status.DIVERGED, Status.CONVERGED)
        parameters = self.nominal * np.exp(logs)
        y = np.where(present, observation, np.nan)
        observed = operator(members)
        deviations = observed - update.ensemble_mean(observed)[:, None]
        covariance = update.covariances(deviations, deviations)
        analysis = self._described(
            y,
            mean,
            status=np.where(good, status, Status.NON_FINITE).astype(np.int8),
            background=ensemble.mean,
            spread=analysed.std(axis=1, ddof=1),
            innovation=y - update.ensemble_mean(observed),
            innovation_covariance=covariance + self.R,
            members=analysed,
            parameters=parameters.mean(axis=1),
            parameters_spread=parameters.std(axis=1, ddof=1),
        )
        return state._replace(members=analysed, logs=logs), analysis


def _of_logs(ensemble: update.Observed, logs: np.ndarray) -> update.Observed:
    """Return the ensemble with the logarithms in place of the states."""
    mean = update.ensemble_mean(logs)
    anomalies = logs - mean[:, None]
    cross = update.covariances(anomalies, ensemble.observed_anomalies)
    return ensemble._replace(mean=mean, anomalies=anomalies, cross_covariance=cross)


@dataclass(frozen=True, eq=False, kw_only=True)
class JointParticleFilter(_Joint):
    """The regularised bootstrap particle filter for state and parameters.

    The prior of each parameter is uniform. Particles that are drawn more than once get
    noise with b^2 times the covariance of all six components, b = regularisation *
    n_particles^(-1/10), Scott's rule; their parameters are first moved towards the mean
    by the factor sqrt(1 - b^2), so that the noise does not widen their distribution
    (Liu & West 2001, section 10.3).

    Parameters
    ----------
    operator, B, R, Q, dt, parameters, n_threads, backend
        As in `FilterSettings`; `parameters` are the nominal ones. The operator must
        show the sign of the state.
    prior_spread : float or (3,)
        Half the width of the uniform prior of each parameter, as a share of its nominal
        value; 0 for a known one.
    walk : float
        Standard deviation of a random walk of log(p) in a time unit, as a share of the
        standard deviation of its prior.
    n_particles, regularisation, threshold
        As in `ParticleFilter`.
    state_noise : float
        Factor on the states' part of this noise. With 1/2 the noise adds as much
        covariance of states and parameters, b^2 / 2, as the move takes away.
    rescue : bool
        Scatter the particles by B, and their parameters by the width of the prior,
        where the filter has lost the truth.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    n_particles: int = 1000
    regularisation: float = 0.5
    threshold: float = 0.5
    state_noise: float = 0.5
    rescue: bool = True

    def _checked(self) -> dict[str, Any]:
        checked = super()._checked()
        if checked["operator"].is_mirror_blind:
            raise ArgumentValueError(
                "operator: expected one that shows the sign of the state, got "
                f"{checked['operator'].name!r}"
            )
        count, real = _checks.count, _checks.real
        return {
            **checked,
            "n_particles": count("n_particles", self.n_particles, minimum=2),
            "regularisation": real("regularisation", self.regularisation, minimum=0.0),
            "threshold": real("threshold", self.threshold, minimum=0.0, maximum=1.0),
            "state_noise": real("state_noise", self.state_noise, minimum=0.0),
            "rescue": _checks.boolean("rescue", self.rescue),
        }

    @property
    def _bandwidth(self) -> float:
        scott = self.n_particles ** (-1.0 / (_DIMENSIONS + 4))
        return float(min(self.regularisation * scott, 0.99))

    @cached_property
    def _known(self) -> np.ndarray:
        return np.asarray(self.prior_spread == 0.0)

    @ieee_arithmetic()
    def initial(self, background: np.ndarray, rng: np.random.Generator) -> JointState:
        """Return particles from N(background, B), with parameters of the prior."""
        n, shape = len(background), (self.n_particles, 3)
        _checks.memory("n_particles", 8 * 40 * n * self.n_particles)
        draws = Draws.keyed_by(rng)
        uniform = _random.uniforms(
            draws.key, "scheme", "none", n, shape, draw=draws.position
        )
        draws = draws._replace(position=draws.position + 1)
        logs = np.log1p(self.prior_spread * (2.0 * uniform - 1.0))
        normals, draws = draws.normals(n, shape)
        states = background[:, None] + normals @ np.linalg.cholesky(self.B).T
        return JointState(states, logs, np.zeros(shape[:1])[None].repeat(n, 0), draws)

    @ieee_arithmetic()
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def analyse(
        self, state: JointState, obs_window: np.ndarray
    ) -> tuple[JointState, Analysis]:
        """Return the particles after the latest observation, and the analysis.

        The status is as in `ParticleFilter`. Where no particle is finite, all estimates
        are NaN.
        """
        observation, W, present = self._observed(state, obs_window)
        operator = as_operator(self.operator)
        usable = np.isfinite(state.members).all(axis=-1)
        members = np.where(usable[..., None], state.members, 0.0)
        both = np.concatenate([members, state.logs], axis=-1)
        log_prior = np.where(usable, state.log_weights, -np.inf)
        prior, any_left = _weights(log_prior)
        observed = operator(members)
        misfit = observation[:, None] - observed
        square = ((misfit @ np.swapaxes(W, 1, 2)) ** 2).sum(axis=-1)
        log_after = log_prior - 0.5 * np.where(np.isnan(square), np.inf, square)
        weights, likely = _weights(log_after)
        weights = np.where(likely[:, None], weights, prior)
        log_after = np.where(likely[:, None], log_after, log_prior)
        lost = likely & (
            np.where(prior > 0.0, square, np.inf).min(axis=1) > lost_beyond(present)
        )
        mean, covariance = _moments(both, weights)
        background, _ = _moments(members, prior)
        expected, observed_covariance = _moments(observed, prior)
        size = 1.0 / (weights**2).sum(axis=1)
        parameters = self.nominal * np.exp(state.logs)
        of_parameters, their_covariance = _moments(parameters, weights)
        good = np.where(likely & ~lost, Status.CONVERGED, Status.DIVERGED)
        y = np.where(present, observation, np.nan)
        analysis = self._described(
            y,
            mean[:, :3],
            status=np.where(any_left, good, Status.NON_FINITE).astype(np.int8),
            background=background,
            spread=np.sqrt(_diagonal(covariance)[:, :3]),
            innovation=y - expected,
            innovation_covariance=observed_covariance + self.R,
            effective_size=size,
            parameters=of_parameters,
            parameters_spread=np.sqrt(_diagonal(their_covariance)),
        )
        rescued = lost & self.rescue
        chosen = any_left & present.any(axis=1)
        chosen &= rescued | (size <= self.threshold * self.n_particles)
        state = state._replace(members=members, log_weights=_normal(log_after))
        if chosen.any():
            _, before = _moments(both, prior)
            moments = mean, _unbiased(covariance, before, size)
            state = self._redrawn(state, both, weights, moments, chosen, rescued)
        return state, analysis

    def _redrawn(
        self,
        state: JointState,
        both: np.ndarray,
        weights: np.ndarray,
        moments: tuple[np.ndarray, np.ndarray],
        chosen: np.ndarray,
        rescued: np.ndarray,
    ) -> JointState:
        """Resample chosen trajectories systematically; add noise to copies."""
        (n, n_particles), (mean, covariance) = weights.shape, moments
        key, position = state.draws
        offsets = _random.uniforms(key, "scheme", "none", n, (1,), draw=position)
        normals, draws = state.draws._replace(position=position + 1).normals(
            n, (n_particles, _DIMENSIONS)
        )
        members, logs = state.members.copy(), state.logs.copy()
        log_weights, b = state.log_weights.copy(), self._bandwidth
        for i in np.flatnonzero(chosen):
            edges = np.cumsum(weights[i])
            levels = (np.arange(n_particles) + offsets[i]) * (edges[-1] / n_particles)
            parents = np.minimum(np.searchsorted(edges, levels), n_particles - 1)
            drawn, same = both[i, parents], parents[1:] == parents[:-1]
            copies = np.append(False, same) | np.append(same, False)
            if rescued[i]:
                noise = np.concatenate(
                    [
                        normals[i, :, :3] @ np.linalg.cholesky(self.B).T,
                        _RESCUED * self._prior_deviation * normals[i, :, 3:],
                    ],
                    axis=-1,
                )
                drawn = drawn + noise
            else:
                centre = mean[i, 3:]
                kept = centre + np.sqrt(1.0 - b * b) * (drawn[copies, 3:] - centre)
                drawn[copies, 3:] = kept
                noise = b * normals[i, copies] @ _root(covariance[i]).T
                noise[:, :3] *= self.state_noise
                drawn[copies] += noise
            members[i] = drawn[:, :3]
            logs[i] = np.where(self._known, 0.0, _bounded(drawn[:, 3:]))
            log_weights[i] = 0.0
        return JointState(members, logs, log_weights, draws)


def _normal(log_weights: np.ndarray) -> np.ndarray:
    top = log_weights.max(axis=1, keepdims=True)
    return log_weights - np.where(np.isfinite(top), top, 0.0)


def _weights(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights with the sum 1, and whether any is above 0; else they are NaN."""
    weights = np.exp(_normal(log_weights))
    total = weights.sum(axis=1)
    return weights / np.where(total > 0.0, total, np.nan)[:, None], total > 0.0


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (n, k) and covariance (n, k, k) of weighted values (n, N, k)."""
    mean = (weights[:, None] @ values)[:, 0]
    around = values - mean[:, None]
    return mean, np.swapaxes(around, 1, 2) @ (around * weights[..., None])


def _unbiased(
    after: np.ndarray, before: np.ndarray, effective_size: np.ndarray
) -> np.ndarray:
    """Return unbiased covariances; those before where one particle has all weight."""
    others = 1.0 - 1.0 / effective_size
    alone = ~(others > 1e-10)
    unbiased = after / np.where(alone, 1.0, others)[:, None, None]
    return np.where(alone[:, None, None], before, unbiased)


def _diagonal(covariance: np.ndarray) -> np.ndarray:
    return np.diagonal(covariance, axis1=1, axis2=2)


def _root(covariance: np.ndarray) -> np.ndarray:
    variances, axes = np.linalg.eigh(np.nan_to_num(covariance))
    return np.asarray(axes * np.sqrt(np.maximum(variances, 0.0)))
