"""3D-Var: the variational cost, its minimum, and the cycled scheme."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels import AnalysisJob, load_kernels
from l63fast.assimilation.gauss_newton import Expansion, expansion, minimise
from l63fast.assimilation.scheme import (
    Analysis,
    SchemeSettings,
    Status,
    claimed_innovations,
    finite_members,
    forecast_members,
    observed_values,
    present_block,
    present_whitening,
)
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator, as_operator

_TOL: Final = 1e-9
_TOL_FLOAT32: Final = 1e-5
# Starting points v for an operator of your own; v = 0 is the background.
_STARTS: Final = np.concatenate([np.zeros((1, 3)), 2.0 * np.eye(3), -2.0 * np.eye(3)])
_SECOND_STEP: Final = 1e-4  # step of the differences of the Jacobian
_EQUAL: Final = 1e-9  # relative difference of costs below which minima are equal
_BLOCK: Final = 4096  # samples that are minimised together: about 50 MiB


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
    missing: str = "raise",
    n_threads: int | None = None,
    backend: str = "auto",
) -> Analysis:
    """Return the analyses that minimise the variational cost, batched and compiled.

    Linear h has a closed form. Otherwise a safeguarded Newton iteration starts from the
    value that the observation suggests; nothing unconverged is reported as converged.
    For an operator of your own, a damped Gauss-Newton iteration in NumPy starts at the
    background.

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
        Largest number of iterations; 0 returns the background.
    tol : float, optional
        Largest last step of an observed component u, relative to |u| + |u_b| + the
        smaller of sqrt(B_ii) and R_ii^(1/(2 p)) for power p; by default 1e-9, in
        float32 1e-5. For an operator of your own: largest last step of v = B^(-1/2) (x
        - x_b), relative to 1 + |v|.
    multi_start : bool
        Also start in the other basins where h is nonlinear (for an operator of your
        own: also at |v| = 2 in both directions of three axes). With several powers and
        strong correlations in B or R, the result may still be a local minimum, in one
        of a hundred problems drawn at random.
    missing : {"raise", "nan"}
        Whether NaN in `observation` is refused, or a value that was not observed. Such
        a value has no row in H and R, and its residual is NaN. Without any value the
        analysis is the background, CONVERGED after 0 iterations with the cost 0.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described; B and R must be positive definite.
    """
    operator = as_operator(operator)
    m = operator.obs_dim
    # Non-finite input shows in the status; it is searched for only then.
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
    _checks.choice("missing", missing, ("raise", "nan"))
    _checks.memory("background", x_b.nbytes + y.nbytes + 13 * (x_b.size // 3))
    covariances = B.reshape(-1, 3, 3), R.reshape(-1, m, m)
    arrays = (x_b.reshape(-1, 3), y.reshape(-1, m), *covariances)
    kernels, threads = load_kernels(backend), _checks.threads("n_threads", n_threads)
    if operator.is_own:
        starts = _STARTS if several and max_iter else _STARTS[:1]
        options = (operator, starts, max_iter, tol)
        _checks.finite("observation", y, missing=missing)
        blocks = [_minimised(part, *options) for part in _blocks(arrays)]
        results = tuple(map(np.concatenate, zip(*blocks, strict=True)))
    else:
        h = (operator.components, operator.powers)
        n_starts = n_basins(operator) if several else 1
        # The minimum is NaN where any value is; it needs no other array.
        gaps = missing == "nan" and bool(
            np.isnan(np.minimum.reduce(y, axis=None, initial=0.0))
        )
        job = AnalysisJob(*arrays, *h, n_starts, max_iter, tol, gaps)
        results = kernels.analyse(job, threads)
    state, status, n_iter, cost, residual = results
    # As an int: NumPy takes microseconds to compare its own integer with the Status.
    if status.size and int(status.max()) == Status.NON_FINITE:
        _checks.finite("background", x_b)
        _checks.finite("observation", y, missing=missing)
    return Analysis(
        state=state.reshape(*shape, 3),
        status=status.reshape(shape),
        n_iter=n_iter.reshape(shape),
        cost=cost.reshape(shape),
        residual=residual.reshape(*shape, m),
        background=x_b,
    )


class _Cost(NamedTuple):
    """J(v) = |v|^2 / 2 + |W (y - h(x_b + U v))|^2 / 2, U U^T = B, W^T W = R^-1.

    All arrays have one entry per sample and are float64.
    """

    operator: ObservationOperator
    background: np.ndarray
    observation: np.ndarray
    root: np.ndarray
    whitening: np.ndarray

    def of(self, samples: np.ndarray) -> _Cost:
        return _Cost(self[0], *(values[samples] for values in self[1:]))

    def expanded(self, control: np.ndarray) -> Expansion:
        """Return the cost at v (n, 3), its gradient and its Hessian.

        The full Hessian is used where it is positive definite. Near a minimum it is
        needed: with large residuals Gauss-Newton converges slowly. Elsewhere, far from
        a minimum, the Gauss-Newton Hessian is used.
        """
        at, full = self._hessians(control)
        definite = _is_definite(full)
        at.hessian[definite] = full[definite]
        return at

    def is_saddle(self, control: np.ndarray) -> np.ndarray:
        """Return whether a stationary point is a saddle of the cost, (n,) bool."""
        full = self._hessians(control)[1]
        return ~_is_definite(full + _SECOND_STEP * np.eye(3))

    @np.errstate(
        all="ignore"
    )  # h may have no value at a start; its cost is then infinite
    def _hessians(self, control: np.ndarray) -> tuple[Expansion, np.ndarray]:
        state = self.background + (self.root @ control[..., None])[..., 0]
        innovation = self.observation - self.operator(state)
        residual = (self.whitening @ innovation[..., None])[..., 0]
        G = self.whitening @ (self.operator.jacobian(state) @ self.root)
        at = expansion(control, residual, G, state, self.root.copy())
        return at, self._full_hessian(at, residual)

    def _full_hessian(self, at: Expansion, residual: np.ndarray) -> np.ndarray:
        """Return the Hessian with second derivatives of h, by central differences."""
        weighted = residual[:, None, :] @ self.whitening
        curvature = np.empty_like(self.root)
        for j in range(3):
            before, after = at.state.copy(), at.state.copy()
            step = _SECOND_STEP * np.maximum(np.abs(at.state[:, j]), 1.0)
            before[:, j] -= step
            after[:, j] += step
            change = self.operator.jacobian(after) - self.operator.jacobian(before)
            curvature[:, j] = (weighted @ change)[:, 0] / (2.0 * step)[:, None]
        # Differences are not exactly symmetric, but a Hessian is.
        curvature = 0.5 * (curvature + np.swapaxes(curvature, 1, 2))
        # J'' in v: I + G^T G - U^T (sum over i of (R^-1 r)_i h_i'') U.
        full = at.hessian - np.swapaxes(self.root, 1, 2) @ curvature @ self.root
        full[~np.isfinite(full).all(axis=(1, 2))] = 0.0
        return np.asarray(full)


def _is_definite(matrices: np.ndarray) -> np.ndarray:
    """Return which matrices (n, 3, 3) are positive definite (Sylvester's criterion)."""
    plane = np.linalg.det(matrices[:, :2, :2]) > 0.0
    full = np.linalg.det(matrices) > 0.0
    return np.asarray((matrices[:, 0, 0] > 0.0) & plane & full)


def _blocks(arrays: tuple[np.ndarray, ...]) -> Iterator[list[np.ndarray]]:
    """Return blocks of arrays (n or 1, ...), of which the first has length n."""
    for first in range(0, max(len(arrays[0]), 1), _BLOCK):
        part = slice(first, first + _BLOCK)
        yield [array[part] if len(array) > 1 else array for array in arrays]


def _minimised(
    arrays: list[np.ndarray],
    operator: ObservationOperator,
    starts: np.ndarray,
    max_iter: int,
    tol: float,
) -> tuple[np.ndarray, ...]:
    """Return the results of the kernel, for an operator that it does not know.

    The arrays are background (n, 3), observation (n, m), B and R (1 or n, ...). The
    lowest of the minima from all starts (k, 3) is taken; of equal minima the first that
    has converged.
    """
    background, observation, B, R = arrays
    n, k, dtype = len(background), len(starts), background.dtype
    root = np.linalg.cholesky(B.astype(np.float64))
    present = ~np.isnan(observation)
    if present.all():
        whitening = np.linalg.inv(np.linalg.cholesky(R.astype(np.float64)))
    else:
        whitening = present_whitening(R.astype(np.float64), present)
    observation = np.where(present, observation, np.nan)
    known = np.where(present, observation, 0.0)
    each = [
        np.broadcast_to(array, (n, *array.shape[1:])).astype(np.float64)
        for array in (background, known, root, whitening)
    ]
    cost = _Cost(operator, *(np.repeat(array, k, axis=0) for array in each))
    minimum = minimise(cost, np.tile(starts, (n, 1)), max_iter=max_iter, tol=tol)
    costs, ended = minimum.at.cost.reshape(n, k), minimum.status.reshape(n, k)
    lowest = costs.min(axis=1, initial=np.inf)[:, None]
    equal = costs <= lowest + _EQUAL * (1.0 + lowest)
    # 0: lowest and converged; 1: lowest, not converged; 2: not the lowest.
    rank = np.where(equal, ended != Status.CONVERGED, 2)
    best = np.arange(n) * k + rank.argmin(axis=1)
    state, lost = minimum.at.state[best], ~np.isfinite(minimum.at.cost[best])
    saddle = cost.of(best).is_saddle(minimum.control[best])
    worse = [Status.NON_FINITE, Status.MAX_ITER]
    status = np.select([lost, saddle], worse, minimum.status[best]).astype(np.int8)
    with np.errstate(all="ignore"):
        residual = np.where(lost[:, None], np.nan, observation - operator(state))
    J = np.where(lost, np.nan, minimum.at.cost[best])
    n_iter = minimum.n_iter[best]
    return state.astype(dtype), status, n_iter, J.astype(dtype), residual.astype(dtype)


def n_basins(operator: ObservationOperator) -> int:
    """Return the number of starting points, one for each basin of the cost.

    Each nonlinear component can have two basins. With a single even power the lower
    minimum is always on the background's side of zero, so one start is enough.
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
    missing: str = "raise",
) -> np.ndarray:
    """Return J = |x - x_b|^2 / 2 in the norm of B^-1 + |y - h(x)|^2 / 2 in R^-1.

    Parameters
    ----------
    state, background : (..., 3)
    observation : (..., obs_dim)
    operator : ObservationOperator or its name
    B : float, (3, 3) or (..., 3, 3)
        Covariance of the background error; a number is a variance.
    R : float, (obs_dim, obs_dim) or (..., obs_dim, obs_dim)
        Covariance of the observation error.
    missing : {"raise", "nan"}
        As in `three_d_var`: NaN in `observation` can be a value without a row in H, R.

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
        "observation",
        observation,
        size=operator.obs_dim,
        dtype=dtype,
        only_finite=False,
    )
    _checks.batch("observation", observation, shape, "state")
    _checks.choice("missing", missing, ("raise", "nan"))
    _checks.finite("observation", observation, missing=missing)
    B = _checks.covariance("B", B, size=3, dtype=dtype, shape=shape)
    R = _checks.covariance("R", R, size=operator.obs_dim, dtype=dtype, shape=shape)
    present = ~np.isnan(observation)
    residual = np.where(present, observation - operator(state), 0.0)
    if not present.all():
        R = present_block(R, present)
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
    """Cycled 3D-Var with a static B; its state is the latest estimate (n, 3).

    Parameters
    ----------
    operator : ObservationOperator or its name
    B : float or (3, 3)
        Covariance of the background error; a number is a variance.
    R : float or (obs_dim, obs_dim)
        Covariance of the observation error.
    dt, parameters
        As in `SchemeSettings`.
    max_iter, tol, multi_start, n_threads, backend
        As in `three_d_var`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    _: KW_ONLY
    max_iter: int = 20
    tol: float | None = None
    multi_start: bool = True

    def _checked(self) -> dict[str, Any]:
        _checks.count("max_iter", self.max_iter, maximum=2**31 - 1)
        if self.tol is not None:
            _checks.real("tol", self.tol, above=0.0)
        _checks.boolean("multi_start", self.multi_start)
        return super()._checked()

    @property
    def window(self) -> int:
        """A window of one observation, the latest."""
        return 1

    @property
    def numbers(self) -> dict[str, float]:
        """Settings of the iteration, by their names in kernels.hpp."""
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
        """Return the analysis of the latest observation, as the state and in full."""
        observation = observed_values(obs_window[:, -1])
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
            missing="nan",
            n_threads=self.n_threads,
            backend=self.backend,
        )
