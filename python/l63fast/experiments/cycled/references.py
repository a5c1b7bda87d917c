"""Methods with a constant B or none: climatology, interpolation, 3D-Var, 4D-Var."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from l63fast import _checks
from l63fast.assimilation.cycled_tuning import tune_cycled_b_scale
from l63fast.assimilation.kalman import ClimatologicalMean, OptimalInterpolation
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.window import FourDVar
from l63fast.experiments.cycled.prepared import (
    Prepared,
    optional_real,
    tuning_options,
)
from l63fast.experiments.cycled.problem import CycledProblem

__all__ = ["Climatology", "FourDimensional", "Interpolation", "Variational"]

_WINDOW_SCALES: Final = tuple(float(s) for s in np.geomspace(0.0625, 2.0, 6))


@dataclass(frozen=True)
class Climatology:
    """The climatological mean, always."""

    scheme: ClassVar[str] = "climatology"
    role: ClassVar[str] = "baseline"

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the scheme; there is nothing to tune."""
        return Prepared(ClimatologicalMean.for_twin(problem.twin), "climatology")


@dataclass(frozen=True)
class Interpolation:
    """Optimal interpolation: the climatological mean corrected by the observation."""

    scheme: ClassVar[str] = "oi"
    role: ClassVar[str] = "method"

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the scheme; there is nothing to tune."""
        return Prepared(OptimalInterpolation.for_twin(problem.twin), "optimal interp.")


@dataclass(frozen=True)
class Variational:
    """3D-Var with a constant B.

    Attributes
    ----------
    B : {"climatology", "forecast"}
        The climatological covariance C, or the error covariance of the scheme's own
        forecasts.
    b_scale : float, optional
        Factor on it; tuned if not given.
    """

    scheme: ClassVar[str] = "3dvar"
    role: ClassVar[str] = "method"
    B: str = "forecast"
    b_scale: float | None = None

    def __post_init__(self) -> None:
        _checks.choice("B", self.B, ("climatology", "forecast"))
        optional_real("b_scale", self.b_scale, above=0.0)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return 3D-Var; the scale of B is tuned where it is not given."""
        twin, scale, tuning = problem.twin, self.b_scale, None
        if self.B == "climatology":
            B, label = twin.climatology.covariance, "3D-Var, b C"
        else:
            errors = problem.three_d_var
            B, label = errors.scheme.B / errors.tuning.scale, "3D-Var"
        base = ThreeDVar.for_twin(twin, B=B)
        if scale is None:
            tuning = tune_cycled_b_scale(base, twin, **tuning_options(problem, measure))
            scale = tuning.scale
        scheme = dataclasses.replace(base, B=scale * B)
        return Prepared(scheme, label, "b", scale, tuning)


@dataclass(frozen=True)
class FourDimensional:
    """4D-Var over a window, with the error covariance of 3D-Var's forecasts as B.

    Attributes
    ----------
    window : int
        Observations in it.
    b_scale : float, optional
        Factor on B; tuned if not given.
    """

    scheme: ClassVar[str] = "4dvar"
    role: ClassVar[str] = "method"
    window: int = 4
    b_scale: float | None = None

    def __post_init__(self) -> None:
        _checks.count("window", self.window, minimum=1)
        optional_real("b_scale", self.b_scale, above=0.0)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return 4D-Var; the scale of B is tuned where it is not given."""
        twin, scale, tuning = problem.twin, self.b_scale, None
        B = problem.three_d_var.background
        base = FourDVar.for_twin(twin, B=B, window=self.window)
        if scale is None:
            options = tuning_options(problem, measure)
            tuning = tune_cycled_b_scale(base, twin, scales=_WINDOW_SCALES, **options)
            scale = tuning.scale
        scheme = dataclasses.replace(base, B=scale * B)
        return Prepared(scheme, f"4D-Var, L={self.window}", "b", scale, tuning)
