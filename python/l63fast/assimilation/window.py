"""4D-Var: the trajectory that fits a window of observations, cycled."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast.assimilation.innovations import claimed_innovations
from l63fast.assimilation.members import finite_members, forecast_members
from l63fast.assimilation.scheme import Analysis
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.assimilation.window_cost import Minimum, WindowCost, minimise
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator, as_operator

__all__ = ["FourDVar", "Queue"]

_COARSE_TOL: Final = 1e-2  # of the shorter windows, whose minimum is only a start


class Queue(NamedTuple):
    """The latest estimate (n, 3), and backgrounds (n, k, 3) of earlier cycles.

    The backgrounds are one cycle apart, the oldest first, and k is below the window.
    """

    estimate: np.ndarray
    backgrounds: np.ndarray


@dataclass(frozen=True, eq=False)
class FourDVar:
    """Strong-constraint 4D-Var over the last L observations; its state is a `Queue`.

    x_0 is sought at the time of the window's first observation, and the model carries
    it to the last (Le Dimet & Talagrand 1986). Windows overlap: the background at the
    start is the forecast made L - 1 cycles ago, from an analysis that has seen none of
    the window, so that no observation counts twice. Until that many forecasts exist,
    the window begins with the first of them.

    Parameters
    ----------
    operator : ObservationOperator or its name
    B : (3, 3)
        Covariance of the error of a forecast over one cycle.
    R : (obs_dim, obs_dim)
        Covariance of the observation error.
    window : int
        Observations in a window, L; 1 is 3D-Var.
    steps_per_cycle : int
        Model steps between two observations, which each forecast has to make.
    dt : float
        Time step of the model (time units).
    parameters : Lorenz63
    max_iter : int
        Gauss-Newton steps at most, for each length of the window.
    tol : float
        Largest last step in units of the background spread, relative to 1 + |v|.
    quasi_static : bool
        Start with one observation and let the window grow, each minimum the start of
        the next (Pires, Vautard & Talagrand 1996); otherwise start at the background.
    multi_start : bool
        Begin at the six points x_b +- sqrt(3) times a column of B's root too.
    n_threads, backend
        As in `forecast`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    operator: ObservationOperator | str
    B: np.ndarray
    R: np.ndarray
    _: KW_ONLY
    window: int
    steps_per_cycle: int
    dt: float = 0.01
    parameters: Lorenz63 = field(default_factory=Lorenz63)
    max_iter: int = 50
    tol: float = 1e-8
    quasi_static: bool = True
    multi_start: bool = False
    n_threads: int | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        operator = as_operator(self.operator)
        how: dict[str, Any] = {"dtype": np.dtype(np.float64), "shape": ()}
        _checks.instance("parameters", self.parameters, Lorenz63)
        checked = {
            "operator": operator,
            "B": _checks.covariance("B", self.B, size=3, **how),
            "R": _checks.covariance("R", self.R, size=operator.obs_dim, **how),
            "window": _checks.count("window", self.window, minimum=1),
            "steps_per_cycle": _checks.count(
                "steps_per_cycle", self.steps_per_cycle, minimum=1
            ),
            "max_iter": _checks.count("max_iter", self.max_iter),
            "tol": _checks.real("tol", self.tol, above=0.0),
            "quasi_static": _checks.boolean("quasi_static", self.quasi_static),
            "multi_start": _checks.boolean("multi_start", self.multi_start),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def _model(self) -> dict[str, Any]:
        return {
            "dt": self.dt,
            "parameters": self.parameters,
            "n_threads": self.n_threads,
            "backend": self.backend,
        }

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> Queue:
        """Return the background, with no earlier one."""
        return Queue(background, np.empty((len(background), 0, 3)))

    def forecast(self, state: Queue, n_steps: int) -> Queue:
        """Return the estimate one cycle later; the backgrounds stay at their times."""
        if n_steps != self.steps_per_cycle:
            raise ArgumentValueError(
                f"n_steps: expected steps_per_cycle, {self.steps_per_cycle}, for the "
                f"window to be in step with its observations, got {n_steps}"
            )
        later = forecast_members(state.estimate, n_steps, **self._model)
        return state._replace(estimate=later)

    def analyse(self, state: Queue, obs_window: np.ndarray) -> tuple[Queue, Analysis]:
        """Return the queue, and the analysis at the time of the last observation."""
        backgrounds = np.concatenate(
            [state.backgrounds, state.estimate[:, None]], axis=1
        )
        length = backgrounds.shape[1]
        observations = obs_window[:, -length:]
        innovation, S = claimed_innovations(
            state.estimate, observations[:, -1], as_operator(self.operator),
            self.B, self.R,
        )  # fmt: skip
        analysis = finite_members(
            self._analysed,
            np.isfinite(backgrounds).all(axis=(1, 2)),
            backgrounds[:, 0], observations, state.estimate, innovation, S,
        )  # fmt: skip
        kept = backgrounds[:, 1:] if length == self.window else backgrounds
        return Queue(analysis.state, kept), analysis

    def _analysed(
        self,
        background: np.ndarray,
        observations: np.ndarray,
        estimate: np.ndarray,
        innovation: np.ndarray,
        innovation_covariance: np.ndarray,
    ) -> Analysis:
        operator = as_operator(self.operator)
        observations = _checks.vectors(
            "obs_window", observations, size=operator.obs_dim
        )
        root = np.linalg.cholesky(self.B)
        cost = WindowCost(
            background, observations, operator, root, self.R, self.steps_per_cycle,
            self._model,
        )  # fmt: skip
        minimum = self._minimum(cost)
        end = minimum.at
        P = end.tangent @ np.linalg.solve(end.hessian, np.swapaxes(end.tangent, 1, 2))
        return Analysis(
            state=end.state,
            status=minimum.status,
            n_iter=minimum.n_iter,
            cost=end.cost,
            residual=observations[:, -1] - operator(end.state),
            background=estimate,
            spread=np.sqrt(np.diagonal(P, axis1=1, axis2=2)),
            innovation=innovation,
            innovation_covariance=innovation_covariance,
        )

    def _minimum(self, cost: WindowCost) -> Minimum:
        n = len(cost.background)
        best = self._from(cost, self._first_control(cost))
        if not self.multi_start:
            return best
        for column in np.sqrt(3.0) * np.vstack([np.eye(3), -np.eye(3)]):
            other = self._from(cost, np.tile(column, (n, 1)))
            best = _cheaper(best, other)
        return best

    def _first_control(self, cost: WindowCost) -> np.ndarray:
        if not self.quasi_static:
            return np.zeros_like(cost.background)
        first = three_d_var(
            cost.background, cost.observations[:, 0], self.operator, B=self.B,
            R=self.R, n_threads=self.n_threads, backend=self.backend,
        )  # fmt: skip
        return cost.control(first.state)

    def _from(self, cost: WindowCost, control: np.ndarray) -> Minimum:
        """Return the minimum from a start, of windows that grow if so wished."""
        length = cost.observations.shape[1]
        n_iter: np.ndarray = np.zeros(len(control), dtype=np.int32)
        for n in range(1, length) if self.quasi_static else ():
            part = minimise(
                cost.of_first(n), control, max_iter=self.max_iter, tol=_COARSE_TOL
            )
            control, n_iter = part.control, n_iter + part.n_iter
        last = minimise(cost, control, max_iter=self.max_iter, tol=self.tol)
        return last._replace(n_iter=last.n_iter + n_iter)


def _cheaper(one: Minimum, other: Minimum) -> Minimum:
    """Return, sample by sample, the minimum of lower cost, and all iterations."""
    lower = other.at.cost < one.at.cost - 1e-9 * (1.0 + one.at.cost)
    for kept, new in zip(one.at, other.at, strict=True):
        kept[lower] = new[lower]
    one.control[lower], one.status[lower] = other.control[lower], other.status[lower]
    return one._replace(n_iter=one.n_iter + other.n_iter)
