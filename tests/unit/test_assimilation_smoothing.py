"""Fixed-lag smoothers against the posterior of a linear model, written out densely."""

from __future__ import annotations

import numpy as np
import pytest

from filter_help import B, drawn_members, error_covariance, moments
from l63fast.assimilation import ensemble, four_d_var, iterative, kalman
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF, Ensemble
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.iterative import IEnKS, WindowEnsemble
from l63fast.assimilation.kalman import ExtendedKalman
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Draws
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import forecast
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import rmse

# One step of a linear model: growing, damped and turning directions.
MODEL = np.array([[1.1, 0.2, 0.0], [-0.3, 0.8, 0.1], [0.1, 0.0, 0.9]])
STEPS = (2, 1, 3, 2, 1, 2)
Q = np.diag([0.2, 0.1, 0.3])


def power(n_steps):
    return np.linalg.matrix_power(MODEL, n_steps)


@pytest.fixture
def linear(monkeypatch):
    """Let the schemes forecast with the linear model."""

    def carried(members, n_steps, **model):
        return members @ power(n_steps).T

    def propagated(state, n_steps, **model):
        return state @ power(n_steps).T, np.repeat(power(n_steps)[None], len(state), 0)

    def carrier(**model):
        return lambda state, rows, n: (state @ power(n).T, rows @ power(n).T)

    for module in (ensemble, iterative, four_d_var):
        monkeypatch.setattr(module, "forecast_members", carried)
    monkeypatch.setattr(kalman, "propagate_members", propagated)
    monkeypatch.setattr(four_d_var, "carrier", carrier)


def observed(mean, name, n_cycles, seed=4):
    """Return observations (n, n_cycles, m) somewhere near the forecasts of a mean."""
    operator, rng = ObservationOperator(name), np.random.default_rng(seed)
    ys = []
    for n_steps in STEPS[:n_cycles]:
        mean = mean @ power(n_steps).T
        y = operator(mean)
        ys.append(y + rng.normal(size=y.shape))
    return np.stack(ys, axis=1)


def check(scheme, state, mean, P, name, *, first=0, noise=None, gaps=False):
    """Cycle a scheme and compare each smoothed state with the dense posterior."""
    H, ys = (
        np.eye(3)[list(ObservationOperator(name).components)],
        observed(mean, name, 6),
    )
    if gaps:
        ys[::2, 2] = np.nan
    models, n_compared = [], 0
    for k, n_steps in enumerate(STEPS):
        if k >= first:
            state = scheme.forecast(state, n_steps)
            models.append(power(n_steps))
        else:
            models.append(np.eye(3))
        state, analysis = scheme.analyse(
            state, ys[:, max(k + 1 - scheme.window, 0) : k + 1]
        )
        lag = scheme.smoother_lag
        if k < lag:
            continue
        for i in range(len(mean)):
            seen = [j for j in range(k + 1) if not np.isnan(ys[i, j]).any()]
            huge = [scheme.R if j in seen else 1e30 * scheme.R for j in range(k + 1)]
            y = np.nan_to_num(ys[i, : k + 1])
            wanted = dense(mean[i], P[i], models, H, huge, y, noise)
            found = analysis.smoothed[i]
            np.testing.assert_allclose(found, wanted[k - lag], rtol=0, atol=1e-10)
            n_compared += 1
    assert n_compared == len(mean) * (len(STEPS) - lag)


def dense(mean, P, models, H, Rs, ys, Q=None):
    """Return the posterior means (k, 3) of x_1 .. x_k given y_1 .. y_k.

    With x_j = M_j x_(j-1) + N(0, Q), x_0 from N(mean, P) and errors N(0, R_j).
    """
    means, covariance, k = [mean], P, len(models)
    for M in models:
        cross = covariance[:, -3:] @ M.T
        corner = M @ covariance[-3:, -3:] @ M.T + (0.0 if Q is None else Q)
        covariance = np.block([[covariance, cross], [cross.T, corner]])
        means.append(M @ means[-1])
    joint = np.concatenate(means)
    m = len(H)
    G, R = np.zeros((k * m, 3 * k + 3)), np.zeros((k * m, k * m))
    for j in range(k):
        G[j * m : (j + 1) * m, 3 * j + 3 : 3 * j + 6] = H
        R[j * m : (j + 1) * m, j * m : (j + 1) * m] = Rs[j]
    gain = np.linalg.solve(G @ covariance @ G.T + R, G @ covariance).T
    return (joint + gain @ (ys.ravel() - G @ joint)).reshape(-1, 3)[1:]


@pytest.mark.parametrize("lag", [1, 3])
@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.parametrize("smoother", ["enks", "enrts"])
@pytest.mark.parametrize("name", ["x", "xz"])
def test_ensemble_smoothers(linear, name, smoother, rotation, lag):
    R = error_covariance(ObservationOperator(name))
    scheme = EnKF(
        name, B, R, n_members=7, rotation=rotation, smoother=smoother, smoother_lag=lag
    )
    members = drawn_members(np.random.default_rng(1), 4, 7)
    check(scheme, Ensemble(members, Draws(2)), *moments(members), name, gaps=True)


@pytest.mark.parametrize("smoother", ["enks", "enrts"])
def test_large_ensembles_with_model_error(linear, smoother):
    N, R = 20_000, error_covariance(ObservationOperator("xz"))
    scheme = EnKF(
        "xz", B, R, Q=Q, n_members=N, rotation=False, smoother=smoother, smoother_lag=3
    )
    mean = np.array([[3.0, -2.0, 20.0]])
    state = scheme.initial(mean, np.random.default_rng(1))
    ys = observed(mean, "xz", 6)
    for k, n_steps in enumerate(STEPS):
        state, analysis = scheme.analyse(
            scheme.forecast(state, n_steps), ys[:, k : k + 1]
        )
    models, H = [power(n) for n in STEPS], np.eye(3)[[0, 2]]
    wanted = dense(mean[0], B, models, H, [R] * 6, ys[0], Q)
    np.testing.assert_allclose(analysis.smoothed[0], wanted[2], rtol=0, atol=0.03)
    assert np.abs(analysis.state[0] - wanted[5]).max() < 0.03


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_iterative_smoother(linear, lag):
    R = error_covariance(ObservationOperator("xz"))
    scheme = IEnKS("xz", B, R, n_members=7, lag=3, smoother_lag=lag, tol=1e-9)
    members = drawn_members(np.random.default_rng(1), 4, 7)
    state = WindowEnsemble(members, (), Draws(2))
    check(scheme, state, *moments(members), "xz", gaps=True)


@pytest.mark.parametrize("noise", [None, Q])
def test_rauch_tung_striebel(linear, noise):
    R = error_covariance(ObservationOperator("x"))
    scheme = ExtendedKalman("x", B, R, Q=noise, smoother_lag=2)
    background = np.random.default_rng(3).normal(size=(4, 3)) * 5.0
    state = scheme.initial(background, np.random.default_rng(0))
    check(scheme, state, background, np.tile(B, (4, 1, 1)), "x", noise=noise, gaps=True)


@pytest.mark.parametrize("lag", [2, 5])
def test_four_d_var(linear, lag):
    R = error_covariance(ObservationOperator("x"))
    scheme = FourDVar("x", B, R, window=6, smoother_lag=lag, tol=1e-12)
    background = np.random.default_rng(3).normal(size=(4, 3)) * 5.0
    state = scheme.initial(background, np.random.default_rng(0))
    P = np.tile(B, (4, 1, 1))
    check(scheme, state, background, P, "x", first=1, gaps=True)


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_particles_tend_to_the_posterior_of_a_random_walk(backend):
    """A forecast of no steps with model error: x_j = x_(j-1) + N(0, Q)."""
    n, R = 60, error_covariance(ObservationOperator("xz"))
    scheme = ParticleFilter(
        "xz", B, R, Q=Q, n_particles=3000, regularisation=0.0, threshold=0.5,
        smoother_lag=2, backend=backend,
    )  # fmt: skip
    background, rng = np.zeros((n, 3)), np.random.default_rng(0)
    state, H = scheme.initial(background, rng), np.eye(3)[[0, 2]]
    ys = np.tile(rng.normal(size=(5, 2)), (n, 1, 1))
    for k in range(5):
        state, analysis = scheme.analyse(scheme.forecast(state, 0), ys[:, k : k + 1])
    wanted = dense(background[0], B, [np.eye(3)] * 5, H, [R] * 5, ys[0], Q)[2]
    deviation = analysis.smoothed.mean(axis=0) - wanted
    error = analysis.smoothed.std(axis=0) / np.sqrt(n)
    assert (np.abs(deviation) < 4.0 * error).all()
    assert error.max() < 0.02
    filtered = dense(background[0], B, [np.eye(3)] * 3, H, [R] * 3, ys[0, :3], Q)[2]
    assert (np.abs(filtered - wanted) > 10.0 * error).any()


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_ancestors_are_the_particles_that_were_drawn(backend):
    how = {"regularisation": 0.0, "rescue": False, "threshold": 0.6, "smoother_lag": 1}
    scheme = ParticleFilter("x", B, np.eye(1), n_particles=50, backend=backend, **how)
    state = scheme.initial(np.zeros((9, 3)), np.random.default_rng(0))
    y = np.array([[[0.5]], [[np.nan]], [[30.0]]] * 3)
    for _ in range(2):
        before = scheme.forecast(state, 3)
        state, _ = scheme.analyse(before, y)
    # Without noise a particle is the forecast of its own ancestor.
    again = forecast(state.past[1], 3)
    np.testing.assert_allclose(state.states, again, rtol=0, atol=1e-12)
    assert not np.array_equal(state.states, before.states)


def twin_of(n_obs=60, **settings):
    given = {"n_train": 2, "n_val": 2, "n_test": 10, "operator": "xyz", "sigma": 1.0}
    given |= {"steps_per_cycle": 10, "n_steps": 10 * n_obs, **settings}
    return TwinExperiment.generate(TwinSettings(**given))


def schemes(twin, lag):
    how = {"B": np.eye(3), "smoother_lag": lag}
    return {
        "enks": EnKF.for_twin(twin, n_members=10, smoother="enks", **how),
        "enrts": EnKF.for_twin(twin, n_members=10, inflation=1.02, **how),
        "ienks": IEnKS.for_twin(twin, n_members=10, lag=3, **how),
        "rts": ExtendedKalman.for_twin(twin, inflation=1.3, **how),
        "4dvar": FourDVar.for_twin(twin, window=4, **how),
        "pf": ParticleFilter.for_twin(twin, n_particles=500, **how),
    }


SMOOTHERS = ("enks", "enrts", "ienks", "rts", "4dvar", "pf")


@pytest.mark.parametrize("name", SMOOTHERS)
@pytest.mark.parametrize("gaps", [{}, {"missing": 0.3, "interval": (0.05, 0.15)}])
def test_smoothed_states_are_nearer_to_the_truth_at_their_own_time(name, gaps):
    if "interval" in gaps:
        gaps = {**gaps, "steps_per_cycle": 10, "n_steps": 800}
    # At the very start of its window 4D-Var keeps stable errors of the background.
    twin, lag = twin_of(**gaps), 1 if name == "4dvar" else 3
    options = {"initial": twin.test.initial_state, "burn_in": 10, "n_cycles": 40}
    result = run_cycles(schemes(twin, lag)[name], twin, **options)
    truth = twin.test.truth_at_observations[:, result.scored]
    assert result.smoother_lag == lag
    assert np.isnan(result.smoothed[:, -lag:]).all()
    smoothed = rmse(result.smoothed[:, :-lag], truth[:, :-lag])
    assert smoothed < 0.95 * rmse(result.analysis[:, :-lag], truth[:, :-lag])
    # A state of another time would be far off.
    assert smoothed < rmse(result.smoothed[:, 1:-lag], truth[:, : -lag - 1])
    assert "smoothed" in result.to_xarray()


@pytest.mark.parametrize("name", ["enrts", "ienks", "rts", "4dvar", "pf"])
def test_the_filter_is_the_same_with_a_smoother(name):
    twin = twin_of(20)
    results = [
        run_cycles(schemes(twin, lag)[name], twin, initial=twin.test.initial_state)
        for lag in (0, 2)
    ]
    assert results[0].smoothed is None
    np.testing.assert_array_equal(results[0].analysis, results[1].analysis)


def test_lags_that_cannot_be_given_are_refused():
    twin = twin_of(5)
    with pytest.raises(ArgumentValueError, match=r"^smoother_lag: expected"):
        FourDVar.for_twin(twin, B=B, window=3, smoother_lag=3)
    with pytest.raises(ArgumentValueError, match=r"^smoother_lag: expected"):
        IEnKS.for_twin(twin, B=B, lag=3, smoother_lag=4)
    scheme = EnKF.for_twin(twin, B=B, smoother_lag=5)
    with pytest.raises(ArgumentValueError, match=r"^n_cycles: expected more than the"):
        run_cycles(scheme, twin)
