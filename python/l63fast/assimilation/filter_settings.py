"""The settings that schemes share, and what they must be."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from l63fast import _checks
from l63fast.assimilation.agreement import FromTwin
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator, as_operator

__all__ = ["FilterSettings", "KalmanSettings", "SchemeSettings"]


@dataclass(frozen=True, eq=False)
class SchemeSettings(FromTwin):
    """Settings of a scheme that weighs a forecast against observations.

    Parameters
    ----------
    operator : ObservationOperator or its name
    B : (3, 3)
        Covariance of the background's error.
    R : (obs_dim, obs_dim)
        Covariance of the observation error.
    dt : float
        Time step of the model (time units).
    parameters : Lorenz63
    n_threads, backend
        Of the forecast, as in `forecast`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a covariance is none or of the wrong size.
    """

    operator: ObservationOperator | str
    B: np.ndarray
    R: np.ndarray
    _: KW_ONLY
    dt: float = 0.01
    parameters: Lorenz63 = field(default_factory=Lorenz63)
    n_threads: int | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)

    def _checked(self) -> dict[str, Any]:
        operator = as_operator(self.operator)
        how: dict[str, Any] = {"dtype": np.dtype(np.float64), "shape": ()}
        _checks.instance("parameters", self.parameters, Lorenz63)
        return {
            "operator": operator,
            "B": _checks.covariance("B", self.B, size=3, **how),
            "R": _checks.covariance("R", self.R, size=operator.obs_dim, **how),
        }

    @property
    def _model(self) -> dict[str, Any]:
        return {
            "dt": self.dt,
            "parameters": self.parameters,
            "n_threads": self.n_threads,
            "backend": self.backend,
        }


@dataclass(frozen=True, eq=False)
class FilterSettings(SchemeSettings):
    """Settings of a filter that knows the error of its own state.

    Parameters
    ----------
    operator, R, dt, parameters, n_threads, backend
        As in `SchemeSettings`.
    B : (3, 3)
        Covariance of the first background's error.
    Q : (3, 3), optional
        Covariance of the model error that a forecast adds; zeros are none.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a covariance is none or of the wrong size.
    """

    _: KW_ONLY
    Q: np.ndarray | None = None

    def _checked(self) -> dict[str, Any]:
        Q = self.Q
        if Q is not None:
            how: dict[str, Any] = {"dtype": np.dtype(np.float64), "shape": ()}
            Q = _checks.covariance("Q", Q, size=3, semidefinite=True, **how)
        return {**super()._checked(), "Q": Q if Q is not None and Q.any() else None}

    @property
    def window(self) -> int:
        """One observation, the latest."""
        return 1


@dataclass(frozen=True, eq=False)
class KalmanSettings(FilterSettings):
    """Settings of a Kalman filter.

    Parameters
    ----------
    operator, B, R, Q, dt, parameters, n_threads, backend
        As in `FilterSettings`.
    inflation : float
        Factor on standard deviations, once a cycle.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        As `FilterSettings`, and if the inflation is not above 0.
    """

    _: KW_ONLY
    inflation: float = 1.0

    def _checked(self) -> dict[str, Any]:
        inflation = _checks.real("inflation", self.inflation, above=0.0)
        return {**super()._checked(), "inflation": inflation}
