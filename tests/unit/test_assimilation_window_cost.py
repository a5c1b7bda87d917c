"""A window's cost against forecasts and adjoints; its minimum, and who has none."""

from __future__ import annotations

import numpy as np
import pytest

from filter_help import B, error_covariance
from l63fast.assimilation.four_d_var import WindowCost, carrier
from l63fast.assimilation.gauss_newton import minimise
from l63fast.assimilation.scheme import Status
from l63fast.lorenz63 import Lorenz63, forecast, propagator
from l63fast.observation import ObservationOperator
from window_help import STEPS, long_cost, observed_window

ROOT = np.linalg.cholesky(B)
CARRY = carrier(dt=0.01, parameters=Lorenz63(), n_threads=1, backend="auto")


def cost_of(name: str, background, y, steps=STEPS) -> WindowCost:
    operator = ObservationOperator(name)
    R = error_covariance(operator)
    whitening = np.linalg.inv(np.linalg.cholesky(R))
    return WindowCost(background, y, steps, operator, ROOT, whitening, CARRY)


@pytest.mark.parametrize("name", ["x", "xy", "xyz", "x2", "x2z3"])
def test_cost_and_gradient_are_those_of_forecasts_and_adjoints(name):
    background, _, y = observed_window(name, STEPS)
    cost = cost_of(name, background, y)
    v = np.random.default_rng(1).normal(size=background.shape)
    at, start = cost.expanded(v), background + v @ ROOT.T
    wanted, gradient = long_cost(start, background, y, STEPS, name)
    np.testing.assert_allclose(at.cost, wanted, rtol=1e-12)
    np.testing.assert_allclose(at.gradient, gradient @ ROOT, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(at.state, forecast(start, sum(STEPS)), atol=1e-12)
    np.testing.assert_allclose(cost.state(cost.control(start)), start, atol=1e-12)


@pytest.mark.parametrize("name", ["x", "xyz", "x2z"])
def test_hessian_and_tangent_are_those_of_the_propagator(name):
    background, _, y = observed_window(name, STEPS)
    operator = ObservationOperator(name)
    at = cost_of(name, background, y).expanded(np.zeros_like(background))
    hessian = np.tile(np.eye(3), (len(background), 1, 1))
    for i in range(len(STEPS) + 1):
        state, M = propagator(background, sum(STEPS[:i]))
        H = operator.jacobian(state) @ M @ ROOT
        weighted = np.linalg.inv(error_covariance(operator)) @ H
        hessian += np.swapaxes(H, 1, 2) @ weighted
    np.testing.assert_allclose(at.hessian, hessian, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(at.tangent, M @ ROOT, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["x", "xy", "xyz", "x2"])
def test_the_gradient_vanishes_at_a_minimum_and_no_neighbour_is_lower(name):
    background, _, y = observed_window(name, STEPS)
    cost = cost_of(name, background, y)
    start = np.zeros_like(background)
    minimum = minimise(cost, start, max_iter=100, tol=1e-10)
    assert np.mean(minimum.status == Status.CONVERGED) > 0.9
    assert (minimum.at.cost <= cost.expanded(start).cost).all()
    there = cost.state(minimum.control)
    value, gradient = long_cost(there, background, y, STEPS, name)
    np.testing.assert_allclose(minimum.at.cost, value, rtol=1e-12)
    done = minimum.status == Status.CONVERGED
    scale = np.linalg.norm(minimum.at.hessian, axis=(1, 2))
    slope = np.linalg.norm(gradient @ ROOT, axis=1) / scale
    assert slope[done].max() < 1e-8
    rng = np.random.default_rng(2)
    for _ in range(20):
        moved = minimum.control + 1e-4 * rng.normal(size=start.shape)
        assert (cost.expanded(moved).cost[done] > value[done]).all()


def test_iterations_that_did_not_suffice_are_not_called_converged():
    background, _, y = observed_window("xyz", STEPS)
    cost = cost_of("xyz", background, y)
    start = np.zeros_like(background)
    one = minimise(cost, start, max_iter=1, tol=1e-8)
    assert (one.status == Status.MAX_ITER).all()
    assert (one.n_iter == 1).all()
    many = minimise(cost, one.control, max_iter=50, tol=1e-8)
    assert (many.status == Status.CONVERGED).all()
    again = minimise(cost, many.control, max_iter=0, tol=1e-8)
    assert (again.status == Status.CONVERGED).all()
    assert (again.n_iter == 0).all()


def test_a_step_that_would_leave_the_model_is_shortened():
    """Whether over the edge of floating point or only uphill, the cost never rises."""
    background, _, y = observed_window("x4", STEPS)
    y[:30] *= 1e6
    cost, start = cost_of("x4", background, y), np.zeros_like(background)
    last = np.full(len(background), np.inf)
    for max_iter in range(12):
        at = minimise(cost, start, max_iter=max_iter, tol=1e-8).at
        assert (at.cost <= last + 1e-9 * (1.0 + at.cost)).all()
        last = at.cost
    assert np.isfinite(last).all()


@pytest.mark.parametrize("steps", [STEPS, ()])
def test_who_starts_beyond_the_model_has_diverged_and_stops_nobody(steps):
    background, _, y = observed_window("xyz", steps)

    def found():
        cost = cost_of("xyz", background, y, steps)
        return minimise(cost, np.zeros((60, 3)), max_iter=50, tol=1e-8)

    healthy = found()
    background[7] = 1e200
    minimum, others = found(), np.arange(60) != 7
    assert minimum.status[7] == Status.DIVERGED
    assert minimum.at.cost[7] == np.inf
    assert np.isnan(minimum.at.state[7]).all()
    np.testing.assert_array_equal(minimum.at.state[others], healthy.at.state[others])
    np.testing.assert_array_equal(minimum.status[others], healthy.status[others])
