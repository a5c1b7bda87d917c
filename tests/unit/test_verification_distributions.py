"""Scores of mixtures, particles and ensembles: peers, definitions, calibration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from l63fast.errors import ArgumentTypeError
from l63fast.verification import (
    NORMAL,
    draw_members,
    mixture_moments,
    normal,
    pit_histogram,
    score_marginals,
    score_members,
    score_mixtures,
)

SHAPE = (3, 4)


def mixtures(k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return mixtures (3, 4, k) and truths."""
    rng = np.random.default_rng(seed)
    components = np.empty((*SHAPE, k), NORMAL)
    weight = rng.random((*SHAPE, k))
    components["weight"] = weight / weight.sum(axis=-1, keepdims=True)
    components["mean"] = rng.normal(size=(*SHAPE, k, 3))
    components["factor"] = np.eye(3) + 0.4 * rng.normal(size=(*SHAPE, k, 3, 3))
    return components, rng.normal(size=(*SHAPE, 3))


def weighted(n: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    members, weights = rng.normal(size=(*SHAPE, n, 3)), rng.random((*SHAPE, n))
    weights /= weights.sum(axis=-1, keepdims=True)
    return members, rng.normal(size=(*SHAPE, 3)), weights


@pytest.mark.parametrize("k", [1, 3])
def test_crps_and_log_score_of_mixtures_are_those_of_peers(k: int) -> None:
    from scoringrules import crps_mixnorm

    components, truth = mixtures(k)
    found = score_mixtures(components, truth)
    w, m, A = (components[name] for name in NORMAL.names or ())
    sigma = np.sqrt((A**2).sum(axis=-1))
    each = [crps_mixnorm(truth[..., i], m[..., i], sigma[..., i], w) for i in range(3)]
    np.testing.assert_allclose(found.crps, np.mean(each, axis=0), rtol=1e-12)
    for place in np.ndindex(SHAPE):
        each = [
            np.log(weight) + multivariate_normal.logpdf(truth[place], mean, A @ A.T)
            for weight, mean, A in components[place]
        ]
        expected = -np.logaddexp.reduce(each)
        assert found.log_score[place] == pytest.approx(expected, rel=1e-9)


def test_normal_marginals_are_mixtures_of_one() -> None:
    from scoringrules import crps_normal

    components, truth = mixtures(1)
    mean, covariance = mixture_moments(components)
    spread = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    found, whole = (
        score_marginals(mean, spread, truth),
        score_mixtures(components, truth),
    )
    np.testing.assert_allclose(found.crps, crps_normal(truth, mean, spread).mean(-1))
    np.testing.assert_allclose(found.crps, whole.crps, rtol=1e-12)
    np.testing.assert_allclose(found.low, whole.low, rtol=1e-12)
    same = score_mixtures(normal(mean, covariance), truth)
    np.testing.assert_allclose(same.log_score, whole.log_score, rtol=1e-9)


def test_members_have_the_fair_scores() -> None:
    from scoringrules import crps_ensemble, es_ensemble

    members, truth, _ = weighted()
    found = score_members(members, truth)
    crps = crps_ensemble(truth, members, m_axis=2, estimator="fair").mean(axis=-1)
    np.testing.assert_allclose(found.crps, crps, rtol=1e-12)
    energy = es_ensemble(truth, members, estimator="fair")
    np.testing.assert_allclose(found.energy, energy, rtol=1e-12)
    rank = (members < truth[:, :, None]).sum(axis=2)
    np.testing.assert_allclose(found.low, rank / 8.0)
    np.testing.assert_allclose(found.high, (rank + 1) / 8.0)


def test_equal_weights_have_the_ranks_of_members() -> None:
    members, truth, weights = weighted()
    equal = score_members(members, truth, np.full_like(weights, 1.0 / 7.0))
    plain = score_members(members, truth)
    for name in ("low", "high"):
        expected = getattr(plain, name)
        np.testing.assert_allclose(getattr(equal, name), expected, atol=1e-12)


def test_weights_count_as_often_as_members_would() -> None:
    from scoringrules import crps_ensemble

    members, truth, weights = weighted()
    found = score_members(members, truth, weights)
    each = np.broadcast_to(weights[..., None], members.shape)
    peer = crps_ensemble(truth, members, m_axis=2, ens_w=each, estimator="nrg")
    np.testing.assert_allclose(found.crps, peer.mean(axis=-1), rtol=1e-12)
    one = np.zeros_like(weights)
    one[..., 2] = 1.0  # a particle with all the weight
    found = score_members(members, truth, one)
    off = np.abs(members[..., 2, :] - truth)
    np.testing.assert_allclose(found.crps, off.mean(axis=-1))
    np.testing.assert_allclose(found.energy, np.linalg.norm(off, axis=-1))


@pytest.mark.parametrize("size", [2, 40])
def test_energy_scores_have_one_expectation(size: int) -> None:
    rng = np.random.default_rng(2)
    truth, members = rng.normal(size=(20, 500, 3)), rng.normal(size=(20, 500, size, 3))
    components = normal(
        np.zeros((20, 500, 3)), np.broadcast_to(np.eye(3), (20, 500, 3, 3))
    )
    weights = rng.random((20, 500, size))
    weights /= weights.sum(axis=-1, keepdims=True)
    # E|X - X'| / 2 of N(0, 1) in three dimensions: 2 / sqrt(pi).
    for found in (
        score_members(members, truth),
        *((score_members(members, truth, weights),) if size == 40 else ()),
        score_mixtures(components, truth),
    ):
        assert found.energy.mean() == pytest.approx(2.0 / np.sqrt(np.pi), rel=0.04)


@pytest.mark.parametrize(("width", "covered"), [(1.0, 0.9), (0.5, 0.589)])
def test_coverage_and_pit_tell_the_width(width: float, covered: float) -> None:
    rng = np.random.default_rng(3)
    mean = 5.0 * rng.normal(size=(50, 200, 3))
    truth = mean + rng.normal(size=mean.shape)
    members = mean[:, :, None] + width * rng.normal(size=(50, 200, 39, 3))
    of_normals = score_mixtures(normal(mean, width**2 * _eye(mean)), truth)
    for found in (of_normals, score_members(members, truth)):
        columns = found.columns()
        assert columns["covered_90"].mean() == pytest.approx(covered, abs=0.02)
        shares = pit_histogram(found, n_bins=10, n_bootstrap=20).shares
        np.testing.assert_allclose(shares.sum(axis=1), 1.0)
        is_flat = (np.abs(shares - 0.1) < 0.01).all()
        assert is_flat == (width == 1.0)
        if width < 1.0:
            assert (shares[:, [0, -1]] > 0.15).all()


def _eye(mean: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.eye(3), (*mean.shape, 3))


def test_drawn_members_have_the_moments_and_repeat() -> None:
    components, _ = mixtures(2)
    members = draw_members(components, 40_000, 5)
    assert members.shape == (*SHAPE, 40_000, 3)
    mean, covariance = mixture_moments(components)
    np.testing.assert_allclose(members.mean(axis=2), mean, atol=0.08)
    apart = members - members.mean(axis=2, keepdims=True)
    found = np.einsum("abni,abnj->abij", apart, apart) / 40_000
    np.testing.assert_allclose(found, covariance, atol=0.25)
    np.testing.assert_array_equal(
        draw_members(components, 3, 5), draw_members(components, 3, 5)
    )
    assert not np.array_equal(
        draw_members(components, 3, 5), draw_members(components, 3, 6)
    )


def test_a_lost_estimate_is_lost_alone() -> None:
    components, truth = mixtures(2)
    whole = score_mixtures(components, truth)
    components["mean"][1, 2] = np.nan
    found = score_mixtures(components, truth)
    members, truth, weights = weighted()
    weights[1, 2] = np.nan
    for values, before in (
        (found, whole),
        (
            score_members(members, truth, weights),
            score_members(members, truth, weights),
        ),
    ):
        for name in ("crps", "energy", "low"):
            one, other = getattr(values, name), getattr(before, name)
            assert np.isnan(one[1, 2]).all(), name
            rest = np.ones(SHAPE, bool)
            rest[1, 2] = False
            np.testing.assert_array_equal(one[rest], other[rest])


def test_other_arrays_are_no_mixtures() -> None:
    with pytest.raises(ArgumentTypeError, match="components: expected an array of"):
        draw_members(np.zeros((2, 3)), 5, 0)
    with pytest.raises(ArgumentTypeError, match="got NoneType"):
        draw_members(None, 5, 0)
