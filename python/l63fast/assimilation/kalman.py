"""The climatological mean, optimal interpolation, and the extended Kalman filter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation.agreement import FromTwin
from l63fast.assimilation.scheme import (
    Analysis,
    KalmanSettings,
    Status,
    claimed_innovations,
    finite_members,
    lost_beyond,
    observed_values,
    present_block,
    propagate_members,
)
from l63fast.assimilation.smoothing import BackwardStep, smoothed_back
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import Climatology
from l63fast.observation import ObservationOperator, as_operator


@dataclass(frozen=True, eq=False)
class _FromClimatology(FromTwin):
    """A scheme whose background is always the climatological mean.

    Its state is this mean, repeated for each trajectory (n, 3); the forecast does not
    change it.
    """

    operator: ObservationOperator | str
    climatology: Climatology

    def __post_init__(self) -> None:
        _checks.instance("climatology", self.climatology, Climatology)
        object.__setattr__(self, "operator", as_operator(self.operator))

    @property
    def window(self) -> int:
        """A window of one observation, the latest."""
        return 1

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the climatological mean (n, 3) instead of the background."""
        return np.tile(self.climatology.mean, (len(background), 1))

    def forecast(self, state: np.ndarray, n_steps: int) -> np.ndarray:
        """Return the mean unchanged: it does not depend on time."""
        return state


class ClimatologicalMean(_FromClimatology):
    """The climatological mean as the analysis: the reference without observations.

    Parameters
    ----------
    operator : ObservationOperator or its name
    climatology : Climatology
        Of the training split.
    """

    @ieee_arithmetic()
    def analyse(
        self, state: np.ndarray, obs_window: np.ndarray
    ) -> tuple[np.ndarray, Analysis]:
        """Return the mean, and an analysis that equals it."""
        n = len(state)
        operator = as_operator(self.operator)
        spread = np.sqrt(np.diag(self.climatology.covariance))
        return state, Analysis(
            state=state,
            status=np.full(n, Status.CONVERGED, dtype=np.int8),
            n_iter=np.zeros(n, dtype=np.int32),
            cost=np.full(n, np.nan),
            residual=observed_values(obs_window[:, -1]) - operator(state),
            background=state,
            spread=np.tile(spread, (n, 1)),
        )


@dataclass(frozen=True, eq=False)
class OptimalInterpolation(_FromClimatology):
    """The climatological mean corrected by the latest observation, with B = C.

    For linear h this is the best estimate that is linear in this observation. For
    nonlinear h it is the minimum of the variational cost.

    Parameters
    ----------
    operator : ObservationOperator or its name
    climatology : Climatology
        Of the training split.
    R : (obs_dim, obs_dim)
        Covariance of the observation error.
    """

    R: np.ndarray

    @ieee_arithmetic()
    def analyse(
        self, state: np.ndarray, obs_window: np.ndarray
    ) -> tuple[np.ndarray, Analysis]:
        """Return the mean as the state, and the analysis of the latest observation."""
        observation = observed_values(obs_window[:, -1])
        C = self.climatology.covariance
        analysis = three_d_var(
            state, observation, self.operator, B=C, R=self.R, missing="nan"
        )
        innovation, covariance = claimed_innovations(
            state, observation, as_operator(self.operator), C, self.R
        )
        return state, replace(
            analysis, innovation=innovation, innovation_covariance=covariance
        )


_SMALLEST_VARIANCE: Final = 1e-13  # relative to the largest, well above rounding errors


class Gaussian(NamedTuple):
    """Mean (n, 3) and covariance (n, 3, 3) of each trajectory's state.

    With a smoother `past` has the forecasts of the last cycles, the oldest first.
    """

    mean: np.ndarray
    covariance: np.ndarray
    past: tuple[BackwardStep, ...] = ()


@dataclass(frozen=True, eq=False)
class ExtendedKalman(KalmanSettings):
    """The extended Kalman filter; its state is a `Gaussian`.

    The forecast covariance is P_f = inflation^2 M P_a M^T + Q, where M is the exact
    derivative of the model's steps. The analysis minimises the variational cost
    with B = P_f. This is the Kalman update for linear h, and the iterated filter of
    Bell & Cathey (1993), with H at the analysis, for nonlinear h.

    Its settings are those of `KalmanSettings`; the inflation acts in each forecast. The
    smoother is that of Rauch, Tung & Striebel (1965).
    """

    @ieee_arithmetic()
    def initial(self, background: np.ndarray, rng: np.random.Generator) -> Gaussian:
        """Return the background with the covariance B."""
        return Gaussian(background, np.tile(self.B, (len(background), 1, 1)))

    @ieee_arithmetic()
    def forecast(self, state: Gaussian, n_steps: int) -> Gaussian:
        """Return mean and covariance `n_steps` model steps later."""
        mean, M = propagate_members(state.mean, n_steps, **self._model)
        with np.errstate(over="ignore", invalid="ignore"):
            # Squared, since the inflation is a factor on standard deviations.
            P = self.inflation**2 * (M @ state.covariance @ _transposed(M))
            if self.Q is not None:
                P = P + self.Q
            P, past = _symmetric(P), state.past
            if self.smoother_lag:
                # The inflation is one of the analysis before the forecast.
                cross = self.inflation**2 * (state.covariance @ _transposed(M))
                step = BackwardStep.of(state.mean, mean, cross, P)
                past = (*past, step)[-self.smoother_lag :]
            return Gaussian(mean, P, past)

    @ieee_arithmetic()
    def analyse(
        self, state: Gaussian, obs_window: np.ndarray
    ) -> tuple[Gaussian, Analysis]:
        """Return mean and covariance after the latest observation, and the analysis.

        The status is DIVERGED where the filter has lost the truth: its covariance gives
        such an innovation with a probability below 1e-9. Its state is used as it is.
        """
        mean, P, past = state
        operator, observation = (
            as_operator(self.operator),
            observed_values(obs_window[:, -1]),
        )
        finite = np.isfinite(mean).all(axis=-1) & np.isfinite(P).all(axis=(-2, -1))
        analysis = finite_members(self._minimum, finite, mean, P, observation)
        innovation, S = claimed_innovations(mean, observation, operator, P, self.R)
        with np.errstate(over="ignore", invalid="ignore"):
            # H at the analysis, where the cost is at its minimum: the iterated filter.
            H, R, d, S_d = operator.jacobian(analysis.state), self.R, innovation, S
            present = ~np.isnan(observation)
            if not present.all():
                H, d = np.where(present[..., None], H, 0.0), np.where(present, d, 0.0)
                R, S_d = present_block(R, present), present_block(S, present)
            P_a = _joseph(P, H, R)
            P_a[~finite] = np.nan
            weighted = np.linalg.solve(S_d, d[..., None])[..., 0]
            # If P is right, d^T S^-1 d is chi-square distributed.
            lost = (d * weighted).sum(axis=-1) > lost_beyond(present)
        return Gaussian(analysis.state, P_a, past), replace(
            analysis,
            smoothed=smoothed_back(analysis.state, past, self.smoother_lag),
            status=np.where(lost & finite, np.int8(Status.DIVERGED), analysis.status),
            background=mean,
            # Rounding may leave a variance just below 0.
            spread=np.sqrt(np.maximum(np.diagonal(P_a, axis1=-2, axis2=-1), 0.0)),
            innovation=innovation,
            innovation_covariance=S,
        )

    def _minimum(
        self, mean: np.ndarray, P: np.ndarray, observation: np.ndarray
    ) -> Analysis:
        return three_d_var(
            mean,
            observation,
            self.operator,
            B=_definite(P),
            R=self.R,
            missing="nan",
            n_threads=self.n_threads,
            backend=self.backend,
        )


def _joseph(P: np.ndarray, H: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Return (I - K H) P (I - K H)^T + K R K^T (Bucy & Joseph 1968, chapter 16).

    In exact arithmetic it equals P - K H P, but this form stays positive semidefinite
    under rounding errors.
    """
    HP = H @ P
    # K^T = (H P H^T + R)^-1 H P, solved without forming the inverse.
    K = _transposed(np.linalg.solve(HP @ _transposed(H) + R, HP))
    kept = np.eye(3) - K @ H
    return _symmetric(kept @ P @ _transposed(kept) + K @ R @ _transposed(K))


def _definite(P: np.ndarray) -> np.ndarray:
    """Return P with all eigenvalues at least 1e-13 of the largest.

    Errors across the attractor decay at the rate 14.6. Without model error their
    variance soon is below the rounding errors of the others, and may become negative.
    """
    variances, axes = np.linalg.eigh(P)
    lowest = _SMALLEST_VARIANCE * variances[:, -1:]
    flat = variances[:, 0] < lowest[:, 0]
    if not flat.any():
        return P
    # As root root^T, so that rounding cannot make it indefinite again.
    root = axes[flat] * np.sqrt(np.maximum(variances, lowest)[flat])[:, None]
    definite = P.copy()
    definite[flat] = _symmetric(root @ _transposed(root))
    return definite


def _symmetric(matrices: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (matrices + _transposed(matrices)))


def _transposed(matrices: np.ndarray) -> np.ndarray:
    return np.swapaxes(matrices, -1, -2)
