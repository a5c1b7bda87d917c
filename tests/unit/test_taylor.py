"""Steps by a Taylor polynomial: what they are, their derivatives, who makes them."""

from __future__ import annotations

import dataclasses
from math import factorial
from typing import Any

import numpy as np
import pytest
import torch

import l63fast as l63
from experiment_samples import tiny_cycled, tiny_windows
from l63fast._kernels import load_kernels, model_kernels
from l63fast.assimilation.joint import JointEnKF
from l63fast.assimilation.scheme import Status
from l63fast.errors import (
    ArgumentValueError,
    DivergenceError,
    ResultError,
)
from l63fast.learning.dynamics import DifferentiableForecast, torch_forecast
from l63fast.lorenz63 import Lorenz63, adjoint, propagator, tangent_linear
from l63fast.twin import ForecastModel, TwinExperiment, TwinSettings

OTHER = Lorenz63(9.0, 30.0, 2.5, taylor=4)


def states(n: int = 20) -> np.ndarray:
    return l63.spin_up(n, seed=3, time=5.0)


def by_definition(state: Any, dt: float, model: Lorenz63) -> Any:
    """Return the state after a step, by powers of the matrix A."""
    (sigma, rho, beta), order = model.as_tuple(), model.taylor or 0
    A = np.array([[-sigma, sigma, 0], [rho, -1, -state[0]], [0, state[0], -beta]])
    powers = (np.linalg.matrix_power(A * dt, k) for k in range(order + 1))
    return sum(power @ state / factorial(k) for k, power in enumerate(powers))


@pytest.mark.parametrize("order", [1, 2, 5])
def test_a_step_is_the_sum_of_powers_of_the_matrix(order: int) -> None:
    model = dataclasses.replace(OTHER, taylor=order)
    start = states()
    once = l63.forecast(start, 1, dt=0.02, parameters=model)
    expected = [by_definition(state, 0.02, model) for state in start]
    np.testing.assert_allclose(once, expected, rtol=1e-13)
    path = l63.simulate(start, 6, dt=0.02, parameters=model, save_every=2)
    for k in range(4):
        later = l63.forecast(start, 2 * k, dt=0.02, parameters=model)
        np.testing.assert_array_equal(path[:, k], later)
    mirrored = l63.forecast(start * [-1, -1, 1], 6, dt=0.02, parameters=model)
    np.testing.assert_array_equal(mirrored, path[:, -1] * [-1, -1, 1])
    single = l63.forecast(
        start.astype(np.float32), 1, dt=np.float64(0.02), parameters=model
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, once, rtol=2e-6)


def test_any_order_is_first_order_accurate() -> None:
    start = states(200)
    exact = l63.forecast(start, 1000, dt=1e-4)
    errors = []
    for n_steps in (20, 40):
        steps: dict[str, Any] = {"dt": 0.1 / n_steps, "parameters": Lorenz63(taylor=5)}
        errors.append(np.abs(l63.forecast(start, n_steps, **steps) - exact).mean())
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.1)


def test_the_tangent_linear_and_the_adjoint_are_exact_derivatives() -> None:
    start, n_steps, dt = states(5), 3, 0.02
    rng = np.random.default_rng(0)
    # An imaginary step of 1e-30 has no rounding error of a difference.
    expected = np.empty((5, 3, 3))
    for i, state in enumerate(start):
        for j in range(3):
            moved = state + 1e-30j * np.eye(3)[j]
            for _ in range(n_steps):
                moved = by_definition(moved, dt, OTHER)
            expected[i, :, j] = moved.imag / 1e-30
    found, M = propagator(start, n_steps, dt=dt, parameters=OTHER)
    np.testing.assert_array_equal(
        found, l63.forecast(start, n_steps, dt=dt, parameters=OTHER)
    )
    np.testing.assert_allclose(M, expected, rtol=1e-11, atol=1e-12)
    vectors = rng.normal(size=(5, 2, 3))
    _, carried = tangent_linear(start, vectors, n_steps, dt=dt, parameters=OTHER)
    np.testing.assert_allclose(
        carried, vectors @ M.swapaxes(1, 2), rtol=1e-11, atol=1e-11
    )
    back = adjoint(start, vectors, n_steps, dt=dt, parameters=OTHER)
    np.testing.assert_allclose(back, vectors @ M, rtol=1e-11, atol=1e-11)


def test_what_diverges_is_named() -> None:
    start = states(4)
    start[2] = 1e200
    with pytest.raises(DivergenceError, match="1 of 4 members") as raised:
        l63.forecast(start, 5, parameters=OTHER)
    assert raised.value.members.tolist() == [2]
    later = l63.forecast(start, 5, parameters=OTHER, on_divergence="nan")
    assert np.isnan(later).any(axis=1).tolist() == [False, False, True, False]
    with pytest.raises(ArgumentValueError, match="taylor: expected at least 1"):
        Lorenz63(taylor=0)


def test_tensors_have_the_values_and_the_gradients_of_the_kernels() -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 3)))
    gradients = []
    for model in (
        DifferentiableForecast(3, dt=0.02, parameters=OTHER),
        lambda start: torch_forecast(start, 3, dt=0.02, parameters=OTHER),
    ):
        start = torch.from_numpy(states()).requires_grad_()
        later = model(start)
        expected = l63.forecast(states(), 3, dt=0.02, parameters=OTHER)
        np.testing.assert_allclose(later.detach(), expected, rtol=1e-12)
        (later * weight).sum().backward()
        gradients.append(start.grad)
    assert torch.allclose(*gradients, rtol=1e-11, atol=1e-11)


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    sizes: dict[str, Any] = {"n_train": 8, "n_val": 3, "n_test": 4, "n_steps": 200}
    steps: dict[str, Any] = {"dt": 0.02, "steps_per_cycle": 2, "sigma": 0.1}
    return TwinExperiment.generate(
        TwinSettings("xyz", **sizes, **steps, Q=1e-4, parameters=Lorenz63(taylor=5))
    )


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_a_particle_filter_forecasts_with_it(
    backend: str, twin: TwinExperiment
) -> None:
    filters = l63.ParticleFilter.for_twin(
        twin, B=0.01 * np.eye(3), n_particles=50, backend=backend
    )
    rng, y = np.random.default_rng(1), twin.test.observations[:, :3]
    first = filters.initial(twin.test.initial_state, rng)
    plain = dataclasses.replace(filters, Q=None)
    later = plain.forecast(first, 4)
    expected = l63.forecast(first.states, 4, dt=0.02, parameters=Lorenz63(taylor=5))
    np.testing.assert_array_equal(later.states, expected)
    # Cycles at once are the forecasts and analyses one by one.
    whole, together = filters.run(first, y, 2)
    state = first
    for k in range(3):
        state, one = filters.analyse(filters.forecast(state, 2), y[:, k : k + 1])
        np.testing.assert_array_equal(one.state, together.state[:, k])
    np.testing.assert_array_equal(state.states, whole.states)
    assert state.draws == whole.draws
    broken = first.states.copy()
    broken[1] = 1e200
    _, lost = plain.run(first._replace(states=broken), y, 2)
    assert (lost.status[1] == Status.NON_FINITE).all()
    assert (lost.status[0] == Status.CONVERGED).all()


def test_rk4_takes_the_kernels_of_the_backend() -> None:
    assert model_kernels(None) is load_kernels()


def test_the_wrong_order_costs_every_filter(twin: TwinExperiment) -> None:
    wrong = twin.with_model(ForecastModel(Lorenz63(taylor=2)))
    B = 0.01 * np.eye(3)
    for kind, settings in (
        (l63.ExtendedKalman, {}),
        (l63.EnKF, {"n_members": 20}),
        (l63.ThreeDVar, {}),
        (l63.FourDVar, {"window": 3}),
        (l63.ParticleFilter, {"n_particles": 300}),
    ):
        scores = []
        for data in (twin, wrong):
            scheme = kind.for_twin(data, B=B, **settings)
            start = twin.test.initial_state + 0.1
            result = l63.run_cycles(scheme, data, burn_in=20, initial=start)
            truth = twin.test.truth_at_observations[:, result.scored]
            scores.append(float(np.sqrt(((result.analysis - truth) ** 2).mean())))
        assert scores[0] < 0.98 * scores[1], kind
        assert [one.name for one in result.imperfect_model] == ["parameters"]
        [difference] = result.imperfect_model
        assert "by Taylor order 2 instead of (10.0, 28.0, " in str(difference)


def test_what_cannot_use_it_says_so(twin: TwinExperiment, tmp_path: Any) -> None:
    with pytest.raises(ArgumentValueError, match="steps by RK4 where they are estim"):
        JointEnKF.for_twin(twin, B=np.eye(3))
    with pytest.raises(ArgumentValueError, match="parameters_spread: expected 0 with"):
        TwinSettings(parameters=Lorenz63(taylor=2), parameters_spread=0.1)
    taylor = {"data": {"parameters": {"taylor": 3}}}
    known = {"known": {"scheme": "enkf-known", "inflation": 1.1}}
    experiment = tiny_cycled("oi", "enkf", "pf", methods=known, **taylor)
    with pytest.raises(ResultError, match="none that knows parameters by Taylor"):
        experiment.run(tmp_path)
    best = {"best": {"scheme": "optimum"}}
    with pytest.raises(ResultError, match="steps by RK4 for the optimum in wind"):
        tiny_windows("3dvar", "gru", methods=best, **taylor).run(tmp_path)


# Settings, names, experiments


def test_settings_of_rk4_are_as_before_and_others_are_told_apart() -> None:
    plain, taylor = TwinSettings(), TwinSettings(parameters=Lorenz63(taylor=5))
    assert set(plain.to_dict()["parameters"]) == {"sigma", "rho", "beta"}
    assert taylor.to_dict()["parameters"]["taylor"] == 5
    assert TwinSettings.from_dict(taylor.to_dict()) == taylor
    assert repr(Lorenz63(beta=2.5)) == "Lorenz63(sigma=10.0, rho=28.0, beta=2.5)"
    assert repr(OTHER).endswith("beta=2.5, taylor=4)")
    small = {"n_train": 2, "n_val": 1, "n_test": 1, "n_steps": 20}
    hashes = {
        TwinExperiment.generate(TwinSettings(**small, parameters=p)).hashes["test"]
        for p in (Lorenz63(), Lorenz63(taylor=4), Lorenz63(taylor=5))
    }
    assert len(hashes) == 3
    tags = {
        ForecastModel(Lorenz63(taylor=2)): "model_taylor2",
        ForecastModel(Lorenz63(11.0, taylor=2)): "model_p11_28_2.66667_taylor2",
        ForecastModel(Lorenz63(11.0)): "model_p11_28_2.66667",
    }
    assert [model.tag for model in tags] == list(tags.values())
    wrong = ForecastModel(Lorenz63(11.0, taylor=2))
    assert wrong.describe(taylor) == (
        "steps by Taylor order 2 (truth Taylor order 5), "
        "parameters (11, 28, 2.66667) (truth (10, 28, 2.66667))"
    )
    assert wrong.to_dict()["parameters"]["taylor"] == 2
    assert "taylor" not in ForecastModel(Lorenz63(11.0)).to_dict()["parameters"]
