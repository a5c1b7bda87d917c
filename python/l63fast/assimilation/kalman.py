"""References without tuning: the climatological mean, optimal interpolation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation.agreement import FromTwin
from l63fast.assimilation.innovations import claimed_innovations
from l63fast.assimilation.scheme import Analysis, Status
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import Climatology
from l63fast.observation import ObservationOperator, as_operator

__all__ = ["ClimatologicalMean", "OptimalInterpolation"]


@dataclass(frozen=True, eq=False)
class _FromClimatology(FromTwin):
    """A scheme whose background is the climatological mean, whatever came before.

    Its state is that mean, once per trajectory (n, 3), and its forecast changes
    nothing.
    """

    operator: ObservationOperator | str
    climatology: Climatology

    def __post_init__(self) -> None:
        _checks.instance("climatology", self.climatology, Climatology)
        object.__setattr__(self, "operator", as_operator(self.operator))

    @property
    def window(self) -> int:
        """One observation, the latest."""
        return 1

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the mean (n, 3) in place of the background."""
        return np.tile(self.climatology.mean, (len(background), 1))

    def forecast(self, state: np.ndarray, n_steps: int) -> np.ndarray:
        """Return the mean: it is as good a forecast later as now."""
        return state


class ClimatologicalMean(_FromClimatology):
    """The climatological mean as the analysis: what an observation must improve on.

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
        """Return the mean, and how far from it the observations are."""
        n = len(state)
        operator = as_operator(self.operator)
        spread = np.sqrt(np.diag(self.climatology.covariance))
        return state, Analysis(
            state=state,
            status=np.full(n, Status.CONVERGED, dtype=np.int8),
            n_iter=np.zeros(n, dtype=np.int32),
            cost=np.full(n, np.nan),
            residual=obs_window[:, -1] - operator(state),
            background=state,
            spread=np.tile(spread, (n, 1)),
        )


@dataclass(frozen=True, eq=False)
class OptimalInterpolation(_FromClimatology):
    """The climatological mean corrected by the latest observation, with B = C.

    For linear h this is the best estimate linear in that observation alone; otherwise
    it is the minimum of the variational cost with the same two terms.

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
        observation, C = obs_window[:, -1], self.climatology.covariance
        analysis = three_d_var(state, observation, self.operator, B=C, R=self.R)
        innovation, covariance = claimed_innovations(
            state, observation, as_operator(self.operator), C, self.R
        )
        return state, replace(
            analysis, innovation=innovation, innovation_covariance=covariance
        )
