"""The Lorenz-63 model: parameters, symmetry, model errors, trajectories, forecasts."""

from __future__ import annotations

import copy
import warnings
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._kernels import IntegrateJob, model_kernels
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DivergenceError,
    LargeTimeStepWarning,
)

DIVERGENCE_POLICIES: Final = ("raise", "nan")


@dataclass(frozen=True)
class Lorenz63:
    """The model dx = sigma (y - x), dy = x (rho - z) - y, dz = x y - beta z.

    Sources: Lorenz (1963), Deterministic nonperiodic flow, equations 25 to 27; Revach
    et al. (2022), KalmanNet, section IV.D, for the Taylor polynomial.

    Attributes
    ----------
    sigma, rho, beta : float
    taylor : int, optional
        Order J, at most 20, of the polynomial by which steps are made: with
        dx/dt = A(x) x a step is x -> sum over k <= J of (A(x) dt)^k / k! x. As A is
        constant during a step, no J is more than first order accurate. None: RK4.
    """

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8.0 / 3.0
    taylor: int | None = None

    def __post_init__(self) -> None:
        for name in ("sigma", "rho", "beta"):
            value = _checks.real(name, getattr(self, name))
            object.__setattr__(self, name, value)
        if self.taylor is not None:
            order = _checks.count("taylor", self.taylor, minimum=1, maximum=20)
            object.__setattr__(self, "taylor", order)

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={value!r}" for k, value in self.to_dict().items())
        return f"Lorenz63({given})"

    def as_tuple(self) -> tuple[float, float, float]:
        """Return (sigma, rho, beta), the order that the kernels take."""
        return self.sigma, self.rho, self.beta

    @property
    def steps_by(self) -> str:
        """How steps are made, in words."""
        return "RK4" if self.taylor is None else f"Taylor order {self.taylor}"

    def to_dict(self) -> dict[str, Any]:
        """Return what is given as plain values, for JSON; no `taylor` for RK4."""
        content = asdict(self)
        return {name: value for name, value in content.items() if value is not None}


DEFAULT_PARAMETERS: Final = Lorenz63()


def mirror(states: np.ndarray) -> np.ndarray:
    """Return the mirror images S(x, y, z) = (-x, -y, z), a symmetry of the model."""
    return np.asarray(states * np.array([-1.0, -1.0, 1.0], dtype=states.dtype))


def model_errors(normals: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Return errors (..., 3) with covariance Q (3, 3), made from N(0, 1) draws.

    The draws have the shape (..., 3). The symmetric square root of Q is used. It also
    exists where a direction has no error, and it commutes with the mirror symmetry
    where Q does.
    """
    variances, axes = np.linalg.eigh(Q)
    root = axes * np.sqrt(np.maximum(variances, 0.0)) @ axes.T
    return np.asarray(normals @ root)


def simulate(
    initial_state: Any,
    n_steps: int,
    *,
    dt: float = 0.01,
    save_every: int = 1,
    parameters: Any = DEFAULT_PARAMETERS,
    dtype: Any = None,
    out: np.ndarray | None = None,
    n_threads: int | None = None,
    backend: str = "auto",
    on_divergence: str = "raise",
    allow_large_dt: bool = False,
) -> np.ndarray:
    """Return trajectories, by default by classical RK4; entry 0 is the initial state.

    Parameters
    ----------
    initial_state : (..., 3) float64 or float32
        States, with any strides or byte order; also a torch CPU tensor.
    n_steps : int
        Number of steps; 0 gives the initial state only.
    dt : float
        Time step (time units), at most 0.1 unless `allow_large_dt`.
    save_every : int
        Steps between saved states; must divide `n_steps`.
    parameters : Lorenz63, (3,) or (..., 3) float64
        sigma, rho and beta: of all members, or of each (by RK4).
    dtype : dtype, optional
        Required dtype of the initial states; nothing is converted.
    out : (..., n_saved, 3) array, optional
        Output array, with any strides, such as a transposed view.
    on_divergence : {"raise", "nan"}
        Action where members leave the floating-point range.

    Returns
    -------
    (..., n_saved, 3) with n_saved = n_steps // save_every + 1, of the states' dtype

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    DivergenceError
        If a member became non-finite and `on_divergence` is "raise".
    MemoryLimitError
        If the trajectories need more memory than is free.
    """
    call = Integration(
        initial_state, "initial_state", n_steps, dt, parameters, dtype, n_threads,
        backend, on_divergence, allow_large_dt, of_each=True,
    )  # fmt: skip
    save_every = _checks.count("save_every", save_every, minimum=1)
    if call.n_steps % save_every:
        raise ArgumentValueError(
            f"save_every: expected a divisor of n_steps = {call.n_steps}, "
            f"got {save_every}"
        )
    shape = (*call.states.shape[:-1], call.n_steps // save_every + 1, 3)
    trajectory = _output(out, shape, call.states, initial_state)
    flat = trajectory.reshape(-1, shape[-2], 3) if out is None else _flat(trajectory)
    flat[:, 0] = call.states.reshape(-1, 3)
    if call.n_steps:
        call.run(flat[:, 1:], save_every)
    return trajectory


def forecast(
    state: Any,
    n_steps: int,
    *,
    dt: float = 0.01,
    parameters: Any = DEFAULT_PARAMETERS,
    dtype: Any = None,
    n_threads: int | None = None,
    backend: str = "auto",
    on_divergence: str = "raise",
    allow_large_dt: bool = False,
) -> np.ndarray:
    """Return the states after `n_steps` steps, (..., 3), without storing a trajectory.

    The result equals the last entry of `simulate` bit for bit; so do arguments and
    errors.
    """
    call = Integration(
        state, "state", n_steps, dt, parameters, dtype, n_threads,
        backend, on_divergence, allow_large_dt, only_finite=False, of_each=True,
    )  # fmt: skip
    if not call.n_steps:
        _checks.finite("state", call.states)
        return call.states.copy()
    _checks.memory("state", call.states.nbytes)
    final = np.empty_like(call.states)
    call.run(final.reshape(-1, 1, 3), call.n_steps)
    return final


class Integration:
    """The validated arguments of a call that integrates the model."""

    def __init__(
        self,
        states: Any,
        name: str,
        n_steps: int,
        dt: float,
        parameters: Any,
        dtype: Any,
        n_threads: int | None,
        backend: str,
        on_divergence: str,
        allow_large_dt: bool,
        only_finite: bool = True,
        of_each: bool = False,
    ) -> None:
        self.n_steps = _checks.count("n_steps", n_steps)
        large = _checks.boolean("allow_large_dt", allow_large_dt)
        self.dt, is_large = _checks.time_step("dt", dt, allow_large=large)
        if not (of_each and isinstance(parameters, (np.ndarray, list, tuple))):
            _checks.instance("parameters", parameters, Lorenz63)
        self.n_threads = _checks.threads("n_threads", n_threads)
        self.policy = _checks.choice(
            "on_divergence", on_divergence, DIVERGENCE_POLICIES
        )
        wanted = None if dtype is None else _checks.float_dtype("dtype", dtype)
        if getattr(states, "requires_grad", False):
            raise ArgumentTypeError(
                f"{name}: expected an array without gradient, got a tensor that "
                "requires one; for gradients use l63fast.DifferentiableForecast or "
                "l63fast.torch_forecast, otherwise detach the tensor first"
            )
        self.states = _checks.states(
            name, states, dtype=wanted, only_finite=only_finite
        )
        self.parameters = _of_members(parameters, self.states.shape[:-1])
        self.name = name
        self.kernels = model_kernels(getattr(parameters, "taylor", None), backend)
        if is_large:
            warnings.warn(
                f"dt: {self.dt:g} is above {_checks.LARGE_TIME_STEP:g}, where RK4 is "
                "visibly wrong for Lorenz-63",
                LargeTimeStepWarning,
                stacklevel=3,
            )

    def run(self, saved: np.ndarray, save_every: int) -> None:
        """Fill `saved` (n, n_saved, 3), without the initial state."""
        initial = self.states.reshape(-1, 3)
        if not initial.size:
            return
        # `forecast` has not checked its input. A non-finite initial state stays so; it
        # is searched for only afterwards, which saves a pass over the states.
        n_diverged = self._integrate(initial, saved, save_every)
        if n_diverged:
            _checks.finite(self.name, self.states)
        if n_diverged and self.policy == "raise":
            self._raise_divergence(initial, saved[:, -1])

    def _integrate(self, initial: np.ndarray, out: np.ndarray, save_every: int) -> int:
        job = IntegrateJob(initial, out, save_every, self.dt, self.parameters)
        return self.kernels.integrate(job, self.n_threads)

    def _raise_divergence(self, initial: np.ndarray, final: np.ndarray) -> None:
        members = _non_finite(final)
        _checks.memory(self.name, 2 * initial[:1].nbytes * len(members))
        part = self._part(members)
        raise self.divergence("", members, part._first_bad_step(initial[members]))

    def _part(self, members: np.ndarray) -> Integration:
        """Return this call with the parameters of some members only."""
        if not isinstance(self.parameters, np.ndarray):
            return self
        part = copy.copy(self)
        part.parameters = self.parameters[members]
        return part

    def divergence(self, what: str, members: np.ndarray, step: int) -> DivergenceError:
        """Return the error that says what became non-finite, where and when."""
        n, time = self.states.size // 3, step * self.dt
        return DivergenceError(
            f"{what}{len(members)} of {n} members left the floating-point range, "
            f"the first at step {step} (time {time:g}); members "
            f"{members[:5].tolist()}{'...' if len(members) > 5 else ''}",
            members,
            step,
            time,
        )

    def _first_bad_step(self, states: np.ndarray) -> int:
        """Return the first step after which one of these states is not finite.

        All of them are not finite after the last step. The interval is halved, so the
        search takes no more steps than the forecast and stores only final states.
        """
        done, left, part = 0, self.n_steps, self
        while left > 1:
            half, later = left // 2, np.empty_like(states)
            if part._integrate(states, later[:, np.newaxis], half):
                bad = _non_finite(later)
                part, states, left = part._part(bad), states[bad], half
            else:
                states, done, left = later, done + half, left - half
        return done + 1


def _of_members(
    parameters: Any, leading: tuple[int, ...]
) -> tuple[float, float, float] | np.ndarray:
    """Return sigma, rho and beta of all members, or those of each, (n, 3)."""
    if isinstance(parameters, Lorenz63):
        return parameters.as_tuple()
    array = _checks.vectors("parameters", parameters, size=3, dtype=np.dtype("f8"))
    if array.ndim == 1:
        sigma, rho, beta = array.tolist()
        return sigma, rho, beta
    try:
        each = np.broadcast_to(array, (*leading, 3))
    except ValueError:
        raise ArgumentValueError(
            f"parameters: expected (3,), or one set for each member "
            f"{(*leading, 3)}, got {array.shape}"
        ) from None
    return np.ascontiguousarray(each).reshape(-1, 3)


def _non_finite(states: np.ndarray) -> np.ndarray:
    """Return the members of states (n, 3) that are not finite."""
    bad = ~np.isfinite(states)
    return np.flatnonzero(bad[:, 0] | bad[:, 1] | bad[:, 2])  # quicker than any(axis=1)


def _output(
    out: np.ndarray | None, shape: tuple[int, ...], states: np.ndarray, given: Any
) -> np.ndarray:
    if out is None:
        n_bytes = states.dtype.itemsize
        for length in shape:
            n_bytes *= length
        _checks.memory("n_steps", n_bytes)
        return np.empty(shape, dtype=states.dtype)
    return _checks.output("out", out, shape, states.dtype, (states, given))


def _flat(out: np.ndarray) -> np.ndarray:
    """Return `out` (..., n_saved, 3) as a view (n, n_saved, 3)."""
    if out.ndim == 2:
        return out[np.newaxis]
    if out.ndim == 3:
        return out
    try:
        return out.reshape(-1, *out.shape[-2:], copy=False)
    except ValueError:
        raise ArgumentValueError(
            "out: expected leading axes that can be seen as one without a copy, got "
            f"shape {out.shape} with strides {out.strides}"
        ) from None
