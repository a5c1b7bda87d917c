"""Methods that know their own error: Kalman, ensemble and particle filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from l63fast import _checks
from l63fast.assimilation.ensemble import VARIANTS, EnKF
from l63fast.assimilation.kalman import ExtendedKalman
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.tuning import (
    INFLATION_LIMITS,
    INFLATIONS,
    REGULARISATIONS,
)
from l63fast.experiments.protocols import Fitted, Problem

__all__ = ["BootstrapFilter", "EnsembleKalmanFilter", "ExtendedKalmanFilter"]

_NAMES: Final = {
    "square_root": "EnKF",
    "stochastic": "EnKF stoch.",
    "finite_size": "EnKF-N",
}


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
        if self.inflation is not None:
            _checks.real("inflation", self.inflation, above=0.0)

    def fit(self, problem: Problem) -> Fitted:
        """Return the filter; its inflation is tuned where it is not given."""
        settings = problem.filter
        return _inflated(
            problem, "extended Kalman", ExtendedKalman, settings, self.inflation
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
        if self.inflation is not None:
            _checks.real("inflation", self.inflation, above=0.0)

    def fit(self, problem: Problem) -> Fitted:
        """Return the filter; its inflation is tuned where it is not given."""
        settings = {
            **problem.filter,
            "n_members": self.n_members,
            "variant": self.variant,
            "rotation": self.rotation,
            "prior_certainty": self.prior_certainty,
        }
        label = f"{_NAMES[self.variant]}, N={self.n_members}"
        return _inflated(problem, label, EnKF, settings, self.inflation)


def _inflated(
    problem: Problem,
    label: str,
    scheme: type[EnKF] | type[ExtendedKalman],
    settings: dict[str, Any],
    inflation: float | None,
) -> Fitted:
    return problem.tuned(
        Fitted(None, label, start="first"),
        "inflation",
        lambda value: scheme(**settings, inflation=value),
        inflation,
        INFLATIONS[scheme],
        INFLATION_LIMITS,
    )


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
        _checks.boolean("rescue", self.rescue)
        if self.regularisation is not None:
            _checks.real("regularisation", self.regularisation, minimum=0.0)

    def fit(self, problem: Problem) -> Fitted:
        """Return the filter; its regularisation is tuned where it is not given."""
        settings = {
            **problem.filter,
            "n_particles": self.n_particles,
            "threshold": self.threshold,
            "rescue": self.rescue,
        }
        return problem.tuned(
            Fitted(None, f"particle filter, N={self.n_particles}", start="first"),
            "regularisation",
            lambda value: ParticleFilter(**settings, regularisation=value),
            self.regularisation,
            REGULARISATIONS,
        )
