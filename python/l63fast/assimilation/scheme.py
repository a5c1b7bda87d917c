"""The protocol of assimilation schemes, and parts that several schemes share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol, TypeVar

import numpy as np

from l63fast import _checks, _random
from l63fast._kernels import BACKENDS
from l63fast._summary import OneScreen
from l63fast.assimilation.agreement import FromTwin
from l63fast.errors import ArgumentTypeError
from l63fast.lorenz63 import Lorenz63, forecast, propagator
from l63fast.observation import ObservationOperator, as_operator
from l63fast.verification import draw_members, mixture_moments

State = TypeVar("State")


class Status(IntEnum):
    """How the analysis of one sample ended.

    DIVERGED means one of three: a minimisation that used all iterations and ended above
    the cost of the background, one that started where the cost is not finite, or a
    filter that has lost the truth. A filter has lost the truth where its own covariance
    gives such an innovation with a probability below 1e-9.
    """

    CONVERGED = 0
    MAX_ITER = 1
    DIVERGED = 2
    NON_FINITE = 3


@dataclass(frozen=True, eq=False, repr=False)
class Analysis(OneScreen):
    """Analyses of a batch of samples, with the status of each.

    Attributes
    ----------
    state : (..., 3)
        The analysis x_a; of an ensemble, its mean.
    status : (...,) int8
        A `Status` per sample.
    n_iter : (...,) int32
        Number of iterations; 0 for schemes that do not iterate.
    cost : (...,)
        The variational cost at the analysis; NaN for schemes without one.
    residual : (..., obs_dim)
        y - h(x_a); NaN where y is missing.
    background : (..., 3) or None
        The background x_b; every scheme's `analyse` gives it.
    spread : (..., 3) or None
        Standard deviation of the analysis error as estimated by the scheme.
    innovation : (..., obs_dim) or None
        y - h(x_b); of an ensemble, y minus the mean of h(x). NaN where y is missing.
    innovation_covariance : (..., obs_dim, obs_dim) or None
        The scheme's estimate of its covariance, H B H^T + R, of missing values as well.
    members : (..., n_members, 3) or None
        The analysis ensemble.
    components : (..., k) of dtype `verification.NORMAL`, or None
        Estimated distribution as a mixture of k normals; with one of them its mean is
        the analysis. Where the observations do not show the sign of (x, y), the first
        component is that of `state`, and the second one its mirror image.
    effective_size : (...,) or None
        Number of equally weighted particles with the same variance of the mean.
    smoothed : (..., 3) or None
        The state `smoother_lag` observations before, given all of them so far; NaN
        before there are so many.
    parameters, parameters_spread : (..., 3) or None
        Estimates of sigma, rho and beta, and their standard deviations.
    """

    state: np.ndarray
    status: np.ndarray
    n_iter: np.ndarray
    cost: np.ndarray
    residual: np.ndarray
    background: np.ndarray | None = None
    spread: np.ndarray | None = None
    innovation: np.ndarray | None = None
    innovation_covariance: np.ndarray | None = None
    members: np.ndarray | None = None
    effective_size: np.ndarray | None = None
    components: np.ndarray | None = None
    smoothed: np.ndarray | None = None
    parameters: np.ndarray | None = None
    parameters_spread: np.ndarray | None = None

    @property
    def covariance(self) -> np.ndarray | None:
        """Covariance (..., 3, 3) of the estimated distribution; None without one."""
        return None if self.components is None else mixture_moments(self.components)[1]

    def draw_members(self, n: int, seed: _checks.Seed = 0) -> np.ndarray:
        """Return members (..., n, 3) drawn from the estimated distribution.

        Raises
        ------
        ArgumentTypeError
            If the scheme gives none.
        """
        return draw_members(self.components, n, seed)

    def _summary(self) -> dict[str, Any]:
        return {**super()._summary(), "status": status_counts(self.status)}


def status_counts(status: np.ndarray) -> str:
    """Return the number of analyses by status, such as "98 converged, 2 max_iter"."""
    numbers = {one: int((status == one).sum()) for one in Status}
    return ", ".join(f"{n} {one.name.lower()}" for one, n in numbers.items() if n)


_REQUIRED: Final = ("window", "initial", "forecast", "analyse")


def check_scheme(name: str, scheme: Any) -> None:
    """Refuse what is no scheme, or the class of one."""
    if isinstance(scheme, type):
        raise ArgumentTypeError(
            f"{name}: expected a scheme, such as EnKF.for_twin(...) makes, got the "
            f"class {scheme.__name__}"
        )
    if missing := [verb for verb in _REQUIRED if not hasattr(scheme, verb)]:
        raise ArgumentTypeError(
            f"{name}: expected a scheme with {', '.join(_REQUIRED)}, got "
            f"{type(scheme).__name__} without {', '.join(missing)}"
        )


def check_analysed(scheme: Any, found: Any, verb: str = "analyse") -> None:
    """Refuse what a scheme's `analyse` or `run` returned, if cycles cannot keep it."""
    if not (isinstance(found, tuple) and len(found) == 2) or not isinstance(
        found[1], Analysis
    ):
        parts = map(_kind, found) if isinstance(found, tuple) else ()
        got = f"({', '.join(parts)})" if isinstance(found, tuple) else _kind(found)
        raise ArgumentTypeError(
            f"scheme: expected {verb} to return (state, Analysis), got {got} from "
            f"{_kind(scheme)}"
        )
    if found[1].background is None:
        raise ArgumentTypeError(
            "scheme: expected its Analysis to have a background, as cycles compare it "
            f"with the truth, got None from {_kind(scheme)}"
        )


def _kind(value: Any) -> str:
    return type(value).__name__


class Scheme(Protocol[State]):
    """An assimilation scheme: three pure methods on a state, batched over trajectories.

    The type of the state is the scheme's choice: an array, an ensemble, a mean with a
    covariance, or a background with a network's hidden state. A trajectory whose state
    became non-finite stays so and has `Status.NON_FINITE`; the others are not affected.

    A scheme may have an attribute `made_for`, a `Setup` with its assumptions about the
    data; a scheme without it can be used with any twin experiment. A scheme that gives
    smoothed states has an attribute `smoother_lag`, above 0.
    """

    @property
    def window(self) -> int:
        """Number L of observations given to `analyse`; the last is at analysis time.

        A scheme with the attribute `window_grows` is given fewer until there are L.
        """

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> State:
        """Return the state before any observation, from backgrounds (n, 3)."""

    def forecast(self, state: State, n_steps: int) -> State:
        """Return the state `n_steps` model steps later."""

    def analyse(self, state: State, obs_window: np.ndarray) -> tuple[State, Analysis]:
        """Return the state after the observations (n, L, obs_dim), and the analysis.

        NaN is a value that was not observed; without any value the state stays.
        """


@dataclass(frozen=True, eq=False)
class SchemeSettings(FromTwin):
    """Settings of a scheme that combines a forecast and observations.

    Parameters
    ----------
    operator : ObservationOperator or its name
    B : float or (3, 3)
        Covariance of the background error; a number is a variance.
    R : float or (obs_dim, obs_dim)
        Covariance of the observation error.
    dt : float
        Time step of the model (time units).
    parameters : Lorenz63
        Or (n, 3) float64, sigma, rho and beta of each trajectory, for ensemble Kalman
        and particle filters.
    n_threads, backend
        Of the model, as in `l63fast.forecast`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    operator: ObservationOperator | str
    B: np.ndarray
    R: np.ndarray
    _: KW_ONLY
    dt: float = 0.01
    if TYPE_CHECKING:
        parameters: Lorenz63 = field(default_factory=Lorenz63)
    else:
        parameters: Any = field(default_factory=Lorenz63)
    n_threads: int | None = None
    backend: str = "auto"
    # Whether each trajectory may have its own parameters.
    _takes_own: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)

    def _checked(self) -> dict[str, Any]:
        operator = as_operator(self.operator)
        options: dict[str, Any] = {"dtype": np.dtype(np.float64), "shape": ()}
        parameters: Any = self.parameters
        if self._takes_own and isinstance(parameters, np.ndarray):
            size, dtype = 3, np.dtype(np.float64)
            parameters = _checks.vectors(
                "parameters", parameters, size=size, dtype=dtype
            )
        else:
            _checks.instance("parameters", parameters, Lorenz63)
        _checks.choice("backend", self.backend, BACKENDS)
        _checks.threads("n_threads", self.n_threads)
        return {
            "parameters": parameters,
            "dt": _checks.time_step("dt", self.dt, allow_large=False)[0],
            "operator": operator,
            "B": _checks.covariance("B", self.B, size=3, **options),
            "R": _checks.covariance("R", self.R, size=operator.obs_dim, **options),
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
    """Settings of a filter that estimates the error of its own state.

    Parameters
    ----------
    operator, R, dt, parameters, n_threads, backend
        As in `SchemeSettings`.
    B : (3, 3)
        Covariance of the error of the first background.
    Q : (3, 3), optional
        Covariance of the model error added in each forecast; zeros mean none.
    smoother_lag : int
        Number of later observations that a smoothed state is given too; 0: no smoother.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    _: KW_ONLY
    Q: np.ndarray | None = None
    smoother_lag: int = 0

    def _checked(self) -> dict[str, Any]:
        Q = self.Q
        if Q is not None:
            options: dict[str, Any] = {"dtype": np.dtype(np.float64), "shape": ()}
            Q = _checks.covariance("Q", Q, size=3, semidefinite=True, **options)
        return {
            **super()._checked(),
            "Q": Q if Q is not None and Q.any() else None,
            "smoother_lag": _checks.count("smoother_lag", self.smoother_lag),
        }

    @property
    def window(self) -> int:
        """A window of one observation, the latest."""
        return 1


@dataclass(frozen=True, eq=False)
class KalmanSettings(FilterSettings):
    """Settings of a Kalman filter.

    Parameters
    ----------
    operator, B, R, Q, smoother_lag, dt, parameters, n_threads, backend
        As in `FilterSettings`.
    inflation : float
        Factor on the standard deviations, applied once per cycle.

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


class Draws(NamedTuple):
    """A position in the random stream of one run of a scheme.

    A scheme's methods are pure, so its state holds this instead of a generator: the
    same state gives the same numbers. The numbers of a trajectory depend only on the
    key, the position and the trajectory, not on the number of trajectories.

    Attributes
    ----------
    key : int
        Key of the run.
    position : int
        Number of draws made so far.
    """

    key: int
    position: int = 0

    @classmethod
    def keyed_by(cls, rng: np.random.Generator) -> Draws:
        """Return the start of a stream, with a key drawn from a generator."""
        return cls(int(rng.integers(2**63)))

    @property
    def kernel_key(self) -> tuple[int, int]:
        """The key for a kernel that draws its own random numbers, by position."""
        return _random.kernel_key(self.key, "scheme", "none")

    def normals(
        self, n_trajectories: int, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, Draws]:
        """Return N(0, 1) draws (n_trajectories, *shape), and the next position."""
        draws = _random.standard_normals(
            self.key, "scheme", "none", n_trajectories, shape, draw=self.position
        )
        return draws, self._replace(position=self.position + 1)


def first_members(
    background: np.ndarray, B: np.ndarray, n_members: int, rng: np.random.Generator
) -> tuple[np.ndarray, Draws]:
    """Return members (n, n_members, 3) drawn from N(background, B), and the draws."""
    normals, draws = Draws.keyed_by(rng).normals(len(background), (n_members, 3))
    # B = L L^T, so L z has the covariance B for z from N(0, I).
    return background[:, None] + normals @ np.linalg.cholesky(B).T, draws


def forecast_members(state: np.ndarray, n_steps: int, **model: Any) -> np.ndarray:
    """Return the states (..., 3) `n_steps` later; non-finite states give NaN.

    The public `forecast` refuses non-finite states. Only a scheme, which counts its
    non-finite members, may go on with them.
    """
    if isinstance(own := model.get("parameters"), np.ndarray):
        # Of each trajectory, or of each member.
        shape = own.shape[:-1] + (1,) * (state.ndim - own.ndim) + (3,)
        model["parameters"] = np.broadcast_to(own.reshape(shape), state.shape)
    values = np.isfinite(state)
    # All at once first, which is much faster than by member.
    finite = None if values.all() else values.all(axis=-1)
    # A member may become non-finite in this forecast: NaN instead of an exception.
    going = state if finite is None else state[finite]
    if finite is not None and own is not None and not isinstance(own, Lorenz63):
        model["parameters"] = model["parameters"][finite]
    later = forecast(going, n_steps, on_divergence="nan", **model)
    return later if finite is None else _scattered(later, finite, np.nan)


def propagate_members(
    state: np.ndarray, n_steps: int, **model: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the states (n, 3) `n_steps` later and their propagators M (n, 3, 3).

    Non-finite states give NaN, as in `forecast_members`.
    """
    finite = np.isfinite(state).all(axis=-1)
    later, M = propagator(state[finite], n_steps, on_divergence="nan", **model)
    return _scattered(later, finite, np.nan), _scattered(M, finite, np.nan)


def finite_members(
    analyse: Callable[..., Analysis], finite: np.ndarray, *arrays: np.ndarray
) -> Analysis:
    """Return `analyse(*arrays)`, done for the finite members only.

    Parameters
    ----------
    analyse : callable
        Takes the arrays of the finite members.
    finite : (n,) bool
        Whether a member is finite.
    *arrays : (n, ...)
        Backgrounds, observations and other inputs.

    Returns
    -------
    Analysis
        For the other members NaN with `Status.NON_FINITE`.
    """
    if finite.all():
        return analyse(*arrays)
    # Kernels and linear algebra refuse non-finite input, so these members are left out.
    part = analyse(*(array[finite] for array in arrays))
    fills = {"status": Status.NON_FINITE, "n_iter": 0}
    values = {item.name: getattr(part, item.name) for item in fields(Analysis)}
    return Analysis(
        **{
            name: _scattered(value, finite, fills.get(name, np.nan))
            for name, value in values.items()
            if value is not None
        }
    )


def complete_apart(
    analyse: Callable[..., Analysis], observations: np.ndarray, *arrays: np.ndarray
) -> Analysis:
    """Return `analyse(observations, *arrays)`, done apart for samples without gaps.

    So their bits do not depend on the gaps of others, whose matrices differ.
    """
    gaps = np.isnan(observations)
    if not gaps.any():
        return analyse(observations, *arrays)
    gaps = gaps.any(axis=tuple(range(1, observations.ndim)))
    groups = [np.flatnonzero(~gaps), np.flatnonzero(gaps)]
    parts = [
        analyse(*(array[group] for array in (observations, *arrays)))
        for group in groups
    ]
    order = np.argsort(np.concatenate(groups))
    return Analysis(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])[order]
            for name, value in vars(parts[0]).items()
            if value is not None
        }
    )


def _scattered(values: np.ndarray, chosen: np.ndarray, fill: float) -> np.ndarray:
    full = np.full((*chosen.shape, *values.shape[1:]), fill, dtype=values.dtype)
    full[chosen] = values
    return full


def observed_values(observations: np.ndarray) -> np.ndarray:
    """Return observations (..., m), of which NaN are missing; refuse infinity.

    The missing values become the one NaN of NumPy, so that no other bit pattern of a
    NaN gets into a result.
    """
    # The sum is finite, but for an overflow, where every value is: one short call.
    if math.isfinite(np.add.reduce(observations, axis=None)):
        return observations
    _checks.finite("observations", observations, missing="nan")
    return np.where(np.isnan(observations), np.nan, observations)


def present_block(matrices: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return matrices with the rows and columns of missing values of the identity.

    So the inverse contains that of the block of the present values.

    Parameters
    ----------
    matrices : (..., m, m)
    present : (..., m) bool
    """
    both = present[..., :, None] & present[..., None, :]
    return np.where(both, matrices, np.eye(present.shape[-1]))


def present_whitening(R: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return W (..., m, m), W^T W = R^-1 of the present values, else zeros.

    Parameters
    ----------
    R : (m, m) or (..., m, m)
    present : (..., m) bool
    """
    W = np.linalg.inv(np.linalg.cholesky(present_block(R, present)))
    return np.asarray(W * present[..., None])


_LOST: Final = 1e-9  # probability of calling a consistent filter lost


def claimed_innovations(
    background: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator,
    B: np.ndarray,
    R: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return innovations y - h(x_b), (..., m), and H B H^T + R, (..., m, m).

    Parameters
    ----------
    background : (..., 3)
        NaN and infinity are accepted.
    observation : (..., m)
    operator : ObservationOperator
        Its Jacobian H is taken at x_b.
    B : (3, 3) or (..., 3, 3)
    R : (m, m)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        # First order: h(x) is taken as h(x_b) + H (x - x_b), so cov(d) = H B H^T + R.
        H = operator.jacobian(background)
        covariance = H @ B @ np.swapaxes(H, -1, -2) + R
        return np.asarray(observation - operator(background)), covariance


def lost_beyond(present: np.ndarray) -> np.ndarray:
    """Return the limits (...) of d^T S^-1 d above which a filter has lost the truth.

    d is the innovation and S its covariance as estimated by the filter. If S is right,
    d^T S^-1 d is chi-square distributed and exceeds the limit once in 1e9 times. The
    limit depends on the number of values that are present (..., m); it is infinite
    without any.
    """
    return np.asarray(_lost_limits()[np.add.reduce(present, axis=-1)])


def is_lost(innovation: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return whether a filter has lost the truth, as in `lost_beyond`, (n,) bool.

    Parameters
    ----------
    innovation : (n, m)
        NaN where a value is missing.
    covariance : (n, m, m)
        Of the innovation, as estimated by the filter.
    """
    present = ~np.isnan(innovation)
    d = np.where(present, innovation, 0.0)[..., None]
    weighted = np.linalg.solve(present_block(covariance, present), d)
    return np.asarray((d * weighted).sum(axis=(-2, -1)) > lost_beyond(present))


@cache
def _lost_limits() -> np.ndarray:
    """Return the limits for 0 to 3 values."""
    from scipy.special import chdtri  # imported here, as in _random

    return np.array([np.inf, *(chdtri(n, _LOST) for n in (1, 2, 3))])
