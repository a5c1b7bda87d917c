"""Methods with a constant B or none: climatology, interpolation, 3D-Var, 4D-Var."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from l63fast import _checks
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.kalman import ClimatologicalMean, OptimalInterpolation
from l63fast.assimilation.scheme import Analysis, Status, forecast_members
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.experiments.protocols import Cycles, Fitted, Problem, Windows
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment

__all__ = [
    "Background",
    "Climatology",
    "FourDimensional",
    "Interpolation",
    "Variational",
]

_WINDOW_SCALES: Final = tuple(float(s) for s in np.geomspace(0.0625, 2.0, 6))


@dataclass(frozen=True)
class Background:
    """The background itself: in windows what is drawn, in cycles a free forecast."""

    scheme: ClassVar[str] = "background"
    role: ClassVar[str] = "baseline"

    def fit(self, problem: Problem) -> Fitted:
        """Return the method; there is nothing to tune."""
        return Fitted(_NoAnalysis(problem.twin), "background")


class _NoAnalysis:
    """A scheme that leaves the background (n, 3) as it is."""

    window = 1

    def __init__(self, twin: TwinExperiment) -> None:
        settings = twin.settings
        self.operator = ObservationOperator(settings.operator)
        self.model: dict[str, Any] = {
            "dt": settings.dt,
            "parameters": settings.parameters,
        }

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the background."""
        return background

    def forecast(self, state: np.ndarray, n_steps: int) -> np.ndarray:
        """Return the state `n_steps` model steps later."""
        return forecast_members(state, n_steps, **self.model)

    def analyse(
        self, state: np.ndarray, obs_window: np.ndarray
    ) -> tuple[np.ndarray, Analysis]:
        """Return the state, and how far from it the observations are."""
        finite = np.isfinite(state).all(axis=-1)
        status = np.where(finite, Status.CONVERGED, Status.NON_FINITE)
        return state, Analysis(
            state=state,
            status=status.astype(np.int8),
            n_iter=np.zeros(len(state), dtype=np.int32),
            cost=np.full(len(state), np.nan),
            residual=obs_window[:, -1] - self.operator(state),
            background=state,
        )


@dataclass(frozen=True)
class Climatology:
    """The climatological mean, always."""

    scheme: ClassVar[str] = "climatology"
    role: ClassVar[str] = "baseline"

    def fit(self, problem: Problem) -> Fitted:
        """Return the method; there is nothing to tune."""
        return Fitted(ClimatologicalMean.for_twin(problem.twin), "climatology")


@dataclass(frozen=True)
class Interpolation:
    """Optimal interpolation: the climatological mean corrected by the observation."""

    scheme: ClassVar[str] = "oi"
    role: ClassVar[str] = "method"

    def fit(self, problem: Problem) -> Fitted:
        """Return the method; there is nothing to tune."""
        return Fitted(OptimalInterpolation.for_twin(problem.twin), "optimal interp.")


@dataclass(frozen=True)
class Variational:
    """3D-Var with a constant B.

    Attributes
    ----------
    B : {"climatology", "forecast"}
        The climatological covariance C, or the error covariance of the backgrounds: in
        cycles, of the scheme's own forecasts.
    b_scale : float, optional
        Factor on it; tuned if not given.
    """

    scheme: ClassVar[str] = "3dvar"
    role: ClassVar[str] = "method"
    B: str = "forecast"
    b_scale: float | None = None

    def __post_init__(self) -> None:
        _checks.choice("B", self.B, ("climatology", "forecast"))
        if self.b_scale is not None:
            _checks.real("b_scale", self.b_scale, above=0.0)

    def fit(self, problem: Problem) -> Fitted:
        """Return 3D-Var; the scale of B is tuned where it is not given."""
        twin, label, given = problem.twin, "3D-Var", self.b_scale
        if self.B == "climatology":
            B, label = twin.climatology.covariance, "3D-Var, b C"
        elif isinstance(problem.protocol, Cycles):
            errors = problem.cycled_errors
            B = errors.scheme.B / errors.tuning.scale
        else:
            return self._in_windows(problem, problem.protocol)

        def scaled(scale: float) -> ThreeDVar:
            return ThreeDVar.for_twin(twin, B=scale * B)

        return problem.tuned(Fitted(None, label), "b", scaled, given)

    def _in_windows(self, problem: Problem, protocol: Windows) -> Fitted:
        """Return 3D-Var of windows, with the scale of B that all methods share."""
        given = protocol.b_scale if self.b_scale is None else self.b_scale
        tuning = problem.window_tuning if given is None else None
        scale = tuning.scale if tuning is not None else given
        assert scale is not None
        scheme = ThreeDVar.for_twin(problem.twin, B=scale * problem.backgrounds.B)
        return Fitted(scheme, "3D-Var", parameter="b", value=scale, tuning=tuning)


@dataclass(frozen=True)
class FourDimensional:
    """4D-Var over a window; its B is the error covariance of a forecast at its start.

    Attributes
    ----------
    window : int, optional
        Observations in it; by default 4 in cycles, and what windows hold.
    b_scale : float, optional
        Factor on B; tuned if not given.
    """

    scheme: ClassVar[str] = "4dvar"
    role: ClassVar[str] = "method"
    window: int | None = None
    b_scale: float | None = None

    def __post_init__(self) -> None:
        if self.window is not None:
            _checks.count("window", self.window, minimum=1)
        if self.b_scale is not None:
            _checks.real("b_scale", self.b_scale, above=0.0)

    def fit(self, problem: Problem) -> Fitted:
        """Return 4D-Var; the scale of B is tuned where it is not given."""
        twin, protocol, B = problem.twin, problem.protocol, problem.forecast_covariance
        is_window = isinstance(protocol, Windows)
        window = protocol.window if isinstance(protocol, Windows) else self.window or 4

        def scaled(scale: float) -> FourDVar:
            return FourDVar.for_twin(twin, B=scale * B, window=window)

        base = Fitted(
            None, f"4D-Var, L={window}", start="first" if is_window else "last"
        )
        return problem.tuned(base, "b", scaled, self.b_scale, _WINDOW_SCALES)
