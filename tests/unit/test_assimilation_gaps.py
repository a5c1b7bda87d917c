"""Missing values in the schemes: the analysis of the present values only."""

from dataclasses import fields, replace

import numpy as np
import pytest

from l63fast import forecast, propagator
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.iterative import IEnKS
from l63fast.assimilation.kalman import (
    ClimatologicalMean,
    ExtendedKalman,
    OptimalInterpolation,
)
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.tuning import tune_b_scale
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import Climatology, spin_up
from l63fast.observation import ObservationOperator
from l63fast.verification import innovation_statistics

N, L = 40, 4
OTHER_NAN = np.array([0xFFF8_0000_DEAD_BEEF], np.uint64).view(np.float64)[0]
CLIMATE = Climatology(np.array([0.0, 0.0, 23.5]), np.diag([63.0, 81.0, 74.0]))
FULL = np.array([[2.0, 0.7, -0.4], [0.7, 1.5, 0.3], [-0.4, 0.3, 1.0]])
B = np.array([[2.0, 1.5, 0.0], [1.5, 3.0, 0.0], [0.0, 0.0, 2.0]])
FIELDS = (
    "state", "status", "n_iter", "cost", "residual", "background", "spread",
    "innovation", "innovation_covariance", "members", "effective_size",
)  # fmt: skip


def enkf(**settings):
    return lambda h, R: EnKF(h, B, R, n_members=6, inflation=1.1, **settings)


SCHEMES = {
    "mean": lambda h, R: ClimatologicalMean(h, CLIMATE),
    "oi": lambda h, R: OptimalInterpolation(h, CLIMATE, R),
    "3dvar": lambda h, R: ThreeDVar(h, B, R),
    "4dvar": lambda h, R: FourDVar(h, B, R, window=L),
    "extkf": lambda h, R: ExtendedKalman(h, B, R, inflation=1.2),
    "square_root": enkf(rotation=False),
    "rotated": enkf(),
    "stochastic": enkf(variant="stochastic"),
    "finite_size": enkf(variant="finite_size", climatology=CLIMATE),
    "iterative": lambda h, R: IEnKS(h, B, R, n_members=6, lag=2),
    "particles": lambda h, R: ParticleFilter(h, B, R, n_particles=200),
    "numba": lambda h, R: ParticleFilter(h, B, R, n_particles=200, backend="numba"),
}


def own(name):
    return ObservationOperator.custom(
        ObservationOperator(name), obs_dim=len(name), name="mine"
    )


def forecast_of(scheme, length):
    """Return the state before the analysis that ends a window of this length."""
    state = scheme.initial(spin_up(N, seed=1), np.random.default_rng(0))
    for _ in range(length - 1):
        state = scheme.forecast(state, 5)
        # Windows grow: these observations tell nothing.
        nothing = np.full((N, 1, len(getattr(scheme, "R", FULL))), np.nan)
        state, _ = scheme.analyse(state, np.repeat(nothing, length, axis=1))
    return scheme.forecast(state, 5)


def observations(length, m=3):
    """Return observations (N, length, m), each of them present in half of the rows."""
    rng = np.random.default_rng(3)
    y = spin_up(N, seed=1)[:, None, :m] + rng.normal(size=(N, length, m))
    return np.where(rng.random(y.shape) < 0.5, np.nan, y)


def only(scheme, R, chosen):
    name = "".join("xyz"[j] for j in chosen)
    part = SCHEMES[scheme](name, R[np.ix_(chosen, chosen)])
    if scheme == "stochastic":  # takes the draws of the present values
        whole = SCHEMES[scheme]("xyz", R)

        class Same(EnKF):
            def _random_numbers(self, state):
                normals, draws = whole._random_numbers(state)
                return normals[..., chosen], draws

        part = Same(**{f.name: getattr(part, f.name) for f in fields(part)})
    return part


@pytest.mark.parametrize(
    "R", [np.diag([0.5, 1.0, 2.0]), FULL], ids=["diagonal", "full"]
)
@pytest.mark.parametrize("name", SCHEMES)
def test_an_analysis_with_gaps_is_that_of_the_present_values(name, R):
    length = L if name == "4dvar" else 1
    scheme = SCHEMES[name]("xyz", R)
    state = forecast_of(scheme, length)
    y = observations(length)
    y[:, 1:] = np.where(np.isnan(y[:, :1]), np.nan, y[:, 1:])
    y[:, :-1] = np.where(np.isnan(y[:, -1:]), np.nan, y[:, :-1])
    y = np.where(np.isnan(y).any(axis=1, keepdims=True), np.nan, y)  # by component
    after, found = scheme.analyse(state, y)
    for pattern in range(1, 8):
        chosen = np.flatnonzero(pattern >> np.arange(3) & 1)
        present = np.isin(np.arange(3), chosen)
        rows = (~np.isnan(y[:, 0]) == present).all(axis=1)
        part = only(name, R, chosen)
        wanted_after, wanted = part.analyse(state, np.ascontiguousarray(y[..., chosen]))
        for field in FIELDS:
            got, want = getattr(found, field), getattr(wanted, field)
            if got is None:
                continue
            if got.ndim > 1 and field in ("residual", "innovation"):
                assert np.isnan(got[rows][:, ~present]).all()
                got = got[:, chosen]
            if field == "innovation_covariance":
                got = got[:, chosen[:, None], chosen]
            scale = 1e-12 * (
                1.0 + np.abs(want[rows][np.isfinite(want[rows])]).max(initial=0)
            )
            np.testing.assert_allclose(
                got[rows], want[rows], rtol=0, atol=scale, err_msg=f"{field} {chosen}"
            )
        if name == "extkf":
            np.testing.assert_allclose(
                after.covariance[rows], wanted_after.covariance[rows], atol=1e-11
            )


@pytest.mark.parametrize("name", SCHEMES)
def test_without_any_value_the_state_stays(name):
    length = L if name == "4dvar" else 1
    scheme = SCHEMES[name]("xyz", FULL)
    state = forecast_of(scheme, length)
    after, found = scheme.analyse(state, np.full((N, length, 3), np.nan))
    assert found.state.tobytes() == found.background.tobytes()
    assert not found.status.any()
    assert not found.n_iter.any()
    assert np.isnan(found.residual).all()
    if found.innovation is not None:
        assert np.isnan(found.innovation).all()
        assert np.isfinite(found.innovation_covariance).all()
    if "var" in name:
        assert not found.cost.any()
    if name in ("extkf", "particles", "numba"):
        for one, other in zip(state[:2], after[:2], strict=True):
            assert np.array_equal(one, other)
    if isinstance(scheme, EnKF):
        assert after.members.tobytes() == state.members.tobytes()


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_particles_are_not_resampled_without_any_value(backend):
    scheme = ParticleFilter(
        "xy", B, np.eye(2), n_particles=50, threshold=1.0, backend=backend
    )
    state = scheme.initial(spin_up(N, seed=1), np.random.default_rng(0))
    state.log_weights[:] = np.linspace(-9.0, 0.0, 50)
    after, _ = scheme.analyse(state, np.full((N, 1, 2), np.nan))
    assert np.array_equal(after.states, state.states)
    assert np.array_equal(after.log_weights, state.log_weights)
    after, _ = scheme.analyse(state, np.zeros((N, 1, 2)))
    assert not np.array_equal(after.states, state.states)


@pytest.mark.parametrize("h", ["xyz", own("xyz"), "x2yz"])
@pytest.mark.parametrize("name", SCHEMES)
def test_what_stands_below_a_gap_has_no_influence(name, h):
    if name == "particles" and not isinstance(h, str):
        pytest.skip("C++ knows no operator of your own")
    length = L if name == "4dvar" else 1
    scheme = SCHEMES[name](h, FULL)
    state, y = forecast_of(scheme, length), observations(length)
    _, found = scheme.analyse(state, y)
    _, other = scheme.analyse(state, np.where(np.isnan(y), OTHER_NAN, y))
    for field in FIELDS:
        if getattr(found, field) is not None:
            one, two = getattr(found, field), getattr(other, field)
            assert one.tobytes() == two.tobytes(), field
    assert np.isfinite(found.state).all()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_sample_without_gaps_has_the_bits_that_it_has_without_those_of_others(name):
    length = L if name == "4dvar" else 1
    scheme = SCHEMES[name]("xyz", FULL)
    state, y = forecast_of(scheme, length), observations(length)
    complete = ~np.isnan(y).any(axis=(1, 2))
    filled = np.where(np.isnan(y), 1.0, y)
    _, wanted = scheme.analyse(state, filled)
    y[:5] = filled[:5]
    complete[:5] = True
    _, found = scheme.analyse(state, y)
    for field in FIELDS:
        if getattr(found, field) is not None:
            one, two = getattr(found, field), getattr(wanted, field)
            assert one[complete].tobytes() == two[complete].tobytes(), field


@pytest.mark.parametrize("name", SCHEMES)
def test_infinity_is_refused(name):
    scheme = SCHEMES[name]("xyz", FULL)
    state, y = forecast_of(scheme, 1), np.full((N, 1, 3), np.nan)
    y[3, 0, 1] = np.inf
    with pytest.raises(ArgumentValueError, match=r"observations: .*got 1 .*\(inf\)"):
        scheme.analyse(state, y)


def test_4d_var_weighs_what_is_present_anywhere_in_its_window():
    """The gradient of J, computed value by value, is zero at its analysis."""
    scheme = SCHEMES["4dvar"]("xyz", FULL)
    state, y = forecast_of(scheme, L), observations(L)
    _, found = scheme.analyse(state, y)
    model = scheme._model
    starts = state.backgrounds[:, 0]

    def cost(x_0):
        J = 0.5 * np.einsum("ni,ij,nj->n", x_0 - starts, np.linalg.inv(B), x_0 - starts)
        x = x_0
        for l in range(L):  # noqa: E741
            for i in range(N):
                some = ~np.isnan(y[i, l])
                d = (y[i, l] - x[i])[some]
                J[i] += 0.5 * d @ np.linalg.inv(FULL[np.ix_(some, some)]) @ d
            if l < L - 1:
                x = forecast(x, 5, **model)
        return J, x

    # x_0 of the analysis: carried back by Gauss-Newton on the end state.
    x_0 = starts.copy()
    for _ in range(30):
        end, M = propagator(x_0, 5 * (L - 1), **model)
        x_0 += np.linalg.solve(M, (found.state - end)[..., None])[..., 0]
    J, end = cost(x_0)
    np.testing.assert_allclose(end, found.state, atol=1e-8)
    np.testing.assert_allclose(J, found.cost, rtol=1e-8)
    assert (found.cost < cost(starts)[0]).all()
    for j in range(3):
        step = 1e-4 * np.eye(3)[j]
        slope = (cost(x_0 + step)[0] - cost(x_0 - step)[0]) / 2e-4
        assert np.abs(slope[found.status == 0]).max() < 1e-4
    assert (found.status == 0).sum() >= N - 2


def test_innovation_statistics_leave_out_missing_values():
    rng = np.random.default_rng(0)
    S = FULL + np.eye(3)
    d = rng.normal(size=(200, 50, 3)) @ np.linalg.cholesky(S).T
    every = np.broadcast_to(S, (200, 50, 3, 3))
    d[rng.random(d.shape) < 0.5] = np.nan
    found = innovation_statistics(d, every, missing="nan", n_bootstrap=200)
    square, n = 0.0, 0
    for one in d.reshape(-1, 3):
        some = ~np.isnan(one)
        block = S[np.ix_(some, some)]
        square += one[some] @ np.linalg.solve(block, one[some])
        n += some.sum()
    assert found.ratio == pytest.approx(square / n, rel=1e-12)
    assert found.ratio == pytest.approx(1.0, abs=0.03)
    assert found.trace_ratio == pytest.approx(1.0, abs=0.03)
    np.testing.assert_allclose(found.mean, np.nanmean(d, axis=(0, 1)), rtol=1e-12)
    products = np.nanmean(d[..., :, None] * d[..., None, :], axis=(0, 1))
    np.testing.assert_allclose(found.covariance, products, rtol=1e-12)
    np.testing.assert_allclose(found.claimed, S, rtol=1e-12)
    # Not declared, or lost with its covariance: not hidden.
    assert np.isnan(innovation_statistics(d, every, n_bootstrap=2).ratio)
    lost = np.array(every)
    lost[0, 0] = np.nan
    assert np.isnan(innovation_statistics(d, lost, missing="nan", n_bootstrap=2).ratio)


def test_b_is_tuned_on_what_is_present():
    truth = spin_up(2000, seed=4).reshape(20, 100, 3)
    rng = np.random.default_rng(1)
    background = truth + rng.normal(size=truth.shape) @ np.linalg.cholesky(B).T
    y = truth + rng.normal(size=truth.shape)
    y[rng.random(y.shape) < 0.3] = np.nan
    given = (background, y, truth, "xyz")
    with pytest.raises(ArgumentValueError, match="observation: expected finite"):
        tune_b_scale(*given, B=B, R=np.eye(3))
    found = tune_b_scale(*given, B=B, R=np.eye(3), missing="nan")
    assert 0.5 < found.scale < 2.0


def test_filters_lose_the_truth_by_the_number_of_values_present():
    """The limit of d^T S^-1 d is that of one value: 37.3 at the probability 1e-9."""
    scheme = replace(SCHEMES["extkf"]("xyz", np.eye(3)))
    state = scheme.initial(spin_up(2, seed=0), np.random.default_rng(0))
    y = np.full((2, 1, 3), np.nan)
    limit = np.sqrt(37.32 * 3.0)
    y[:, 0, 0] = state.mean[:, 0] + limit * np.array([0.999, 1.001])
    assert scheme.analyse(state, y)[1].status.tolist() == [0, 2]
