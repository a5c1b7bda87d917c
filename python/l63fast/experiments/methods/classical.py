"""Methods without training: baselines, interpolation, 3D-Var, 4D-Var, filters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np

from l63fast import _checks
from l63fast.assimilation import tuning as grids
from l63fast.assimilation.agreement import Setup
from l63fast.assimilation.ensemble import SMOOTHERS, VARIANTS, EnKF
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.iterative import IEnKS
from l63fast.assimilation.kalman import (
    ClimatologicalMean,
    ExtendedKalman,
    OptimalInterpolation,
)
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Analysis, Status, forecast_members
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.experiments.protocols import Cycles, Fitted, Problem, Windows
from l63fast.experiments.settings_file import Checked, limited

_WINDOW_SCALES: Final = tuple(float(s) for s in np.geomspace(0.0625, 2.0, 6))
_NAMES: Final = {
    "square_root": "EnKF",
    "stochastic": "EnKF stoch.",
    "finite_size": "EnKF-N",
}


@dataclass(frozen=True)
class Background:
    """The background itself: in windows the drawn one, in cycles a free forecast."""

    scheme: ClassVar[str] = "background"
    role: ClassVar[str] = "baseline"

    def fit(self, problem: Problem) -> Fitted:
        """Return the method, which has nothing to tune."""
        return Fitted(FreeForecast(problem), "background")


class FreeForecast:
    """A scheme whose analysis is the background (n, 3)."""

    window = 1

    def __init__(self, problem: Problem) -> None:
        self.operator, self.model = problem.twin.operator, problem.model
        self.made_for = Setup(**self.model)

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the background."""
        return background

    def forecast(self, state: np.ndarray, n_steps: int) -> np.ndarray:
        """Return the state `n_steps` model steps later."""
        return forecast_members(state, n_steps, **self.model)

    def analyse(
        self, state: np.ndarray, obs_window: np.ndarray
    ) -> tuple[np.ndarray, Analysis]:
        """Return the state, and it as an analysis with its residuals."""
        return state, self.described(state, state, obs_window, n_iter=0)

    def described(
        self,
        state: np.ndarray,
        background: np.ndarray,
        obs_window: np.ndarray,
        *,
        n_iter: int,
    ) -> Analysis:
        """Return states (n, 3) as the `Analysis` of a scheme that has no cost."""
        finite = np.isfinite(state).all(axis=-1)
        status = np.where(finite, Status.CONVERGED, Status.NON_FINITE)
        return Analysis(
            state=state,
            status=status.astype(np.int8),
            n_iter=np.full(len(state), n_iter, dtype=np.int32),
            cost=np.full(len(state), np.nan),
            residual=obs_window[:, -1] - self.operator(state),
            background=background,
        )


@dataclass(frozen=True)
class Climatology:
    """The climatological mean as the analysis, whatever is observed."""

    scheme: ClassVar[str] = "climatology"
    role: ClassVar[str] = "baseline"

    def fit(self, problem: Problem) -> Fitted:
        """Return the method, which has nothing to tune."""
        return Fitted(ClimatologicalMean.for_twin(problem.twin), "climatology")


@dataclass(frozen=True)
class Interpolation:
    """Optimal interpolation: the climatological mean, corrected by the observation."""

    scheme: ClassVar[str] = "oi"
    role: ClassVar[str] = "method"

    def fit(self, problem: Problem) -> Fitted:
        """Return the method, which has nothing to tune."""
        return Fitted(OptimalInterpolation.for_twin(problem.twin), "optimal interp.")


@dataclass(frozen=True)
class Variational(Checked):
    """3D-Var with a constant B.

    Attributes
    ----------
    B : {"climatology", "forecast"}
        The climatological covariance C, or the error covariance of the backgrounds; in
        cycles these are the scheme's own forecasts.
    b_scale : float, optional
        Factor on this covariance; tuned if not given.
    """

    scheme: ClassVar[str] = "3dvar"
    role: ClassVar[str] = "method"
    B: str = limited("forecast", _checks.choice, allowed=("climatology", "forecast"))
    b_scale: float | None = limited(None, above=0.0)

    def fit(self, problem: Problem) -> Fitted:
        """Return 3D-Var, with a tuned scale of B if none is given."""
        twin, label, given, tuning = problem.twin, "3D-Var", self.b_scale, None
        if self.B == "climatology":
            B, label = twin.climatology.covariance, "3D-Var, b C"
        elif isinstance(problem.protocol, Cycles):
            errors = problem.cycled_errors
            B = errors.scheme.B / errors.tuning.scale
        else:  # the scale of B is that of the protocol, the same for all methods
            B = problem.backgrounds.B
            given = problem.protocol.b_scale if given is None else given
            tuning = problem.window_tuning if given is None else None
            given = given if tuning is None else tuning.scale

        def scaled(scale: float) -> ThreeDVar:
            return ThreeDVar.for_twin(twin, B=scale * B)

        fitted = problem.tuned(Fitted(None, label), "b", scaled, given)
        return fitted if tuning is None else replace(fitted, tuning=tuning)


@dataclass(frozen=True)
class FourDimensional(Checked):
    """4D-Var over a window; B is the error covariance of forecasts at its start.

    Attributes
    ----------
    window : int, optional
        Number of observations, by default 4 in cycles; windows have their own length.
    b_scale : float, optional
        Factor on B; tuned if not given.
    """

    scheme: ClassVar[str] = "4dvar"
    role: ClassVar[str] = "method"
    window: int | None = limited(None, _checks.count, minimum=1)
    b_scale: float | None = limited(None, above=0.0)

    def fit(self, problem: Problem) -> Fitted:
        """Return 4D-Var, with a tuned scale of B if none is given."""
        twin, protocol, B = problem.twin, problem.protocol, problem.forecast_covariance
        window, start = self.window or 4, "last"
        if isinstance(protocol, Windows):
            window, start = protocol.window, "first"
        lag = problem.lag if problem.lag < window else 0

        def scaled(scale: float) -> FourDVar:
            return FourDVar.for_twin(twin, B=scale * B, window=window, smoother_lag=lag)

        base = Fitted(None, f"4D-Var, L={window}", start=start)
        return problem.tuned(base, "b", scaled, self.b_scale, _WINDOW_SCALES)


class _Filter(Checked):
    """Base class of filters: settings of a scheme that estimates its own error.

    Attributes
    ----------
    made : type
        Class of the scheme.
    tuned : str
        Name of the setting that is tuned if it is not given.
    values, limits
        First values and range of the tuning, as in `tune`.
    knows_parameters : bool
        As in `Fitted`.
    """

    role: ClassVar[str] = "method"
    made: ClassVar[type[Any]]
    knows_parameters: ClassVar[bool] = False
    tuned: ClassVar[str] = "inflation"
    values: ClassVar[tuple[float, ...]]
    limits: ClassVar[tuple[float, float]] = grids.INFLATION_LIMITS

    @property
    def label(self) -> str:
        """Name of the method in tables."""
        raise NotImplementedError

    def settings(self, problem: Problem) -> dict[str, Any]:
        """Return the arguments of the scheme; the tuned one is None if not given."""
        return {**problem.filter, **vars(self)}

    def fit(self, problem: Problem) -> Fitted:
        """Return the filter, with a tuned setting if it is not given."""
        settings = self.settings(problem)
        return problem.tuned(
            Fitted(
                None,
                self.label,
                start="first",
                knows_parameters=self.knows_parameters,
            ),
            self.tuned,
            lambda value: self.made(**{**settings, self.tuned: value}),
            settings[self.tuned],
            self.values,
            self.limits,
        )


@dataclass(frozen=True)
class ExtendedKalmanFilter(_Filter):
    """The extended Kalman filter.

    Attributes
    ----------
    inflation : float, optional
        Factor on the standard deviations of the forecast error in each cycle; tuned if
        not given.
    """

    scheme: ClassVar[str] = "extkf"
    made = ExtendedKalman
    values = grids.INFLATIONS[ExtendedKalman]
    label = "extended Kalman"
    inflation: float | None = limited(None, above=0.0)


@dataclass(frozen=True)
class EnsembleKalmanFilter(_Filter):
    """An ensemble Kalman filter.

    Attributes
    ----------
    n_members : int
    variant : {"square_root", "stochastic", "finite_size"}
    rotation : bool
    inflation : float, optional
        Factor on the anomalies of the analysis in each cycle; tuned if not given.
    prior_certainty : float
        For the variant "finite_size", as in `EnKF`.
    smoother : {"enrts", "enks"}
        Of the smoothed states, as in `EnKF`.
    """

    scheme: ClassVar[str] = "enkf"
    made = EnKF
    values = grids.INFLATIONS[EnKF]
    n_members: int = limited(20, _checks.count, minimum=3)
    variant: str = limited("square_root", _checks.choice, allowed=VARIANTS)
    rotation: bool = limited(True, _checks.boolean)
    inflation: float | None = limited(None, above=0.0)
    prior_certainty: float = limited(1.0, above=0.0)
    smoother: str = limited("enrts", _checks.choice, allowed=SMOOTHERS)

    @property
    def label(self) -> str:
        """The variant and the number of members, and the smoother if it is the EnKS."""
        more = ", EnKS" if self.smoother == "enks" else ""
        return f"{_NAMES[self.variant]}, N={self.n_members}{more}"

    def settings(self, problem: Problem) -> dict[str, Any]:
        """Return the arguments of the scheme; climatology limits the spread."""
        return {**super().settings(problem), "climatology": problem.twin.climatology}


@dataclass(frozen=True)
class IterativeSmoother(_Filter):
    """The iterative ensemble Kalman smoother; at a lag of 1 the iEnKF.

    It gives smoothed states if the protocol's lag is at most its own.

    Attributes
    ----------
    n_members : int
    lag : int
        Number of cycles in the window.
    rotation : bool
    inflation : float, optional
        Factor on the anomalies at the start of the window in each cycle; tuned if not
        given.
    """

    scheme: ClassVar[str] = "ienks"
    made = IEnKS
    values = grids.INFLATIONS[IEnKS]
    n_members: int = limited(20, _checks.count, minimum=3)
    lag: int = limited(1, _checks.count, minimum=1)
    rotation: bool = limited(True, _checks.boolean)
    inflation: float | None = limited(None, above=0.0)

    @property
    def label(self) -> str:
        """The name with the number of members, and the lag above 1."""
        if self.lag == 1:
            return f"iEnKF, N={self.n_members}"
        return f"iEnKS, N={self.n_members}, L={self.lag}"

    def settings(self, problem: Problem) -> dict[str, Any]:
        """Return the arguments of the scheme; smoothed states only in the window."""
        lag = problem.lag if problem.lag <= self.lag else 0
        return {**super().settings(problem), "smoother_lag": lag}


@dataclass(frozen=True)
class BootstrapFilter(_Filter):
    """The bootstrap particle filter, regularised.

    Attributes
    ----------
    n_particles : int
    threshold : float
        Particles are resampled if the effective share of them is below this.
    regularisation : float, optional
        Width of the noise that is added after resampling; tuned if not given.
    rescue : bool
        Scatter the particles if they have lost the truth, as in `ParticleFilter`.
    """

    scheme: ClassVar[str] = "pf"
    made = ParticleFilter
    tuned = "regularisation"
    values = grids.REGULARISATIONS
    limits = grids.LIMITS
    n_particles: int = limited(1000, _checks.count, minimum=2)
    threshold: float = limited(0.2, minimum=0.0, maximum=1.0)
    regularisation: float | None = limited(None, minimum=0.0)
    rescue: bool = limited(True, _checks.boolean)

    @property
    def label(self) -> str:
        """The name with the number of particles."""
        return f"particle filter, N={self.n_particles}"
