"""3D-Var: the variational cost, its minimiser, and the scheme that cycles it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels import AnalysisJob, load_kernels
from l63fast.assimilation.scheme import (
    Analysis,
    SchemeSettings,
    Status,
    claimed_innovations,
    finite_members,
    forecast_members,
)
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator, as_operator

__all__ = ["ThreeDVar", "three_d_var", "variational_cost"]

_TOL: Final = 1e-9
_TOL_FLOAT32: Final = 1e-5


@ieee_arithmetic()
def three_d_var(
    background: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator | str,
    *,
    B: np.ndarray,
    R: np.ndarray,
    max_iter: int = 20,
    tol: float | None = None,
    multi_start: bool = True,
    n_threads: int | None = None,
    backend: str = "auto",
) -> Analysis:
    """Return the analyses that minimise the variational cost, batched and compiled.

    A linear h is solved at once. Otherwise a safeguarded Newton iteration starts where
    the observation points; nothing unconverged is reported as converged.

    Parameters
    ----------
    background : (..., 3) float64 or float32
    observation : (..., obs_dim)
    operator : ObservationOperator or its name
    B : float, (3, 3) or (..., 3, 3)
        Covariance of the background error, one for all or one per sample.
    R : float, (obs_dim, obs_dim) or (..., obs_dim, obs_dim)
        Covariance of the observation error; a number is a variance.
    max_iter : int
        Iterations at most; 0 gives the background.
    tol : float, optional
        Largest last step of an observed component, relative to its size, here and in
        the background, plus the smaller of its background spread and what R leaves of
        it, R_ii^(1/(2 p)) for power p; by default 1e-9, in float32 1e-5.
    multi_start : bool
        Start in the other basins too where h is nonlinear in more than one way. Where
        several powers meet strong correlations in B or R, in one of a hundred problems
        drawn at random, the minimum found may be a local one all the same.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described; B and R must be positive definite.
    """
    operator = as_operator(operator)
    m = operator.obs_dim
    x_b = _checks.states("background", background, only_finite=False)
    shape, dtype = x_b.shape[:-1], x_b.dtype
    y = _checks.vectors(
        "observation", observation, size=m, dtype=dtype, only_finite=False
    )
    _checks.batch("observation", y, shape, "background")
    B = _checks.covariance("B", B, size=3, dtype=dtype, shape=shape)
    R = _checks.covariance("R", R, size=m, dtype=dtype, shape=shape)
    max_iter = _checks.count("max_iter", max_iter, maximum=2**31 - 1)
    default_tol = _TOL if dtype == np.float64 else _TOL_FLOAT32
    tol = _checks.real("tol", default_tol if tol is None else tol, above=0.0)
    several = _checks.boolean("multi_start", multi_start)
    _checks.memory("background", x_b.nbytes + y.nbytes + 13 * (x_b.size // 3))
    job = AnalysisJob(
        x_b.reshape(-1, 3),
        y.reshape(-1, m),
        B.reshape(-1, 3, 3),
        R.reshape(-1, m, m),
        operator.components,
        operator.powers,
        n_basins(operator) if several else 1,
        max_iter,
        tol,
    )
    state, status, n_iter, cost, residual = load_kernels(backend).analyse(
        job, _checks.threads("n_threads", n_threads)
    )
    if status.size and status.max() == Status.NON_FINITE:
        _checks.finite("background", x_b)
        _checks.finite("observation", y)
    return Analysis(
        state=state.reshape(*shape, 3),
        status=status.reshape(shape),
        n_iter=n_iter.reshape(shape),
        cost=cost.reshape(shape),
        residual=residual.reshape(*shape, m),
        background=x_b,
    )


def n_basins(operator: ObservationOperator) -> int:
    """Return from how many points the cost is minimised.

    Each nonlinear component can have two basins; a single even power has its lower
    minimum on the background's side, always.
    """
    nonlinear = [power for power in operator.powers if power > 1]
    if operator.obs_dim == 1 and all(power % 2 == 0 for power in nonlinear):
        return 1
    return int(2 ** len(nonlinear))


@ieee_arithmetic()
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
    B : float, (3, 3) or (..., 3, 3)
        Covariance of the background error.
    R : float, (obs_dim, obs_dim) or (..., obs_dim, obs_dim)
        Covariance of the observation error; a number is a variance.

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
    cost = 0.5 * (_square("B", B, state - background) + _square("R", R, residual))
    return np.asarray(cost)


def _square(name: str, covariance: np.ndarray, vector: np.ndarray) -> np.ndarray:
    try:
        weighted = np.linalg.solve(covariance, vector[..., None])[..., 0]
    except np.linalg.LinAlgError:
        raise ArgumentValueError(
            f"{name}: expected a positive definite matrix, got one that is singular "
            f"in {covariance.dtype}"
        ) from None
    return np.asarray(np.sum(vector * weighted, axis=-1))


@dataclass(frozen=True, eq=False)
class ThreeDVar(SchemeSettings):
    """Cycled 3D-Var with a static B: the state is the latest estimate (n, 3).

    Parameters
    ----------
    operator : ObservationOperator or its name
    B : float or (3, 3)
        Covariance of the background error, scale included; a number is a variance.
    R : float or (obs_dim, obs_dim)
        Covariance of the observation error.
    dt, parameters
        As in `SchemeSettings`.
    max_iter, tol, multi_start, n_threads, backend
        As in `three_d_var`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If B or R is not a covariance of the right size.
    """

    _: KW_ONLY
    max_iter: int = 20
    tol: float | None = None
    multi_start: bool = True

    @property
    def window(self) -> int:
        """3D-Var uses the latest observation only."""
        return 1

    @property
    def numbers(self) -> dict[str, float]:
        """What the kernel is told besides B, R and h, by its name in kernels.hpp."""
        operator = as_operator(self.operator)
        return {
            "n_starts": n_basins(operator) if self.multi_start else 1,
            "max_iter": self.max_iter,
            "tol": _TOL if self.tol is None else self.tol,
        }

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the background itself."""
        return background

    def forecast(self, state: np.ndarray, n_steps: int) -> np.ndarray:
        """Return the state `n_steps` model steps later."""
        return forecast_members(state, n_steps, **self._model)

    def analyse(
        self, state: np.ndarray, obs_window: np.ndarray
    ) -> tuple[np.ndarray, Analysis]:
        """Return the analysis of the latest observation, as state and in full."""
        observation = obs_window[:, -1]
        analysis = finite_members(
            self._analyse, np.isfinite(state).all(axis=-1), state, observation
        )
        innovation, covariance = claimed_innovations(
            state, observation, as_operator(self.operator), self.B, self.R
        )
        return analysis.state, replace(
            analysis,
            background=state,
            innovation=innovation,
            innovation_covariance=covariance,
        )

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
