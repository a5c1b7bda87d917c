"""The differentiable forecast: the kernel's own bits, and derivatives that are true."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from l63fast.errors import ArgumentTypeError, ArgumentValueError, DivergenceError
from l63fast.learning import dynamics
from l63fast.learning.dynamics import DifferentiableForecast, torch_forecast
from l63fast.lorenz63 import Lorenz63, forecast, simulate, spin_up

OTHER = Lorenz63(sigma=9.0, rho=30.0, beta=2.5)


def states(n: int = 6) -> torch.Tensor:
    return torch.from_numpy(spin_up(n, seed=3, time=5.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n_steps", [0, 1, 25])
def test_the_forecast_is_the_kernels(n_steps: int, dtype: torch.dtype) -> None:
    start = states().reshape(2, 3, 3).to(dtype)
    later = DifferentiableForecast(n_steps, dt=0.02, parameters=OTHER)(start)
    expected = forecast(start.numpy(), n_steps, dt=0.02, parameters=OTHER)
    assert later.dtype == dtype
    assert np.array_equal(later.numpy(), expected)


def test_plain_torch_takes_the_same_steps() -> None:
    start = states(200)
    for dt, parameters in ((0.01, Lorenz63()), (0.03, OTHER)):
        once = torch_forecast(start, 1, dt=dt, parameters=parameters)
        kernel = DifferentiableForecast(1, dt=dt, parameters=parameters)(start)
        assert (once - kernel).abs().max() < 1e-13
    kernel = DifferentiableForecast(25)(start)
    assert torch.allclose(torch_forecast(start, 25), kernel, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("n_steps", [0, 1, 12])
def test_gradients_are_those_of_finite_differences(n_steps: int) -> None:
    model = DifferentiableForecast(n_steps, parameters=OTHER)
    assert gradcheck(model, (states(3).requires_grad_(),), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_are_those_of_plain_torch(dtype: torch.dtype) -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 3))).to(dtype)
    gradients = []
    for model in (DifferentiableForecast(25), lambda start: torch_forecast(start, 25)):
        start = states(40).to(dtype).requires_grad_()
        (model(start) * weight).sum().backward()
        assert start.grad is not None
        gradients.append(start.grad)
    close = 1e-10 if dtype == torch.float64 else 1e-3
    assert torch.allclose(*gradients, rtol=close, atol=close)


def test_chained_forecasts_pass_gradients_on() -> None:
    whole, parts = states(4).requires_grad_(), states(4).requires_grad_()
    DifferentiableForecast(20)(whole).square().sum().backward()
    half = DifferentiableForecast(10)
    half(half(parts)).square().sum().backward()
    assert whole.grad is not None
    assert parts.grad is not None
    assert torch.allclose(whole.grad, parts.grad, rtol=1e-11)


def test_a_wrong_adjoint_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = dynamics.adjoint

    def wrong(*args: object, **kw: object) -> np.ndarray:
        return right(*args, **kw) * 1.001  # type: ignore[arg-type]

    monkeypatch.setattr(dynamics, "adjoint", wrong)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(
            DifferentiableForecast(5),
            (states(2).requires_grad_(),),
            atol=1e-7,
            rtol=1e-6,
        )


def test_divergence_is_named_or_left_as_nan() -> None:
    start = states(3)
    start[1] = 1e200
    with pytest.raises(DivergenceError, match=r"members \[1\]"):
        DifferentiableForecast(2)(start)
    start.requires_grad_()
    later = DifferentiableForecast(2, on_divergence="nan")(start)
    later.sum().backward()
    assert start.grad is not None
    for value in (later, start.grad):
        assert torch.isfinite(value).all(1).tolist() == [True, False, True]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ArgumentValueError, match="state: expected"):
        DifferentiableForecast(1)(torch.zeros(4, 2))
    with pytest.raises(ArgumentTypeError, match="state: expected"):
        DifferentiableForecast(1)(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ArgumentValueError, match="n_steps: expected"):
        torch_forecast(torch.zeros(4, 3), -1)
    for call in (DifferentiableForecast(2), lambda given: torch_forecast(given, 2)):
        with pytest.raises(
            ArgumentTypeError, match=r"^states: expected a torch tensor, got ndarray$"
        ):
            call(np.ones(3))  # type: ignore[arg-type]


def test_forecasts_of_arrays_name_what_gradients_pass_through() -> None:
    given = states(2).requires_grad_()
    for call in (lambda: forecast(given, 3), lambda: simulate(given, 3)):
        with pytest.raises(
            ArgumentTypeError,
            match=r"use l63fast\.DifferentiableForecast or l63fast\.torch_forecast",
        ):
            call()
    assert np.array_equal(forecast(given.detach(), 3), forecast(states(2), 3))
