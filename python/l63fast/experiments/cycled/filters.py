"""Methods that know their own error: Kalman, ensemble and particle filters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from l63fast import _checks
from l63fast.assimilation.cycled_tuning import tune_inflation, tune_regularisation
from l63fast.assimilation.ensemble import VARIANTS, EnKF
from l63fast.assimilation.extended_kalman import ExtendedKalman
from l63fast.assimilation.particle import ParticleFilter
from l63fast.experiments.cycled.optimum import converged
from l63fast.experiments.cycled.prepared import (
    Prepared,
    optional_real,
    tuning_options,
)
from l63fast.experiments.cycled.problem import CycledProblem

__all__ = [
    "BootstrapFilter",
    "EnsembleKalmanFilter",
    "ExtendedKalmanFilter",
    "Optimum",
]


@dataclass(frozen=True)
class ExtendedKalmanFilter:
    """The extended Kalman filter.

    Attributes
    ----------
    inflation : float, optional
        Factor on the standard deviations of each forecast; tuned if not given.
    """

    scheme: ClassVar[str] = "extkf"
    role: ClassVar[str] = "method"
    inflation: float | None = None

    def __post_init__(self) -> None:
        optional_real("inflation", self.inflation, above=0.0)

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
    prior_certainty : float
        Of "finite_size", as in `EnKF`.
    """

    scheme: ClassVar[str] = "enkf"
    role: ClassVar[str] = "method"
    n_members: int = 20
    variant: str = "square_root"
    rotation: bool = True
    inflation: float | None = None
    prior_certainty: float = 1.0

    def __post_init__(self) -> None:
        _checks.count("n_members", self.n_members, minimum=3)
        _checks.real("prior_certainty", self.prior_certainty, above=0.0)
        _checks.choice("variant", self.variant, VARIANTS)
        optional_real("inflation", self.inflation, above=0.0)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the filter; its inflation is tuned where it is not given."""
        names = {
            "square_root": "EnKF",
            "stochastic": "EnKF stoch.",
            "finite_size": "EnKF-N",
        }
        scheme = EnKF(
            **problem.filter,
            n_members=self.n_members,
            variant=self.variant,
            rotation=self.rotation,
            prior_certainty=self.prior_certainty,
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
    rescue : bool
        Scatter particles that have lost the truth, as in `ParticleFilter`.
    """

    scheme: ClassVar[str] = "pf"
    role: ClassVar[str] = "method"
    n_particles: int = 1000
    threshold: float = 0.2
    regularisation: float | None = None
    rescue: bool = True

    def __post_init__(self) -> None:
        _checks.count("n_particles", self.n_particles, minimum=2)
        _checks.real("threshold", self.threshold, minimum=0.0, maximum=1.0)
        optional_real("regularisation", self.regularisation, minimum=0.0)
        _checks.boolean("rescue", self.rescue)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the filter; its regularisation is tuned where it is not given."""
        base = ParticleFilter(
            **problem.filter,
            n_particles=self.n_particles,
            threshold=self.threshold,
            rescue=self.rescue,
        )
        value, tuning = self.regularisation, None
        if value is None:
            options = tuning_options(problem, measure)
            tuning = tune_regularisation(base, problem.twin, **options)
            value = tuning.scale
        return Prepared(
            dataclasses.replace(base, regularisation=value),
            f"particle filter, N={self.n_particles}",
            "regularisation",
            value,
            tuning,
        )


@dataclass(frozen=True)
class Optimum:
    """A particle filter so large that a larger one scores the same.

    On the validation split its size is doubled, and its regularisation lowered where
    that is better, until twice in a row the score moves by less than the tolerance.

    Attributes
    ----------
    n_particles, max_particles : int
        The first size, and the largest.
    tolerance : float
        Relative change of the score that counts as none.
    regularisation, threshold : float
        Of the first size, as in `ParticleFilter`.
    n_trajectories : int
        Of the validation split, the first so many at most, on which sizes are compared.
    rescue : bool
        Scatter particles that have lost the truth, as in `ParticleFilter`.
    """

    scheme: ClassVar[str] = "optimum"
    role: ClassVar[str] = "optimum"
    n_particles: int = 2000
    max_particles: int = 32_000
    tolerance: float = 0.005
    regularisation: float = 0.7
    threshold: float = 0.2
    n_trajectories: int = 30
    rescue: bool = True

    def __post_init__(self) -> None:
        _checks.count("n_trajectories", self.n_trajectories, minimum=1)
        smallest = _checks.count("n_particles", self.n_particles, minimum=2)
        _checks.count("max_particles", self.max_particles, minimum=smallest)
        _checks.real("tolerance", self.tolerance, above=0.0)
        _checks.real("regularisation", self.regularisation, minimum=0.0)
        _checks.real("threshold", self.threshold, minimum=0.0, maximum=1.0)
        _checks.boolean("rescue", self.rescue)

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the filter at the size where its score has settled."""
        base = ParticleFilter(
            **problem.filter,
            n_particles=self.n_particles,
            regularisation=self.regularisation,
            threshold=self.threshold,
            rescue=self.rescue,
        )
        scheme, convergence = converged(
            base,
            problem.with_validation(self.n_trajectories),
            measure=measure,
            max_particles=self.max_particles,
            tolerance=self.tolerance,
        )
        return Prepared(
            scheme,
            f"optimum (N{'=' if convergence.settled else '>'}{scheme.n_particles})",
            "regularisation",
            scheme.regularisation,
            convergence=convergence,
        )


def _inflated(
    base: EnKF | ExtendedKalman,
    label: str,
    inflation: float | None,
    problem: CycledProblem,
    measure: str,
) -> Prepared:
    tuning = None
    if inflation is None:
        tuning = tune_inflation(base, problem.twin, **tuning_options(problem, measure))
        inflation = tuning.scale
    scheme = dataclasses.replace(base, inflation=inflation)
    return Prepared(scheme, label, "inflation", inflation, tuning)
