"""Ensemble Kalman filters: stochastic, square-root and finite-size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, NamedTuple

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
from l63fast.lorenz63 import Climatology, model_errors
from l63fast.observation import as_operator

VARIANTS: Final = ("square_root", "stochastic", "finite_size")


class Ensemble(NamedTuple):
    """Members (n, n_members, 3), and the position in the random stream."""

    members: np.ndarray
    draws: Draws


@dataclass(frozen=True, eq=False, kw_only=True)
class EnKF(KalmanSettings):
    """An ensemble Kalman filter; its state is an `Ensemble` of each trajectory.

    A nonlinear operator is applied to the members: the gain uses cov(x, h(x)). The
    first members are drawn from N(background, B); each forecast adds N(0, Q) to each
    member.

    Parameters
    ----------
    operator, B, R, Q, dt, parameters, n_threads, backend
        As in `KalmanSettings`.
    inflation : float
        Factor on the anomalies of each analysis.
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

    n_members: int = 20
    variant: str = "square_root"
    rotation: bool = True
    prior_certainty: float = 1.0
    climatology: Climatology | None = None

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
        members = forecast_members(state.members, n_steps, **self._model)
        if self.Q is None:
            return state._replace(members=members)
        normals, draws = state.draws.normals(len(members), members.shape[1:])
        return Ensemble(members + model_errors(normals, self.Q), draws)

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
        members = state.members
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
        return Ensemble(analysis.members, draws), analysis

    def _random_numbers(self, state: Ensemble) -> tuple[np.ndarray, Draws]:
        # For all trajectories, also the non-finite ones: the numbers of a trajectory
        # must not depend on the others.
        n, n_members = state.members.shape[:2]
        if self.variant == "stochastic":
            return state.draws.normals(n, (n_members, len(self.R)))
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
            innovation = observation - update.ensemble_mean(operator(members))
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
        anomalies = analysed - mean[:, None]
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
            background=ensemble.mean,
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
        elif self.rotation:
            anomalies = update.rotated_anomalies(ensemble, normals)
        else:
            anomalies = update.symmetric_anomalies(ensemble)
        mean = update.analysed_mean(ensemble)
        # Multiplicative inflation of the analysis; the mean does not change.
        return np.asarray(mean[:, None] + self.inflation * anomalies)


def _is_finite(members: np.ndarray) -> np.ndarray:
    """Return whether all members (n, n_members, 3) of a trajectory are finite, (n,)."""
    # Along one axis: three times faster than along two.
    n, n_members = members.shape[:2]
    return np.asarray(np.isfinite(members).reshape(n, 3 * n_members).all(axis=1))
