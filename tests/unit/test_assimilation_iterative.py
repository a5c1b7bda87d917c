"""The iterative ensemble Kalman smoother against closed forms and its article."""

from __future__ import annotations

import numpy as np
import pytest

from filter_help import (
    MIRROR,
    B,
    drawn_members,
    error_covariance,
    moments,
)
from l63fast.assimilation import iterative
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF, Ensemble
from l63fast.assimilation.iterative import IEnKS, WindowEnsemble
from l63fast.assimilation.scheme import Draws, Status
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import forecast
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import rmse

# One step of a linear model: growing, damped and turning directions.
MODEL = np.array([[1.1, 0.2, 0.0], [-0.3, 0.8, 0.1], [0.1, 0.0, 0.9]])


@pytest.fixture
def linear(monkeypatch):
    """Let the scheme forecast with the linear model."""

    def carried(members, n_steps, **model):
        return members @ np.linalg.matrix_power(MODEL, n_steps).T

    monkeypatch.setattr(iterative, "forecast_members", carried)


def smoother_of(name: str, **settings) -> IEnKS:
    return IEnKS(name, B, error_covariance(ObservationOperator(name)), **settings)


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.parametrize("lag", [1, 3])
@pytest.mark.parametrize(("name", "n_members"), [("x", 3), ("xz", 5), ("xyz", 20)])
def test_linear_windows_are_those_of_the_kalman_smoother(
    linear, name, n_members, lag, rotation
):
    """The state at the start of the window given all observations, in closed form."""
    operator, rng = ObservationOperator(name), np.random.default_rng(1)
    scheme = smoother_of(
        name, n_members=n_members, lag=lag, rotation=rotation, tol=1e-9
    )
    state = WindowEnsemble(drawn_members(rng, 4, n_members), (), Draws(3))
    mean, P = moments(state.members)
    H, R = np.eye(3)[list(operator.components)], scheme.R
    steps: list[int] = []
    for n_steps in (2, 1, 3, 2, 1):
        state = scheme.forecast(state, n_steps)
        steps.append(n_steps)
        if len(steps) > lag:
            M = np.linalg.matrix_power(MODEL, steps.pop(0))
            mean, P = mean @ M.T, M @ P @ M.T
        M = np.linalg.matrix_power(MODEL, sum(steps))
        y = mean @ (H @ M).T + rng.normal(size=(4, len(H)))
        state, analysis = scheme.analyse(state, y[:, None])
        G = H @ M
        for i in range(4):
            S = G @ P[i] @ G.T + R
            np.testing.assert_allclose(analysis.innovation_covariance[i], S, atol=1e-10)
            K = np.linalg.solve(S, G @ P[i]).T
            mean[i] = mean[i] + K @ (y[i] - G @ mean[i])
            P[i] = P[i] - K @ G @ P[i]
        found_mean, found_P = moments(state.members)
        np.testing.assert_allclose(found_mean, mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found_P, P, rtol=0, atol=1e-10)
        np.testing.assert_allclose(analysis.state, mean @ M.T, rtol=0, atol=1e-10)
        end_mean, end_P = moments(analysis.members)
        np.testing.assert_allclose(end_mean, mean @ M.T, rtol=0, atol=1e-10)
        np.testing.assert_allclose(end_P, M @ P @ M.T, rtol=0, atol=1e-10)
        assert (analysis.status == Status.CONVERGED).all()
        assert (analysis.n_iter <= 2).all()  # the first step is exact


def test_one_iteration_without_a_window_is_the_square_root_filter():
    operator, rng = ObservationOperator("x2z"), np.random.default_rng(2)
    members = drawn_members(rng, 5, 8)
    y = operator(members.mean(axis=1)) + rng.normal(size=(5, 2))
    R = error_covariance(operator)
    scheme = IEnKS(operator, B, R, n_members=8, rotation=False, max_iter=1)
    found, _ = scheme.analyse(WindowEnsemble(members, (), Draws(0)), y[:, None])
    enkf = EnKF(operator, B, R, n_members=8, rotation=False)
    wanted, _ = enkf.analyse(Ensemble(members, Draws(0)), y[:, None])
    np.testing.assert_allclose(found.members, wanted.members, rtol=0, atol=1e-10)


def by_the_book(E, y, R, n_steps, n_iter):
    """Return the members at both ends, with the N x N matrices of the article."""
    N, whiten = len(E), np.linalg.inv(np.linalg.cholesky(R))
    x0, X0 = E.mean(axis=0), E - E.mean(axis=0)
    w, T, step = np.zeros(N), np.eye(N), np.zeros(N)
    for _ in range(n_iter):
        end = forecast(x0 + (w + T) @ X0, n_steps)
        T_old, d = T, whiten @ (y - end.mean(axis=0))
        Y = np.linalg.inv(T) @ (end - end.mean(axis=0)) @ whiten.T
        hessian = (N - 1) * np.eye(N) + Y @ Y.T
        last, step = step, np.linalg.solve(hessian, Y @ d - (N - 1) * w)
        if step @ last < -0.5 * last @ last:  # ours: against oscillations
            step = 0.5 * step
        values, vectors = np.linalg.eigh(hessian / (N - 1))
        T = vectors / np.sqrt(values) @ vectors.T
        w = w + step
    slopes = np.linalg.inv(T_old) @ (end - end.mean(axis=0))
    return x0 + (w + T) @ X0, end.mean(axis=0) + (step + T) @ slopes


@pytest.mark.parametrize(("n_members", "lag", "n_iter"), [(3, 1, 3), (9, 2, 4)])
def test_the_small_matrices_do_what_the_large_ones_of_the_article_do(
    n_members, lag, n_iter
):
    twin = _twin()
    scheme = IEnKS.for_twin(
        twin, B=B, n_members=n_members, lag=lag, rotation=False, max_iter=n_iter,
        tol=1e-15,
    )  # fmt: skip
    state = scheme.initial(twin.test.initial_state, np.random.default_rng(0))
    for k in range(3):
        state = scheme.forecast(state, 25)
        y = twin.test.observations[:, k : k + 1]
        after, analysis = scheme.analyse(state, y)
        for i, E in enumerate(state.members):
            start, end = by_the_book(E, y[i, 0], twin.R, sum(state.steps), n_iter)
            np.testing.assert_allclose(after.members[i], start, rtol=0, atol=1e-7)
            np.testing.assert_allclose(analysis.members[i], end, rtol=0, atol=1e-7)
        state = after


def _twin(n_obs: int = 4, n_test: int = 20) -> TwinExperiment:
    return TwinExperiment.generate(
        TwinSettings(
            n_train=2, n_val=2, n_test=n_test, operator="xyz", sigma=np.sqrt(2.0),
            steps_per_cycle=25, n_steps=25 * n_obs, save_every=25,
        )
    )  # fmt: skip


def test_it_beats_the_filter_without_iterations():
    twin = _twin(n_obs=80)
    options = {"burn_in": 20, "initial": twin.test.initial_state}
    scores = {}
    for name, scheme in {
        "enkf": EnKF.for_twin(twin, B=2 * np.eye(3), n_members=10, inflation=1.02),
        "ienkf": IEnKS.for_twin(twin, B=2 * np.eye(3), n_members=10, inflation=1.02),
    }.items():
        result = run_cycles(scheme, twin, **options)
        truth = twin.test.truth_at_observations[:, result.scored]
        scores[name] = rmse(result.analysis, truth)
    assert scores["ienkf"] < 0.4 < scores["enkf"]


def test_the_mirrored_problem_has_the_mirrored_analysis():
    twin = _twin()
    scheme = IEnKS.for_twin(twin, B=B, n_members=6, lag=2, rotation=False)
    state = scheme.initial(twin.test.initial_state, np.random.default_rng(0))
    other = state._replace(members=state.members @ MIRROR)
    for k in range(3):
        y = twin.test.observations[:, k : k + 1]
        state, found = scheme.analyse(scheme.forecast(state, 25), y)
        other, mirrored = scheme.analyse(scheme.forecast(other, 25), y @ MIRROR)
        np.testing.assert_allclose(mirrored.state, found.state @ MIRROR, atol=1e-6)


def test_a_trajectory_does_not_depend_on_the_others_nor_on_one_that_diverged():
    twin = _twin()
    scheme = IEnKS.for_twin(twin, B=B, n_members=6, lag=2)
    state = scheme.initial(twin.test.initial_state, np.random.default_rng(0))
    spoiled = state.members.copy()
    spoiled[-1] = 1e200
    other = state._replace(members=spoiled)
    few = state._replace(members=state.members[:5])
    for k in range(3):
        y = twin.test.observations[:, k : k + 1]
        state, found = scheme.analyse(scheme.forecast(state, 25), y)
        other, beside = scheme.analyse(scheme.forecast(other, 25), y)
        few, part = scheme.analyse(scheme.forecast(few, 25), y[:5])
        np.testing.assert_array_equal(beside.state[:-1], found.state[:-1])
        np.testing.assert_array_equal(part.members, found.members[:5])
        assert beside.status[-1] == Status.NON_FINITE
        assert np.isnan(beside.state[-1]).all()


def test_model_error_is_refused():
    with pytest.raises(
        ArgumentValueError, match=r"^Q: expected zeros, since the iEnKS"
    ):
        smoother_of("xyz", Q=np.eye(3))


@pytest.mark.parametrize(
    ("setting", "value"), [("lag", 0), ("n_members", 2), ("max_iter", 0), ("tol", 0.0)]
)
def test_settings_are_checked(setting, value):
    with pytest.raises(ArgumentValueError, match=f"^{setting}: expected"):
        smoother_of("x", **{setting: value})
