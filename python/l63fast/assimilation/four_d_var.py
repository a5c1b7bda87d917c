"""4D-Var: the cost of a window of observations, its minimum, and the cycled scheme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels import TangentJob, model_kernels
from l63fast.assimilation.gauss_newton import Expansion, Minimum, expansion, minimise
from l63fast.assimilation.scheme import (
    Analysis,
    SchemeSettings,
    claimed_innovations,
    complete_apart,
    finite_members,
    forecast_members,
    observed_values,
    present_whitening,
)
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator, as_operator

# Takes states (n, 3), k perturbations of each (n, k, 3) and a number of steps; returns
# both after these steps.
Carry = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def carrier(
    *, dt: float, parameters: Lorenz63, n_threads: int | None, backend: str
) -> Carry:
    """Return the model with its tangent-linear, without the checks of `tangent_linear`.

    A trial step of the minimiser may leave the floating-point range, which is no error.
    And the calls are many and short, so that checks would take half of the time.
    """
    kernels = model_kernels(parameters.taylor, backend)
    threads = _checks.threads("n_threads", n_threads)
    dt, _ = _checks.time_step("dt", dt, allow_large=False)

    def carry(
        state: np.ndarray, perturbations: np.ndarray, n_steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        job = TangentJob(state, perturbations, n_steps, dt, parameters.as_tuple())
        later, carried, _ = kernels.tangent(job, threads)
        return later, carried

    return carry


@dataclass(frozen=True, eq=False)
class WindowCost:
    """J(v) = |v|^2 / 2 + sum over l of |y_l - h(M_l(x_b + U v))|^2 / 2, U U^T = B.

    The norm of the observations is that of R^-1. M_l is the model from the first
    observation of the window to observation l; M_0 is the identity. Matrix products are
    made per sample, so that the bits of a sample do not depend on the others.

    Parameters
    ----------
    background : (n, 3)
        At the time of the first observation.
    observations : (n, L, obs_dim)
        NaN is a missing value.
    steps : tuple of L - 1 int
        Model steps from each observation to the next.
    operator : ObservationOperator
    root : (3, 3)
        Lower Cholesky factor U of B.
    whitening : (obs_dim, obs_dim) or (n, L, obs_dim, obs_dim)
        Inverse of the lower Cholesky factor of R; where values are missing, one for
        each observation, with zeros in their rows and columns.
    carry : Carry
        The model and its tangent-linear.
    """

    background: np.ndarray
    observations: np.ndarray
    steps: tuple[int, ...]
    operator: ObservationOperator
    root: np.ndarray
    whitening: np.ndarray
    carry: Carry

    def state(self, control: np.ndarray) -> np.ndarray:
        """Return x_0 = x_b + U v, the states (n, 3) at the start of the window."""
        return np.asarray(self.background + (self.root @ control[..., None])[..., 0])

    def control(self, state: np.ndarray) -> np.ndarray:
        """Return v (n, 3) of given states at the start of the window."""
        return np.linalg.solve(self.root, (state - self.background)[..., None])[..., 0]

    def of(self, samples: np.ndarray) -> WindowCost:
        """Return the cost function of some of the samples."""
        return replace(
            self,
            background=self.background[samples],
            observations=self.observations[samples],
            whitening=self.whitening[samples] if self._gaps else self.whitening,
        )

    @property
    def _gaps(self) -> bool:
        return self.whitening.ndim > 2

    def of_first(self, length: int) -> WindowCost:
        """Return the cost function of the window's first observations."""
        return replace(
            self,
            observations=self.observations[:, :length],
            steps=self.steps[: length - 1],
            whitening=self.whitening[:, :length] if self._gaps else self.whitening,
        )

    def expanded(self, control: np.ndarray) -> Expansion:
        """Return the cost at v (n, 3), its gradient and its Gauss-Newton Hessian."""
        states, tangents = self._trajectory(control)
        n, L, m = self.observations.shape
        with np.errstate(over="ignore", invalid="ignore"):
            departures = self.observations - self.operator(states)
            if self._gaps:
                departures[np.isnan(self.observations)] = 0.0
                residuals = (self.whitening @ departures[..., None])[..., 0]
            else:
                residuals = departures @ self.whitening.T
            # Chain rule: the derivative of h(M_l(x_b + U v)) by v is H_l M_l U.
            G = self.whitening @ (self.operator.jacobian(states) @ tangents)
        r, G = residuals.reshape(n, L * m), G.reshape(n, L * m, 3)
        return expansion(control, r, G, states[:, -1], tangents[:, -1])

    def _trajectory(self, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return states (n, L, 3) and their derivatives (n, L, 3, 3) by v."""
        n, L, _ = self.observations.shape
        states, tangents = np.empty((n, L, 3)), np.empty((n, L, 3, 3))
        # The tangent-linear carries the columns of U as perturbations.
        state, rows = self.state(control), np.repeat(self.root.T[None], n, axis=0)
        states[:, 0], tangents[:, 0] = state, self.root
        for i, n_steps in enumerate(self.steps, start=1):
            state, rows = self.carry(state, rows, n_steps)
            states[:, i], tangents[:, i] = state, np.swapaxes(rows, 1, 2)
        return states, tangents


_COARSE_TOL: Final = 1e-3  # for shorter windows, whose minimum is only a start


class WindowState(NamedTuple):
    """The latest estimate, and the forecasts of earlier cycles at which windows start.

    Attributes
    ----------
    estimate : (n, 3)
    backgrounds : (n, k, 3)
        Forecasts of the last k cycles, the oldest first; k is below the window.
    steps : tuple of k int
        Model steps from each forecast to the next, and from the last to the estimate.
    """

    estimate: np.ndarray
    backgrounds: np.ndarray
    steps: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class FourDVar(SchemeSettings):
    """Strong-constraint 4D-Var over the last L observations; state: `WindowState`.

    The control is the state at the time of the window's first observation; the model
    carries it to the last one (Le Dimet & Talagrand 1986). Windows overlap, but no
    observation is used twice: the background is the forecast made L - 1 cycles ago,
    from an analysis without any observation of the window. In the first cycles the
    window starts at the first observation and is shorter.

    Parameters
    ----------
    operator, R, dt, parameters, n_threads, backend
        As in `SchemeSettings`.
    B : (3, 3)
        Covariance of the forecast error over one cycle, at the start of the window.
    window : int
        Number L of observations in a window; 1 is 3D-Var.
    max_iter : int
        Largest number of Gauss-Newton steps, for each length of the window.
    tol : float
        Largest last step in units of the background's standard deviations, relative to
        1 + |v|.
    quasi_static : bool
        Minimise windows of 1, 2, ..., L observations in turn, each from the minimum
        before (Pires, Vautard & Talagrand 1996); otherwise start at the background.
    smoother_lag : int
        Number of later observations that a smoothed state, which lies on the same
        trajectory, is given too; below the window. 0: no smoothed states.

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
    smoother_lag: int = 0

    def _checked(self) -> dict[str, Any]:
        window = _checks.count("window", self.window, minimum=1)
        return {
            **super()._checked(),
            "window": window,
            "smoother_lag": _checks.count(
                "smoother_lag", self.smoother_lag, maximum=window - 1
            ),
            "max_iter": _checks.count("max_iter", self.max_iter),
            "tol": _checks.real("tol", self.tol, above=0.0),
            "quasi_static": _checks.boolean("quasi_static", self.quasi_static),
        }

    @ieee_arithmetic()
    def initial(self, background: np.ndarray, rng: np.random.Generator) -> WindowState:
        """Return the background, without forecasts of earlier cycles."""
        return WindowState(background, np.empty((len(background), 0, 3)), ())

    @ieee_arithmetic()
    def forecast(self, state: WindowState, n_steps: int) -> WindowState:
        """Return the estimate `n_steps` later; the backgrounds stay as they are."""
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
        obs_window = observed_values(obs_window)
        analysis = finite_members(
            partial(complete_apart, partial(self._analysed, state.steps)),
            np.isfinite(starts).all(axis=(1, 2)),
            obs_window[:, -length:],
            starts[:, 0],
        )
        innovation, S = claimed_innovations(
            state.estimate, obs_window[:, -1], as_operator(self.operator), self.B,
            self.R,
        )  # fmt: skip
        # Once the window is full, it loses its oldest background.
        over = max(length + 1 - self.window, 0)
        after = WindowState(analysis.state, starts[:, over:], (*state.steps, 0)[over:])
        return after, replace(
            analysis,
            background=state.estimate,
            innovation=innovation,
            innovation_covariance=S,
        )

    def _analysed(
        self, steps: tuple[int, ...], observations: np.ndarray, background: np.ndarray
    ) -> Analysis:
        operator = as_operator(self.operator)
        y = _checks.vectors(
            "obs_window", observations, size=operator.obs_dim, only_finite=False
        )
        _checks.batch("obs_window", y, (len(background), len(steps) + 1), "the window")
        present = ~np.isnan(y)
        cost = WindowCost(
            background,
            y,
            steps,
            operator,
            root=np.linalg.cholesky(self.B),
            whitening=np.linalg.inv(np.linalg.cholesky(self.R))
            if present.all()
            else present_whitening(self.R, present),
            carry=carrier(**self._model),
        )
        minimum = self._minimum(cost)
        end, smoothed = minimum.at, None
        if (n_cycles := len(steps) - self.smoother_lag) < 0:
            smoothed = np.full_like(background, np.nan)
        elif self.smoother_lag:
            start, n_steps = cost.state(minimum.control), sum(steps[:n_cycles])
            smoothed = forecast_members(start, n_steps, **self._model)
        # Analysis-error covariance: the inverse Hessian, carried to the end of the
        # window.
        P = end.tangent @ np.linalg.solve(end.hessian, np.swapaxes(end.tangent, 1, 2))
        return Analysis(
            state=end.state,
            status=minimum.status,
            n_iter=minimum.n_iter,
            cost=end.cost,
            residual=y[:, -1] - operator(end.state),
            spread=np.sqrt(np.diagonal(P, axis1=1, axis2=2)),
            smoothed=smoothed,
        )

    def _minimum(self, cost: WindowCost) -> Minimum:
        """Return the minimum, if `quasi_static` by windows of growing length."""
        control = np.zeros_like(cost.background)
        n_iter: np.ndarray = np.zeros(len(control), dtype=np.int32)
        if self.quasi_static:
            # The cost of a long window has many local minima. A short window has fewer,
            # and its minimum is a good start for the next longer one.
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
            R=self.R, missing="nan", n_threads=self.n_threads, backend=self.backend,
        )  # fmt: skip
        return cost.control(first.state)
