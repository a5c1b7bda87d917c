"""The methods of cycled experiments: settings as data, and the scheme they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from l63fast import _checks
from l63fast.assimilation.cycled_tuning import (
    tune_cycled_b_scale,
    tune_inflation,
    tune_regularisation,
)
from l63fast.assimilation.ensemble import VARIANTS, EnKF
from l63fast.assimilation.extended_kalman import ExtendedKalman
from l63fast.assimilation.kalman import ClimatologicalMean, OptimalInterpolation
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Scheme
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.tuning import Tuning
from l63fast.errors import ConfigurationError
from l63fast.experiments.cycled.optimum import Convergence, converged
from l63fast.experiments.cycled.problem import CycledProblem
from l63fast.experiments.settings_file import build, to_table

__all__ = ["METHODS", "Method", "Prepared", "method_from_table", "method_table"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scheme ready to be cycled, and how it was tuned on the validation split.

    Attributes
    ----------
    scheme : Scheme
    label : str
        What tables call it.
    parameter : str
        Name of the number that can be tuned; empty if there is none.
    value : float
        Of that number; NaN if there is none.
    tuning : Tuning or None
        None where the number was given.
    convergence : Convergence or None
        How the score of a particle filter settled as its size was doubled.
    """

    scheme: Scheme[Any]
    label: str
    parameter: str = ""
    value: float = float("nan")
    tuning: Tuning | None = None
    convergence: Convergence | None = None


class Method(Protocol):
    """Settings of a method: a frozen dataclass that makes a scheme for a case."""

    scheme: ClassVar[str]

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the scheme; numbers left open are tuned on the validation split."""


@dataclass(frozen=True)
class Climatology:
    """The climatological mean, always."""

    scheme: ClassVar[str] = "climatology"

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the scheme; there is nothing to tune."""
        twin = problem.twin
        return Prepared(
            ClimatologicalMean(twin.operator, twin.climatology), "climatology"
        )


@dataclass(frozen=True)
class Interpolation:
    """Optimal interpolation: the climatological mean corrected by the observation."""

    scheme: ClassVar[str] = "oi"

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the scheme; there is nothing to tune."""
        twin = problem.twin
        return Prepared(
            OptimalInterpolation(twin.operator, twin.climatology, twin.R),
            "optimal interp.",
        )


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
    B: str = "forecast"
    b_scale: float | None = None

    def __post_init__(self) -> None:
        _checks.choice("B", self.B, ("climatology", "forecast"))
        _given("b_scale", self.b_scale, above=0.0)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return 3D-Var; the scale of B is tuned where it is not given."""
        twin, scale, tuning = problem.twin, self.b_scale, None
        if self.B == "climatology":
            B, label = twin.climatology.covariance, "3D-Var, b C"
        else:
            errors = problem.three_d_var
            B, label = errors.scheme.B / errors.tuning.scale, "3D-Var"
        base = ThreeDVar(twin.operator, B, twin.R, **problem.model)
        if scale is None and self.B == "forecast":
            tuning = errors.tuning
        elif scale is None:
            tuning = tune_cycled_b_scale(base, twin, **_options(problem, measure))
        if scale is None:
            assert tuning is not None
            scale = tuning.scale
        scheme = dataclasses.replace(base, B=scale * B)
        return Prepared(scheme, label, "b", scale, tuning)


@dataclass(frozen=True)
class ExtendedKalmanFilter:
    """The extended Kalman filter.

    Attributes
    ----------
    inflation : float, optional
        Factor on the standard deviations of each forecast; tuned if not given.
    """

    scheme: ClassVar[str] = "extkf"
    inflation: float | None = None

    def __post_init__(self) -> None:
        _given("inflation", self.inflation, above=0.0)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the filter; its inflation is tuned where it is not given."""
        return _inflated(
            ExtendedKalman(**problem.filter),
            "extended Kalman",
            self.inflation,
            problem,
            measure,
        )


@dataclass(frozen=True)
class EnsembleKalmanFilter:
    """An ensemble Kalman filter.

    Attributes
    ----------
    n_members : int
    variant : {"square_root", "stochastic", "finite_size"}
    rotation : bool
    inflation : float, optional
        Factor on the anomalies of each analysis; tuned if not given.
    """

    scheme: ClassVar[str] = "enkf"
    n_members: int = 20
    variant: str = "square_root"
    rotation: bool = True
    inflation: float | None = None

    def __post_init__(self) -> None:
        _checks.count("n_members", self.n_members, minimum=4)
        _checks.choice("variant", self.variant, VARIANTS)
        _given("inflation", self.inflation, above=0.0)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the filter; its inflation is tuned where it is not given."""
        names = {
            "square_root": "EnKF",
            "stochastic": "EnKF stochastic",
            "finite_size": "EnKF-N",
        }
        scheme = EnKF(
            **problem.filter,
            n_members=self.n_members,
            variant=self.variant,
            rotation=self.rotation,
        )
        label = f"{names[self.variant]}, N={self.n_members}"
        return _inflated(scheme, label, self.inflation, problem, measure)


@dataclass(frozen=True)
class BootstrapFilter:
    """The bootstrap particle filter, regularised.

    Attributes
    ----------
    n_particles : int
    threshold : float
        Share of effective particles below which they are drawn anew.
    regularisation : float, optional
        Width of the noise on copies; tuned if not given.
    """

    scheme: ClassVar[str] = "pf"
    n_particles: int = 1000
    threshold: float = 0.2
    regularisation: float | None = None

    def __post_init__(self) -> None:
        _checks.count("n_particles", self.n_particles, minimum=2)
        _checks.real("threshold", self.threshold, minimum=0.0, maximum=1.0)
        _given("regularisation", self.regularisation, minimum=0.0)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the filter; its regularisation is tuned where it is not given."""
        base = ParticleFilter(
            **problem.filter, n_particles=self.n_particles, threshold=self.threshold
        )
        value, tuning = self.regularisation, None
        if value is None:
            options = _options(problem, measure)
            tuning = tune_regularisation(base, problem.twin, **options)
            value = tuning.scale
        return Prepared(
            dataclasses.replace(base, regularisation=value),
            f"particles, N={self.n_particles}",
            "regularisation",
            value,
            tuning,
        )


@dataclass(frozen=True)
class Optimum:
    """A particle filter so large that a larger one scores the same.

    On the validation split its size is doubled, and its regularisation lowered where
    that is better, until the score moves by less than the tolerance.

    Attributes
    ----------
    n_particles, max_particles : int
        The first size, and the largest.
    tolerance : float
        Relative change of the score that counts as none.
    regularisation, threshold : float
        Of the first size, as in `ParticleFilter`.
    """

    scheme: ClassVar[str] = "optimum"
    n_particles: int = 1000
    max_particles: int = 64_000
    tolerance: float = 0.005
    regularisation: float = 0.7
    threshold: float = 0.2

    def __post_init__(self) -> None:
        smallest = _checks.count("n_particles", self.n_particles, minimum=2)
        _checks.count("max_particles", self.max_particles, minimum=smallest)
        _checks.real("tolerance", self.tolerance, above=0.0)
        _checks.real("regularisation", self.regularisation, minimum=0.0)
        _checks.real("threshold", self.threshold, minimum=0.0, maximum=1.0)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the filter at the size where its score has settled."""
        base = ParticleFilter(
            **problem.filter,
            n_particles=self.n_particles,
            regularisation=self.regularisation,
            threshold=self.threshold,
        )
        scheme, convergence = converged(
            base,
            problem,
            measure=measure,
            max_particles=self.max_particles,
            tolerance=self.tolerance,
        )
        return Prepared(
            scheme,
            f"optimum (N={scheme.n_particles})",
            "regularisation",
            scheme.regularisation,
            convergence=convergence,
        )


METHODS: Final[dict[str, type[Any]]] = {
    method.scheme: method
    for method in (
        *(Climatology, Interpolation, Variational, ExtendedKalmanFilter),
        *(EnsembleKalmanFilter, BootstrapFilter, Optimum),
    )
}


def method_from_table(table: Any, *, source: str, key: str) -> Method:
    """Return a method from its table, whose key `scheme` says which it is.

    Raises
    ------
    ConfigurationError
        If there is no such scheme, or a setting is unknown or makes no sense.
    """
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{source}: {key}: expected a table [{key}]")
    name = table.get("scheme")
    if name not in METHODS:
        raise ConfigurationError(
            f"{source}: {key}.scheme: expected one of {', '.join(METHODS)}, got "
            f"{name!r}"
        )
    rest = {k: value for k, value in table.items() if k != "scheme"}
    method: Method = build(METHODS[name], rest, source=source, key=key)
    return method


def method_table(method: Method) -> dict[str, Any]:
    """Return the table that `method_from_table` reads."""
    return {"scheme": method.scheme, **to_table(method)}


def _given(name: str, value: float | None, **limits: float) -> None:
    if value is not None:
        _checks.real(name, value, **limits)


def _options(problem: CycledProblem, measure: str) -> dict[str, Any]:
    return {**problem.start("val"), "measure": "rms" if measure == "rms" else "pool"}


def _inflated(
    base: EnKF | ExtendedKalman,
    label: str,
    inflation: float | None,
    problem: CycledProblem,
    measure: str,
) -> Prepared:
    tuning = None
    if inflation is None:
        tuning = tune_inflation(base, problem.twin, **_options(problem, measure))
        inflation = tuning.scale
    scheme = dataclasses.replace(base, inflation=inflation)
    return Prepared(scheme, label, "inflation", inflation, tuning)
