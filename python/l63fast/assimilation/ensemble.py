"""Ensemble Kalman filters: stochastic, square-root and finite-size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation import ensemble_update as update
from l63fast.assimilation.scheme import (
    Analysis,
    Draws,
    KalmanSettings,
    Status,
    complete_apart,
    finite_members,
    first_members,
    forecast_members,
    lost_beyond,
    observed_values,
    present_whitening,
)
from l63fast.assimilation.smoothing import BackwardStep, smoothed_back
from l63fast.lorenz63 import Climatology, model_errors
from l63fast.observation import as_operator

VARIANTS: Final = ("square_root", "stochastic", "finite_size")
SMOOTHERS: Final = ("enrts", "enks")


class Ensemble(NamedTuple):
    """Members (n, n_members, 3), and the position in the random stream.

    With a smoother `past` has the forecasts of the last cycles, the oldest first, or
    the updated members (n, n_members, 3) of the last analyses, the latest first.
    """

    members: np.ndarray
    draws: Draws
    past: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class EnKF(KalmanSettings):
    """An ensemble Kalman filter; its state is an `Ensemble` of each trajectory.

    A nonlinear operator is applied to the members: the gain uses cov(x, h(x)). The
    first members are drawn from N(background, B); each forecast adds N(0, Q) to each
    member.

    Parameters
    ----------
    operator, B, R, Q, smoother_lag, dt, parameters, n_threads, backend
        As in `KalmanSettings`.
    inflation : float
        Factor on the anomalies of each analysis.
    smoother : {"enrts", "enks"}
        With a `smoother_lag`: take each analysis back through the forecasts (Raanes
        2016), or update earlier members with the present ones (Evensen & van Leeuwen
        2000), which draws other rotations.
    n_members : int
        At least 3.
    variant : {"square_root", "stochastic", "finite_size"}
        Symmetric transform; perturbed observations; or the transform after the adaptive
        prior inflation of EnKF-N (Bocquet, Raanes & Hannart 2015).
    rotation : bool
        Rotate the analysed anomalies at random about their mean; ignored by
        "stochastic".
    prior_certainty : float
        For "finite_size": factor on the certainty of the prior of the inflation (xN in
        DAPPER). Above 1 the inflation stays nearer to 1, for more linear systems.
    climatology : Climatology, optional
        For "finite_size": the inflated analysis covariance may not exceed this in any
        direction; without it a small ensemble can lose the truth for good.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    _takes_own: ClassVar[bool] = True
    n_members: int = 20
    variant: str = "square_root"
    rotation: bool = True
    prior_certainty: float = 1.0
    climatology: Climatology | None = None
    smoother: str = "enrts"

    def _checked(self) -> dict[str, Any]:
        if self.climatology is not None:
            _checks.instance("climatology", self.climatology, Climatology)
            C, dtype = self.climatology.covariance, np.dtype(np.float64)
            _checks.covariance("climatology", C, size=3, dtype=dtype, shape=())
        return {
            **super()._checked(),
            "n_members": _checks.count("n_members", self.n_members, minimum=3),
            "variant": _checks.choice("variant", self.variant, VARIANTS),
            "rotation": _checks.boolean("rotation", self.rotation),
            "smoother": _checks.choice("smoother", self.smoother, SMOOTHERS),
            "prior_certainty": _checks.real(
                "prior_certainty", self.prior_certainty, above=0.0
            ),
        }

    @ieee_arithmetic()
    def initial(self, background: np.ndarray, rng: np.random.Generator) -> Ensemble:
        """Return members drawn from N(background, B)."""
        return Ensemble(*first_members(background, self.B, self.n_members, rng))

    @ieee_arithmetic()
    def forecast(self, state: Ensemble, n_steps: int) -> Ensemble:
        """Return the members `n_steps` model steps later, with model errors added."""
        members, draws = (
            forecast_members(state.members, n_steps, **self._model),
            state.draws,
        )
        if self.Q is not None:
            normals, draws = draws.normals(len(members), members.shape[1:])
            members = members + model_errors(normals, self.Q)
        past = state.past
        if self._updates_past:
            past = (state.members, *past)[: self.smoother_lag]
        elif self.smoother_lag:
            step = _backward_step(state.members, members)
            past = (*past, step)[-self.smoother_lag :]
        return Ensemble(members, draws, past)

    @ieee_arithmetic()
    def analyse(
        self, state: Ensemble, obs_window: np.ndarray
    ) -> tuple[Ensemble, Analysis]:
        """Return the ensemble after the latest observation, and its analysis.

        The spread is that of the analysed members, inflation included. The status is
        DIVERGED where the filter has lost the truth: the ensemble covariance gives such
        an innovation with a probability below 1e-9. Its members are used as they are.
        Where no value is present, the members stay as they are.
        """
        normals, draws = self._random_numbers(state)
        members, past = state.members, state.past
        if self._updates_past:
            members = np.concatenate([members, *past], axis=-1)
        with np.errstate(over="ignore", invalid="ignore"):
            finite = _is_finite(members)
            analysis = finite_members(
                partial(complete_apart, self._analysis),
                finite,
                observed_values(obs_window[:, -1]),
                members,
                normals,
            )
        assert analysis.members is not None
        members, smoothed = analysis.members, None
        if self._updates_past:
            members, *before = np.split(members, 1 + len(past), axis=-1)
            past, smoothed = tuple(before), np.full_like(analysis.state, np.nan)
            if len(past) == self.smoother_lag:
                smoothed = update.ensemble_mean(past[-1])
        elif self.smoother_lag:
            smoothed = smoothed_back(analysis.state, past, self.smoother_lag)
        analysis = replace(analysis, members=members, smoothed=smoothed)
        return Ensemble(members, draws, past), analysis

    @property
    def _updates_past(self) -> bool:
        """Whether each analysis updates the members of earlier ones too."""
        return self.smoother_lag > 0 and self.smoother == "enks"

    def _random_numbers(self, state: Ensemble) -> tuple[np.ndarray, Draws]:
        # For all trajectories, also the non-finite ones: the numbers of a trajectory
        # must not depend on the others.
        n, n_members = state.members.shape[:2]
        if self.variant == "stochastic":
            return state.draws.normals(n, (n_members, len(self.R)))
        if self.rotation and self._updates_past:
            return state.draws.normals(n, (n_members - 1, n_members - 1))
        if self.rotation:
            return state.draws.normals(n, (n_members, 3))
        return np.empty((n, 0)), state.draws

    @cached_property
    def _whitening(self) -> tuple[np.ndarray, np.ndarray]:
        return update.whitening(self.R)

    def _analysis(
        self, observation: np.ndarray, members: np.ndarray, normals: np.ndarray
    ) -> Analysis:
        operator = as_operator(self.operator)
        root, whiten = self._whitening
        ensemble = update.observe_members(members, observation, operator, root, whiten)
        innovation = ensemble.innovation @ root.T
        S = root @ ensemble.observed_covariance @ root.T + self.R
        present = ~np.isnan(observation)
        if not present.all():
            innovation = observation - update.ensemble_mean(operator(members[..., :3]))
            known = np.where(present, observation, 0.0)
            whiten = update.transposed(present_whitening(self.R, present))
            ensemble = update.observe_members(members, known, operator, root, whiten)
        analysed = self._analysed(ensemble, normals)
        if not present.all():
            # Without any value there is no analysis, and so no inflation or rotation.
            unobserved = ~present.any(axis=-1)
            analysed[unobserved] = members[unobserved]
        good = _is_finite(analysed)
        if not good.all():
            analysed[~good] = np.nan
        mean = update.ensemble_mean(analysed)
        if not present.all():  # their means were taken in another layout
            mean[unobserved] = ensemble.mean[unobserved]
        mean, before = mean[:, :3], ensemble.mean[:, :3]
        anomalies = analysed[..., :3] - mean[:, None]
        n, n_members = analysed.shape[:2]
        squares = update.ensemble_mean(anomalies * anomalies)
        # Chi-square distributed if the ensemble covariance is right.
        lost = ensemble.squared_innovation > lost_beyond(present)
        status = np.where(lost, Status.DIVERGED, Status.CONVERGED)
        return Analysis(
            state=mean,
            status=np.where(good, status, Status.NON_FINITE).astype(np.int8),
            n_iter=np.zeros(n, dtype=np.int32),
            cost=np.full(n, np.nan),
            residual=observation - operator(mean),
            background=before,
            spread=np.sqrt(squares * (n_members / (n_members - 1))),
            innovation=innovation,
            innovation_covariance=S,
            members=analysed,
        )

    def _analysed(self, ensemble: update.Observed, normals: np.ndarray) -> np.ndarray:
        """Return the analysed members, by the filter's variant."""
        # EnKF-N inflates the prior; its update is then that of the square-root filter.
        if self.variant == "finite_size":
            factor = update.adapted_inflation(ensemble, self.prior_certainty)
            if self.climatology is not None:
                widest = self.climatology.covariance
                factor = update.bounded_inflation(ensemble, factor, widest)
            ensemble = update.inflated(ensemble, factor)
        if self.variant == "stochastic":
            anomalies = update.perturbed_anomalies(ensemble, normals)
        elif self.rotation and self._updates_past:
            anomalies = update.rotated(update.symmetric_anomalies(ensemble), normals)
        elif self.rotation:
            anomalies = update.rotated_anomalies(ensemble, normals)
        else:
            anomalies = update.symmetric_anomalies(ensemble)
        mean = update.analysed_mean(ensemble)
        # Multiplicative inflation of the analysis; the mean does not change.
        return np.asarray(mean[:, None] + self.inflation * anomalies)


def _is_finite(members: np.ndarray) -> np.ndarray:
    """Return whether all members (n, n_members, k) of a trajectory are finite, (n,)."""
    # Along one axis: three times faster than along two.
    flat = np.isfinite(members).reshape(len(members), math.prod(members.shape[1:]))
    return np.asarray(flat.all(axis=1))


@np.errstate(over="ignore", invalid="ignore")
def _backward_step(before: np.ndarray, after: np.ndarray) -> BackwardStep:
    """Return the step of members (n, n_members, 3) and their forecasts."""
    x_a, x_f = update.ensemble_mean(before), update.ensemble_mean(after)
    A, F = before - x_a[:, None], after - x_f[:, None]
    return BackwardStep.of(x_a, x_f, update.covariances(A, F), update.covariances(F, F))
