"""Scores of ensembles: CRPS, ranks and spread against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.verification import crps, crps_means, rank_histogram, spread_skill

DIMENSIONS = ("trajectory", "time", "member", "component")


def ensemble(n=40, times=15, n_members=6, width=1.0, seed=0):
    """Return members and a truth of one distribution, the members `width` as wide."""
    rng = np.random.default_rng(seed)
    centre = 5.0 * rng.normal(size=(n, times, 1, 3))
    members = centre + width * rng.normal(size=(n, times, n_members, 3))
    return members, centre[:, :, 0] + rng.normal(size=(n, times, 3))


def as_xarray(members, truth):
    without = [name for name in DIMENSIONS if name != "member"]
    return xr.DataArray(members, dims=DIMENSIONS), xr.DataArray(truth, dims=without)


def test_crps_is_the_fair_one():
    members, truth = ensemble()
    found, low, high = crps(members, truth)
    distance = np.abs(members - truth[:, :, None]).mean(axis=2)
    pairs = np.abs(members[:, :, :, None] - members[:, :, None]).sum(axis=(2, 3))
    fair = distance - pairs / (2 * 6 * 5)
    assert found == pytest.approx(fair.mean(), rel=1e-12)
    from scores.probability import crps_for_ensemble  # slow to import, as below

    peer = crps_for_ensemble(*as_xarray(members, truth), "member", method="fair")
    assert found == pytest.approx(float(peer), rel=1e-12)
    assert low < found < high
    half = 1.96 * fair.mean(axis=(1, 2)).std() / np.sqrt(40)
    assert high - low == pytest.approx(2 * half, rel=0.2)


@pytest.mark.parametrize("n_members", [2, 3, 10, 200])
def test_crps_is_that_of_a_peer_for_each_trajectory(n_members):
    from scoringrules import crps_ensemble

    members, truth = ensemble(n=5, n_members=n_members, seed=n_members)
    members[1, 2, 0] = members[1, 2, 1]  # ties
    truth[2, 3] = members[2, 3, 0]
    how = {"m_axis": 2, "estimator": "pwm", "backend": "numpy"}
    peer = crps_ensemble(truth, members, **how).mean(axis=(1, 2))
    np.testing.assert_allclose(crps_means(members, truth), peer, rtol=1e-12)


def test_the_size_of_an_ensemble_does_not_change_its_crps():
    values = [crps(*ensemble(400, 50, n), n_bootstrap=0)[0] for n in (2, 20)]
    # Truth and members N(0, 1): 1 / sqrt(pi).
    assert values == pytest.approx(2 * [1 / np.sqrt(np.pi)], rel=0.02)


def test_ranks_are_counted_for_each_component():
    members = np.zeros((2, 1, 3, 3))
    members[..., :] = np.array([1.0, 2.0, 3.0])[:, None]
    truth = np.array([[[0.0, 1.5, 9.0]], [[0.0, 2.5, 9.0]]])
    found = rank_histogram(members, truth)
    wanted = [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 2]]
    assert found.counts.tolist() == wanted
    np.testing.assert_array_equal(found.shares, np.array(wanted) / 2)
    assert (found.low <= found.shares).all()
    assert (found.shares <= found.high).all()


def test_ranks_are_those_of_a_peer():
    from scores.probability import rank_histogram as ranks_of_scores

    members, truth = ensemble()
    peer = ranks_of_scores(
        *as_xarray(members, truth), "member", preserve_dims=["component"]
    ).transpose("component", ...)
    found = rank_histogram(members, truth)
    np.testing.assert_allclose(found.shares, peer.to_numpy(), rtol=1e-12)


def test_ranks_are_flat_if_truth_and_members_are_alike_and_tell_a_narrow_ensemble():
    flat = rank_histogram(*ensemble(200, 50))
    covered = (flat.low < 1 / 7) & (flat.high > 1 / 7)
    assert covered.mean() > 0.8
    narrow = rank_histogram(*ensemble(200, 50, width=0.5))
    assert (narrow.low[:, [0, -1]] > 1 / 7).all()


def test_a_spread_that_is_the_error_has_a_ratio_of_one():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(200, 50, 3))
    spread = np.exp(0.5 * rng.normal(size=(200, 50, 1))) * np.ones(3)
    analysis = truth + spread * rng.normal(size=truth.shape)
    found = spread_skill(analysis, spread, truth, n_bins=5)
    assert found.ratio == pytest.approx(1.0, abs=0.05)
    assert found.ci95[0] < 1.0 < found.ci95[1]
    np.testing.assert_allclose(found.error, found.spread, rtol=0.1)
    assert (np.diff(found.spread) > 0).all()
    blind = spread_skill(analysis, np.full_like(spread, found.error.mean()), truth)
    assert blind.spread[0] == pytest.approx(blind.spread[-1])
    confident = spread_skill(analysis, 0.5 * spread, truth)
    assert confident.ratio == pytest.approx(0.5 * found.ratio, rel=1e-12)


def test_the_ratio_is_of_root_mean_squares():
    truth = np.zeros((1, 2, 3))
    analysis = np.array([[[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]]])
    spread = np.array([[[2.0, 2.0, 2.0], [4.0, 4.0, 4.0]]])
    found = spread_skill(analysis, spread, truth, n_bins=2)
    assert found.ratio == pytest.approx(np.sqrt(20 / 10))
    assert found.spread.tolist() == [2.0, 4.0]
    assert found.error.tolist() == [1.0, 3.0]
    assert np.isnan(found.ci95).all()  # one trajectory says nothing of its spread


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(bad):
    members, truth = ensemble()
    members[3, 2, 1, 0] = bad
    assert not np.isfinite(crps(members, truth)[0])
    assert np.isnan(rank_histogram(members, truth).shares).all()
    spread = np.ones_like(truth)
    spread[3, 2, 0] = bad
    assert not np.isfinite(spread_skill(truth, spread, truth + 1.0).ratio)


def test_what_does_not_fit_is_refused():
    members, truth = ensemble()
    with pytest.raises(ArgumentValueError, match=r"truth: expected \(40, 15, 3\)"):
        crps(members, truth[:, 1:])
    with pytest.raises(ArgumentValueError, match="members: n_members: expected at lea"):
        rank_histogram(members[:, :, :1], truth)
    with pytest.raises(ArgumentValueError, match="n_bins: expected at most 600"):
        spread_skill(truth, truth, truth, n_bins=601)
    with pytest.raises(ArgumentTypeError, match="n_bootstrap"):
        crps(members, truth, n_bootstrap=1.0)
    truth[0, 0, 0] = np.nan
    with pytest.raises(ArgumentValueError, match="truth: expected finite"):
        rank_histogram(members, truth)
