"""Innovations beside the covariance that a scheme claims for them."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.kalman import OptimalInterpolation
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentValueError
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import innovation_statistics

S = np.array([[2.0, 0.5], [0.5, 1.0]])


def innovations(n=200, times=50, seed=0):
    """Return innovations of covariance s S, and s S, with s another at each time."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=(n, times, 1)))
    d = np.sqrt(scale) * rng.normal(size=(n, times, 2)) @ np.linalg.cholesky(S).T
    return d, scale[..., None] * S


def test_innovations_that_are_as_claimed():
    d, claimed = innovations()
    found = innovation_statistics(d, claimed)
    assert found.ratio == pytest.approx(1.0, abs=0.03)
    assert found.trace_ratio == pytest.approx(1.0, abs=0.06)
    for name in ("ratio", "trace_ratio"):
        assert found.ci95[name][0] < 1.0 < found.ci95[name][1]
    np.testing.assert_allclose(found.covariance, found.claimed, rtol=0.15)
    np.testing.assert_allclose(found.claimed, claimed.mean(axis=(0, 1)), rtol=1e-12)
    assert np.abs(found.mean).max() < 0.1


def test_by_hand():
    d = np.array([[[1.0, 2.0]], [[3.0, 0.0]]])
    claimed = np.array([[np.diag([1.0, 4.0])], [np.diag([9.0, 1.0])]])
    found = innovation_statistics(d, claimed)
    assert found.ratio == pytest.approx(((1 + 1) / 2 + 1 / 2) / 2)
    assert found.trace_ratio == pytest.approx((1 + 4 + 9) / (1 + 4 + 9 + 1))
    np.testing.assert_array_equal(found.mean, [2.0, 1.0])
    np.testing.assert_array_equal(found.covariance, [[5.0, 1.0], [1.0, 2.0]])
    np.testing.assert_array_equal(found.claimed, [[5.0, 0.0], [0.0, 2.5]])


def test_a_claim_right_on_average_only_shows_in_the_ratio():
    d, claimed = innovations()
    average = np.broadcast_to(claimed.mean(axis=(0, 1)), claimed.shape)
    found = innovation_statistics(d, average)
    assert found.trace_ratio == pytest.approx(1.0, abs=0.06)
    trusting = innovation_statistics(d, 0.5 * claimed)
    assert trusting.ratio == pytest.approx(2.0, abs=0.06)
    assert trusting.ci95["ratio"][0] > 1.0


def test_what_is_not_finite_is_not_hidden_and_what_does_not_fit_is_refused():
    d, claimed = innovations(4, 3)
    d[1, 1, 0] = np.nan
    found = innovation_statistics(d, claimed)
    assert np.isnan([found.ratio, found.trace_ratio, *found.ci95["ratio"]]).all()
    with pytest.raises(
        ArgumentValueError, match=r"covariance: expected \(4, 3, 2, 2\)"
    ):
        innovation_statistics(d, claimed[:, 1:])
    with pytest.raises(ArgumentValueError, match="innovation: n_times: expected at"):
        innovation_statistics(d[:, :0], claimed[:, :0])


@pytest.fixture(scope="module")
def twin():
    return TwinExperiment.generate(
        TwinSettings(operator="xy", n_train=40, n_val=1, n_test=60, n_steps=2000)
    )


def test_schemes_claim_what_their_innovations_are(twin):
    """Within what each of them can know: B is static, or an ensemble of 20."""
    C = twin.climatology.covariance
    found = {}
    for name, scheme in {
        "OI": OptimalInterpolation("xy", twin.climatology, twin.R),
        "3D-Var": ThreeDVar("xy", 0.012 * C, twin.R),
        "EnKF": EnKF("xy", C, twin.R),
    }.items():
        result = run_cycles(scheme, twin, burn_in=50)
        statistics = innovation_statistics(
            result.innovation, result.innovation_covariance
        )
        found[name] = statistics.trace_ratio
    assert found == pytest.approx({"OI": 1.0, "3D-Var": 1.0, "EnKF": 1.0}, abs=0.15)
