"""The forecast as a differentiable function of tensors: kernel and adjoint, or torch.

Reverse-mode differentiation needs the product of a gradient g with the derivative of
the forecast, M^T g. The adjoint kernel computes it from the start states alone: it
repeats the forecast and then goes backwards through the Runge-Kutta steps. So torch's
graph holds one node per forecast instead of every stage of every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l63fast import _checks
from l63fast.errors import ArgumentTypeError
from l63fast.learning.pinned import pinned
from l63fast.lorenz63 import Lorenz63, adjoint, forecast

_CLASSICAL: Final = Lorenz63()


@dataclass(frozen=True)
class DifferentiableForecast:
    """The forecast `n_steps` later as a function of torch tensors, with gradients.

    On the CPU the values are those of `forecast`, bit for bit, and the derivative is
    `adjoint`; on other devices both are computed by `torch_forecast`.

    Parameters
    ----------
    n_steps : int
    dt : float
        Time step (time units).
    parameters : Lorenz63
    n_threads, backend, on_divergence
        As in `forecast`; with "nan" the gradient of a non-finite member is not finite.
    """

    n_steps: int
    dt: float = 0.01
    parameters: Lorenz63 = field(default_factory=Lorenz63)
    n_threads: int | None = None
    backend: str = "auto"
    on_divergence: str = "raise"

    def __call__(self, states: Tensor) -> Tensor:
        """Return the states (..., 3), float64 or float32, `n_steps` later.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If an argument is not as described.
        DivergenceError
            If a member became non-finite and `on_divergence` is "raise".
        """
        _check_tensor(states)
        if states.device.type != "cpu":
            return torch_forecast(
                states, self.n_steps, dt=self.dt, parameters=self.parameters
            )
        later: Tensor = _KernelForecast.apply(states, self)  # type: ignore[no-untyped-call]
        return later

    def after(self, states: Tensor, times: Tensor) -> Tensor:
        """Return states (n, 3), each after its own time (n,), in whole steps."""
        steps = (times / self.dt).round().long()
        order, parts = [], []
        for n_steps in sorted(set(steps.tolist())):
            order.append((steps == n_steps).nonzero()[:, 0])
            parts.append(replace(self, n_steps=n_steps)(states[order[-1]]))
        return torch.cat(parts)[torch.cat(order).argsort()]

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of both `forecast` and `adjoint`."""
        return {
            "dt": self.dt,
            "parameters": self.parameters,
            "n_threads": self.n_threads,
            "backend": self.backend,
            "on_divergence": self.on_divergence,
        }


class _KernelForecast(torch.autograd.Function):
    """Forward by `forecast`, backward by `adjoint`; the tensors are not copied."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, model: DifferentiableForecast) -> Tensor:
        ctx.save_for_backward(states)
        ctx.model = model
        start = states.detach().numpy()
        return torch.from_numpy(forecast(start, model.n_steps, **model.options()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (states,) = ctx.saved_tensors
        model = ctx.model
        at_start = adjoint(
            states.detach().numpy(),
            gradient.contiguous().numpy(),
            model.n_steps,
            **model.options(),
        )
        return torch.from_numpy(at_start), None


def torch_forecast(
    states: Tensor, n_steps: int, *, dt: float = 0.01, parameters: Lorenz63 = _CLASSICAL
) -> Tensor:
    """Return states (..., 3) `n_steps` steps later, in plain torch on any device.

    One step agrees with the kernel to 1e-13. torch keeps every stage of every step for
    the gradient; on the CPU `DifferentiableForecast` needs less memory and time.

    Parameters
    ----------
    states : (..., 3) Tensor
    n_steps : int
    dt : float
        Time step (time units).
    parameters : Lorenz63

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If `n_steps` is not a number of steps, or `states` is no tensor.
    """
    _check_tensor(states)
    n_steps = _checks.count("n_steps", n_steps)
    for _ in range(n_steps):
        if parameters.taylor is not None:
            states = _taylor_step(states, dt, parameters)
            continue
        k1 = _tendency(states, parameters)
        k2 = _tendency(states + 0.5 * dt * k1, parameters)
        k3 = _tendency(states + 0.5 * dt * k2, parameters)
        k4 = _tendency(states + dt * k3, parameters)
        states = states + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return states


@pinned()
def earlier_states(
    states: np.ndarray,
    n_steps: int,
    *,
    dt: float = 0.01,
    parameters: Lorenz63 = _CLASSICAL,
) -> np.ndarray:
    """Return the states (..., 3) `n_steps` earlier, to the accuracy of RK4.

    The model is integrated backwards in time, where the attractor repels: after half a
    time unit rounding errors are as large as the state.
    """
    start = torch.from_numpy(np.ascontiguousarray(states))
    later = torch_forecast(start, n_steps, dt=-dt, parameters=parameters)
    return np.asarray(later.numpy())


def _check_tensor(states: Any) -> None:
    if not isinstance(states, Tensor):
        raise ArgumentTypeError(
            f"states: expected a torch tensor, got {type(states).__name__}"
        )


def _tendency(states: Tensor, parameters: Lorenz63) -> Tensor:
    sigma, rho, beta = parameters.as_tuple()
    x, y, z = states.unbind(-1)
    return torch.stack((sigma * (y - x), x * (rho - z) - y, x * y - beta * z), -1)


def _taylor_step(states: Tensor, dt: float, parameters: Lorenz63) -> Tensor:
    """Return the states after a step, as in `_kernels.taylor`."""
    sigma, rho, beta = parameters.as_tuple()
    assert parameters.taylor is not None
    x, term = states[..., 0], states
    for k in range(1, parameters.taylor + 1):
        u, v, w = term.unbind(-1)
        rows = sigma * (v - u), rho * u - v - x * w, x * v - beta * w
        term = dt / k * torch.stack(rows, -1)
        states = states + term
    return states
