"""Filters where the parameters of the model are known, or estimated with the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from l63fast import _checks
from l63fast.assimilation.joint import JointEnKF, JointParticleFilter
from l63fast.experiments.methods.classical import (
    BootstrapFilter,
    EnsembleKalmanFilter,
    _Filter,
)
from l63fast.experiments.protocols import Problem
from l63fast.experiments.settings_file import limited


class _Known(_Filter):
    """Base class of filters that know the parameters of each trajectory."""

    knows_parameters = needs_cycles = True

    @property
    def label(self) -> str:
        """The label of the filter, and that it knows the parameters."""
        return f"{super().label}, parameters known"


@dataclass(frozen=True)
class KnownEnsemble(_Known, EnsembleKalmanFilter):
    """An ensemble Kalman filter that knows the parameters of each trajectory."""

    scheme: ClassVar[str] = "enkf-known"


@dataclass(frozen=True)
class KnownParticles(_Known, BootstrapFilter):
    """A particle filter that knows the parameters of each trajectory."""

    scheme: ClassVar[str] = "pf-known"


class _JointMethod(_Filter):
    """Base class of filters that estimate the parameters with the state."""

    scheme: ClassVar[str]
    tuned = "walk"
    values = (0.0125, 0.025, 0.05, 0.1, 0.2)
    limits = (1e-3, 1.0)
    prior_spread: float | None

    def settings(self, problem: Problem) -> dict[str, Any]:
        """Return the arguments of the scheme; the tuned one is None if not given."""
        spread = problem.twin.settings.parameters_spread or 0.1
        own = spread if self.prior_spread is None else self.prior_spread
        settings = {**super().settings(problem), "prior_spread": own}
        return settings | {"smoother_lag": 0}  # these filters do not smooth


@dataclass(frozen=True)
class JointEnsemble(_JointMethod):
    """The ensemble Kalman filter for state and parameters, as `JointEnKF`.

    Attributes
    ----------
    n_members : int
    inflation : float
        Factor on the anomalies of the states in each analysis.
    prior_spread : float, optional
        As in `JointEnKF`; by default that of the data, 0.1 if they have none.
    walk : float, optional
        As in `JointEnKF`; tuned if not given.
    """

    scheme: ClassVar[str] = "enkf-joint"
    made = JointEnKF
    n_members: int = limited(100, _checks.count, minimum=7)
    inflation: float = limited(1.02, above=0.0)
    prior_spread: float | None = limited(None, minimum=0.0, maximum=0.5)
    walk: float | None = limited(None, minimum=0.0)

    @property
    def label(self) -> str:
        """The name with the number of members."""
        return f"joint EnKF, N={self.n_members}"


@dataclass(frozen=True)
class JointParticles(_JointMethod):
    """The particle filter for state and parameters, as `JointParticleFilter`.

    Attributes
    ----------
    n_particles : int
    regularisation : float
        Width of the noise that is added after resampling.
    threshold : float
    state_noise : float
        Factor on the part of this noise that states get.
    rescue : bool
    prior_spread : float, optional
        As in `JointParticleFilter`; by default that of the data, 0.1 if they have none.
    walk : float, optional
        As in `JointParticleFilter`; tuned if not given.
    """

    scheme: ClassVar[str] = "pf-joint"
    made = JointParticleFilter
    n_particles: int = limited(1000, _checks.count, minimum=2)
    regularisation: float = limited(1.0, minimum=0.0)
    threshold: float = limited(0.5, minimum=0.0, maximum=1.0)
    state_noise: float = limited(0.5, minimum=0.0)
    rescue: bool = limited(True, _checks.boolean)
    prior_spread: float | None = limited(None, minimum=0.0, maximum=0.5)
    walk: float | None = limited(None, minimum=0.0)

    @property
    def label(self) -> str:
        """The name with the number of particles."""
        return f"joint particle filter, N={self.n_particles}"
