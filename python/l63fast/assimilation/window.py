"""4D-Var: the trajectory that fits a window of observations, cycled."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation.filter_settings import SchemeSettings
from l63fast.assimilation.innovations import claimed_innovations
from l63fast.assimilation.members import finite_members, forecast_members
from l63fast.assimilation.scheme import Analysis
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.assimilation.window_cost import Minimum, WindowCost, carrier, minimise
from l63fast.observation import as_operator

__all__ = ["FourDVar", "WindowState"]

_COARSE_TOL: Final = 1e-3  # of the shorter windows, whose minimum is only a start


class WindowState(NamedTuple):
    """The latest estimate, and the forecasts of earlier cycles that windows begin with.

    Attributes
    ----------
    estimate : (n, 3)
    backgrounds : (n, k, 3)
        Forecasts of the last k cycles, the oldest first; k is below the window.
    steps : tuple of k int
        Model steps from each of them to the next, and from the last to the estimate.
    """

    estimate: np.ndarray
    backgrounds: np.ndarray
    steps: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class FourDVar(SchemeSettings):
    """Strong-constraint 4D-Var over the last L observations; its state: `WindowState`.

    The state is sought at the time of the window's first observation, and the model
    carries it to the last (Le Dimet & Talagrand 1986). Windows overlap, yet no
    observation counts twice: the background is the forecast made L - 1 cycles ago, by
    an analysis that had seen none of the window. Until there is such a forecast, the
    window begins with the first of all and has fewer observations.

    Parameters
    ----------
    operator, R, dt, parameters, n_threads, backend
        As in `SchemeSettings`.
    B : (3, 3)
        Covariance of the error of a forecast over one cycle, at the window's start.
    window : int
        Observations in a window, L; 1 is 3D-Var.
    max_iter : int
        Gauss-Newton steps at most, for each length of the window.
    tol : float
        Largest last step in units of the background spread, relative to 1 + |v|.
    quasi_static : bool
        Start with one observation and let the window grow, each minimum the start of
        the next (Pires, Vautard & Talagrand 1996); otherwise start at the background.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    window_grows: ClassVar[bool] = True

    _: KW_ONLY
    window: int
    max_iter: int = 50
    tol: float = 1e-6
    quasi_static: bool = True

    def _checked(self) -> dict[str, Any]:
        return {
            **super()._checked(),
            "window": _checks.count("window", self.window, minimum=1),
            "max_iter": _checks.count("max_iter", self.max_iter),
            "tol": _checks.real("tol", self.tol, above=0.0),
            "quasi_static": _checks.boolean("quasi_static", self.quasi_static),
        }

    @ieee_arithmetic()
    def initial(self, background: np.ndarray, rng: np.random.Generator) -> WindowState:
        """Return the background, with no earlier one."""
        return WindowState(background, np.empty((len(background), 0, 3)), ())

    @ieee_arithmetic()
    def forecast(self, state: WindowState, n_steps: int) -> WindowState:
        """Return the estimate `n_steps` model steps later; the backgrounds stay."""
        later = forecast_members(state.estimate, n_steps, **self._model)
        steps = tuple(state.steps)
        if steps:
            steps = (*steps[:-1], steps[-1] + n_steps)
        return state._replace(estimate=later, steps=steps)

    @ieee_arithmetic()
    def analyse(
        self, state: WindowState, obs_window: np.ndarray
    ) -> tuple[WindowState, Analysis]:
        """Return the state, and the analysis at the time of the last observation."""
        starts = np.concatenate([state.backgrounds, state.estimate[:, None]], axis=1)
        length = starts.shape[1]
        analysis = finite_members(
            partial(self._analysed, state.steps),
            np.isfinite(starts).all(axis=(1, 2)),
            starts[:, 0],
            obs_window[:, -length:],
        )
        innovation, S = claimed_innovations(
            state.estimate, obs_window[:, -1], as_operator(self.operator), self.B,
            self.R,
        )  # fmt: skip
        over = max(length + 1 - self.window, 0)
        after = WindowState(analysis.state, starts[:, over:], (*state.steps, 0)[over:])
        return after, replace(
            analysis,
            background=state.estimate,
            innovation=innovation,
            innovation_covariance=S,
        )

    def _analysed(
        self, steps: tuple[int, ...], background: np.ndarray, observations: np.ndarray
    ) -> Analysis:
        operator = as_operator(self.operator)
        y = _checks.vectors("obs_window", observations, size=operator.obs_dim)
        _checks.batch("obs_window", y, (len(background), len(steps) + 1), "the window")
        minimum = self._minimum(
            WindowCost(
                background,
                y,
                steps,
                operator,
                root=np.linalg.cholesky(self.B),
                whitening=np.linalg.inv(np.linalg.cholesky(self.R)),
                carry=carrier(**self._model),
            )
        )
        end = minimum.at
        P = end.tangent @ np.linalg.solve(end.hessian, np.swapaxes(end.tangent, 1, 2))
        return Analysis(
            state=end.state,
            status=minimum.status,
            n_iter=minimum.n_iter,
            cost=end.cost,
            residual=y[:, -1] - operator(end.state),
            spread=np.sqrt(np.diagonal(P, axis1=1, axis2=2)),
        )

    def _minimum(self, cost: WindowCost) -> Minimum:
        """Return the minimum, by way of windows that grow if so wished."""
        control = np.zeros_like(cost.background)
        n_iter: np.ndarray = np.zeros(len(control), dtype=np.int32)
        if self.quasi_static:
            control = self._of_first_observation(cost)
            for length in range(2, cost.observations.shape[1]):
                part = minimise(
                    cost.of_first(length), control, max_iter=self.max_iter,
                    tol=_COARSE_TOL,
                )  # fmt: skip
                control, n_iter = part.control, n_iter + part.n_iter
        last = minimise(cost, control, max_iter=self.max_iter, tol=self.tol)
        return last._replace(n_iter=last.n_iter + n_iter)

    def _of_first_observation(self, cost: WindowCost) -> np.ndarray:
        first = three_d_var(
            cost.background, cost.observations[:, 0], self.operator, B=self.B,
            R=self.R, n_threads=self.n_threads, backend=self.backend,
        )  # fmt: skip
        return cost.control(first.state)
