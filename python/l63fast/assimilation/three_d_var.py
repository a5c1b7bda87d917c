"""3D-Var: the variational cost, its minimiser, and the scheme that cycles it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from l63fast import _checks
from l63fast.assimilation._members import finite_members, forecast_members
from l63fast.assimilation.scheme import Analysis, Status
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator, as_operator

__all__ = ["ThreeDVar", "three_d_var", "variational_cost"]


def three_d_var(
    background: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator | str,
    *,
    B: np.ndarray,
    R: np.ndarray,
    max_iter: int = 20,
    tol: float = 1e-9,
    multi_start: bool = True,
    n_threads: int | None = None,
    backend: str = "auto",
) -> Analysis:
    """Return the minimiser of the variational cost (linear h or one squared value)."""
    operator = as_operator(operator)
    background = _checks.states("background", background)
    if operator.is_linear:
        H = np.eye(3)[list(operator.components)]
        d = (observation - background @ H.T)[..., None]
        state = background + (B @ H.T @ np.linalg.solve(H @ B @ H.T + R, d))[..., 0]
    else:
        (i,) = operator.components
        y, b, r = observation[..., 0], B[..., i, i], R[..., 0, 0]
        size = np.abs(background[..., i])
        low = np.zeros(y.shape)
        high = np.maximum(size, np.sqrt(np.maximum(y, 0.0))) * (1 + 1e-15)
        for _ in range(60):
            u = 0.5 * (low + high)
            above = u * (u * u - y + r / (2 * b)) - r * size / (2 * b) >= 0.0
            low, high = np.where(above, low, u), np.where(above, u, high)
        u = np.where(background[..., i] < 0.0, -high, high)
        state = background + B[..., :, i] * ((u - background[..., i]) / b)[..., None]
    return Analysis(
        state=state,
        status=np.full(state.shape[:-1], Status.CONVERGED, dtype=np.int8),
        n_iter=np.ones(state.shape[:-1], dtype=np.int32),
        cost=variational_cost(state, background, observation, operator, B=B, R=R),
        residual=observation - operator(state),
    )


def variational_cost(
    state: np.ndarray,
    background: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator | str,
    *,
    B: np.ndarray,
    R: np.ndarray,
) -> np.ndarray:
    """Return J = |x - x_b|^2 / 2 in the norm of B^-1 plus |y - h(x)|^2 / 2 in R^-1.

    Parameters
    ----------
    state, background : (..., 3)
    observation : (..., obs_dim)
    operator : ObservationOperator or its name
    B : (3, 3) or (..., 3, 3)
        Covariance of the background error.
    R : (obs_dim, obs_dim) or (..., obs_dim, obs_dim)
        Covariance of the observation error.

    Returns
    -------
    (...,)

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described; B and R must be positive definite.
    """
    operator = as_operator(operator)
    state = _checks.states("state", state)
    shape, dtype = state.shape[:-1], state.dtype
    background = _checks.states("background", background, dtype=dtype)
    _checks.batch("background", background, shape, "state")
    observation = _checks.vectors(
        "observation", observation, size=operator.obs_dim, dtype=dtype
    )
    _checks.batch("observation", observation, shape, "state")
    B = _checks.covariance("B", B, size=3, dtype=dtype, shape=shape)
    R = _checks.covariance("R", R, size=operator.obs_dim, dtype=dtype, shape=shape)
    residual = np.asarray(observation - operator(state))
    cost = 0.5 * (_square(state - background, B) + _square(residual, R))
    return np.asarray(cost)


def _square(vector: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    weighted = np.linalg.solve(covariance, vector[..., None])[..., 0]
    return np.asarray(np.sum(vector * weighted, axis=-1))


@dataclass(frozen=True, eq=False)
class ThreeDVar:
    """Cycled 3D-Var with a static B: the state is the latest estimate (n, 3).

    Parameters
    ----------
    operator : ObservationOperator or its name
    B : (3, 3)
        Covariance of the background error, scale included.
    R : (obs_dim, obs_dim)
        Covariance of the observation error.
    dt : float
        Time step of the model (time units).
    parameters : Lorenz63
    max_iter, tol, multi_start, n_threads, backend
        As in `three_d_var`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If B or R is not a covariance of the right size.
    """

    operator: ObservationOperator | str
    B: np.ndarray
    R: np.ndarray
    dt: float = 0.01
    parameters: Lorenz63 = field(default_factory=Lorenz63)
    max_iter: int = 20
    tol: float = 1e-9
    multi_start: bool = True
    n_threads: int | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        operator = as_operator(self.operator)
        float64 = np.dtype(np.float64)
        B = _checks.covariance("B", self.B, size=3, dtype=float64, shape=())
        R = _checks.covariance(
            "R", self.R, size=operator.obs_dim, dtype=float64, shape=()
        )
        object.__setattr__(self, "operator", operator)
        object.__setattr__(self, "B", B)
        object.__setattr__(self, "R", R)

    @property
    def window(self) -> int:
        """3D-Var uses the latest observation only."""
        return 1

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the background itself."""
        return background

    def forecast(self, state: np.ndarray, n_steps: int) -> np.ndarray:
        """Return the state `n_steps` model steps later."""
        return forecast_members(
            state,
            n_steps,
            dt=self.dt,
            parameters=self.parameters,
            n_threads=self.n_threads,
            backend=self.backend,
        )

    def analyse(
        self, state: np.ndarray, obs_window: np.ndarray
    ) -> tuple[np.ndarray, Analysis]:
        """Return the analysis of the latest observation, as state and in full."""
        analysis = finite_members(self._analyse, state, obs_window[:, -1])
        return analysis.state, replace(analysis, background=state)

    def _analyse(self, background: np.ndarray, observation: np.ndarray) -> Analysis:
        return three_d_var(
            background,
            observation,
            self.operator,
            B=self.B,
            R=self.R,
            max_iter=self.max_iter,
            tol=self.tol,
            multi_start=self.multi_start,
            n_threads=self.n_threads,
            backend=self.backend,
        )
