"""Parameters of each member: the bits of single calls, at every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l63fast._kernels import FilteredParticles, Kernels, cpp, load_kernels
from l63fast._kernels.jobs import IntegrateJob
from l63fast.errors import ArgumentTypeError, ArgumentValueError, DivergenceError
from l63fast.lorenz63 import (
    Lorenz63,
    forecast,
    simulate,
    spin_up,
    tangent_linear,
)
from particle_help import JOB

N = 47  # tails of every register width
NOMINAL = np.array(Lorenz63().as_tuple())


@pytest.fixture(params=["numba", *cpp.levels()])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    name = request.param
    return load_kernels("numba") if name == "numba" else load_kernels("cpp", level=name)


def own_parameters(n: int) -> np.ndarray:
    shares = np.random.default_rng(1).uniform(0.8, 1.2, (n, 3))
    return np.ascontiguousarray(NOMINAL * shares)


def integrated(
    kernels: Any, states: np.ndarray, parameters: Any, *, by_time: bool = False
) -> np.ndarray:
    out = np.empty((len(states), 4, 3), states.dtype)
    target = np.empty((4, len(states), 3), states.dtype).swapaxes(0, 1)
    job = IntegrateJob(states, target if by_time else out, 30, 0.01, parameters)
    assert kernels.integrate(job, 1) == 0
    return np.ascontiguousarray(job.out)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_members_get_the_bits_of_single_calls(kernels: Kernels, dtype: Any) -> None:
    parameters = own_parameters(N)
    states = spin_up(N, seed=4).astype(dtype)
    together = integrated(kernels, states, parameters)
    for i in range(N):
        alone = integrated(kernels, states[i : i + 1], tuple(parameters[i].tolist()))
        np.testing.assert_array_equal(together[i], alone[0])
    turned = integrated(kernels, states, parameters, by_time=True)
    np.testing.assert_array_equal(turned, together)
    same = np.tile(NOMINAL, (N, 1))
    np.testing.assert_array_equal(
        integrated(kernels, states, same), integrated(kernels, states, tuple(NOMINAL))
    )


def test_trajectories_of_particles_too(kernels: Kernels) -> None:
    parameters = own_parameters(3)
    states = spin_up(3 * 20, seed=5).reshape(3, 20, 3)
    weights = np.zeros((3, 20))

    def done(parameters: Any) -> FilteredParticles:
        job = JOB._replace(
            states=states, log_weights=weights, n_steps=25, parameters=parameters
        )
        result: FilteredParticles = kernels.filter_particles(job, 1)
        return result

    together = done(parameters).states
    for i in range(3):
        expected = forecast(states[i], 25, parameters=Lorenz63(*parameters[i]))
        np.testing.assert_array_equal(together[i], expected)
    one = done(tuple(NOMINAL)).states
    np.testing.assert_array_equal(done(np.tile(NOMINAL, (3, 1))).states, one)


def test_simulate_and_forecast_take_them() -> None:
    parameters, states = own_parameters(6), spin_up(6, seed=6)
    path = simulate(states, 50, parameters=parameters)
    last = forecast(states, 50, parameters=parameters)
    np.testing.assert_array_equal(path[:, -1], last)
    in_threes = forecast(
        states.reshape(2, 3, 3), 50, parameters=parameters.reshape(2, 3, 3)
    )
    np.testing.assert_array_equal(in_threes.reshape(6, 3), last)
    one = forecast(states, 50, parameters=np.array([9.0, 30.0, 2.5]))
    np.testing.assert_array_equal(
        one, forecast(states, 50, parameters=Lorenz63(9.0, 30.0, 2.5))
    )


def test_wrong_parameters_are_refused() -> None:
    states = spin_up(6, seed=6)
    with pytest.raises(ArgumentValueError, match=r"parameters: expected \(3,\)"):
        forecast(states, 5, parameters=own_parameters(5))
    with pytest.raises(ArgumentValueError, match="parameters"):
        forecast(states, 5, parameters=np.full((6, 3), np.nan))
    with pytest.raises(ArgumentTypeError, match="parameters"):
        tangent_linear(states, states, 5, parameters=own_parameters(6))  # type: ignore[arg-type]
    wild = own_parameters(6)
    wild[5, 0] = 1e6  # far too large for the step
    with pytest.raises(DivergenceError) as caught:
        forecast(states, 50, parameters=wild)
    assert caught.value.members.tolist() == [5]
