"""Scores: hand-computed cases, mirror awareness, intervals, and what NaN does."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from l63fast import verification
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.verification import (
    compare,
    paired_difference,
    rmse,
    rmse_pooled,
    score,
    skill,
    trajectory_means,
)

# Two trajectories of two times each.
TRUTH = np.array([[[1.0, 2.0, 20.0]] * 2] * 2)
ERRORS = np.array([[[3, 0, 0], [0, 0, 0]], [[1, 2, 2], [3, 4, 0]]], dtype=np.float64)
ANALYSIS = TRUTH + ERRORS


def noise(n: int = 50, times: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, times, 3))


def test_scores_by_hand():
    found = score(ANALYSIS, TRUTH)
    r3 = math.sqrt(3.0)
    assert found.rmse_a == pytest.approx((3 + 0 + 3 + 5) / r3 / 4, rel=1e-15)
    assert found.rmse_pooled_a == pytest.approx(
        math.sqrt((9 + 0 + 9 + 25) / 12), rel=1e-15
    )
    assert found.rmse_x == pytest.approx(math.sqrt((9 + 1 + 9) / 4), rel=1e-15)
    assert found.rmse_y == pytest.approx(math.sqrt((4 + 16) / 4), rel=1e-15)
    assert found.rmse_z == pytest.approx(math.sqrt(4 / 4), rel=1e-15)
    assert found.median == pytest.approx(3 / r3, rel=1e-15)
    assert found.p95 == pytest.approx((3 + 0.85 * 2) / r3, rel=1e-15)
    assert (found.n_trajectories, found.n_analyses, found.n_non_finite) == (2, 4, 0)
    assert found.divergence_rate == 0.0
    assert found.decibel == pytest.approx(10 * math.log10(43 / 12), rel=1e-14)


def test_measures_are_the_scores_of_those_names():
    analysis, truth = noise(), noise(seed=1)
    found = score(analysis, truth)
    assert rmse(analysis, truth) == found.rmse_a
    assert rmse_pooled(analysis, truth) == found.rmse_pooled_a
    assert rmse(analysis, truth, mirror_aware=True) == found.mirror_rmse_a
    assert rmse_pooled(analysis, truth, mirror_aware=True) == found.mirror_rmse_pooled_a
    each = verification.instantaneous_rms(analysis, truth)
    assert each.shape == (50, 40)
    assert each.mean() == pytest.approx(found.rmse_a, rel=1e-14)


def test_the_mirror_is_chosen_at_each_time_before_any_average():
    truth = np.array([[[5.0, 5.0, 20.0], [5.0, 5.0, 20.0]]])
    analysis = truth * np.array([[[-1, -1, 1], [1, 1, 1]]])  # flips half-way
    assert rmse(analysis, truth) == pytest.approx(math.sqrt(200 / 3) / 2, rel=1e-15)
    assert rmse(analysis, truth, mirror_aware=True) == 0.0
    assert rmse_pooled(analysis, truth, mirror_aware=True) == 0.0
    found = score(analysis, truth)
    assert found.sign_flip_rate == 0.5
    assert found.mirror_rmse_a == 0.0
    assert found.median > 4.0
    aware = score(analysis, truth, mirror_aware=True)
    assert aware.rmse_a == found.rmse_a
    assert aware.median == aware.p95 == aware.rmse_x == aware.rmse_y == 0.0


def test_mirroring_the_analysis_changes_no_mirror_aware_score():
    analysis, truth = noise() + 1.0, noise(seed=1) + 1.0
    mirrored = analysis * np.array([-1.0, -1.0, 1.0])
    assert rmse(mirrored, truth, True) == rmse(analysis, truth, True)
    assert rmse(mirrored, truth) != rmse(analysis, truth)
    flips = [score(a, truth).sign_flip_rate for a in (analysis, mirrored)]
    assert sum(flips) == pytest.approx(1.0)


def test_a_tie_is_not_a_flip():
    truth = np.full((1, 3, 3), 4.0)
    analysis = truth * np.array([0.0, 0.0, 1.0])
    assert score(analysis, truth).sign_flip_rate == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_analysis_is_counted_and_never_averaged_away(bad):
    analysis, truth = noise(), noise(seed=1)
    analysis[3, 7, 1] = bad
    found = score(analysis, truth)
    assert found.n_non_finite == 1
    assert found.divergence_rate == pytest.approx(1 / 50)
    numbers = dataclasses.asdict(found)
    for name in (
        "rmse_a",
        "rmse_pooled_a",
        "mirror_rmse_a",
        "mirror_rmse_pooled_a",
        "rmse_y",
        "sign_flip_rate",
    ):
        assert not math.isfinite(numbers[name]), name
    assert math.isfinite(found.rmse_x)
    assert not math.isfinite(rmse(analysis, truth, True))
    assert not math.isfinite(paired_difference(analysis, truth, truth)[0])
    assert not all(map(math.isfinite, found.ci95["rmse_a"]))
    if math.isnan(bad):
        assert math.isnan(found.median)
        assert math.isnan(found.p95)


def test_huge_errors_overflow_without_a_warning():
    truth = np.zeros((2, 2, 3))
    found = score(truth + 1e200, truth)
    assert found.rmse_a == found.rmse_pooled_a == math.inf
    assert found.divergence_rate == 1.0


def test_divergence_is_counted_by_trajectory():
    truth = np.zeros((4, 10, 3))
    analysis = truth.copy()
    analysis[0] += 7.61
    analysis[1] += 7.59
    analysis[2, 0] += 50.0  # one bad time is no divergence
    assert score(analysis, truth).divergence_rate == 0.25


def test_the_interval_covers_the_true_score():
    """A 95 % interval of the pooled score must hold the true value about 95 times."""
    hits = 0
    for number in range(200):
        errors = noise(n=60, times=5, seed=number)
        low, high = score(errors, np.zeros_like(errors), n_bootstrap=300).ci95[
            "rmse_pooled_a"
        ]
        hits += low <= 1.0 <= high
    assert 178 <= hits <= 199


def test_the_interval_resamples_trajectories_not_times():
    """Errors constant along a trajectory: more times must not narrow the interval."""
    by_trajectory = np.abs(noise(n=40, times=1))
    widths = []
    for times in (1, 100):
        errors = np.repeat(by_trajectory, times, axis=1)
        low, high = score(errors, np.zeros_like(errors)).ci95["rmse_a"]
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=1e-9)


def test_bootstrap_is_keyed_and_independent_of_its_chunks(monkeypatch):
    analysis, truth = noise(), noise(seed=1)
    once = score(analysis, truth)
    assert score(analysis, truth) == once
    assert score(analysis, truth, seed=1).ci95 != once.ci95
    monkeypatch.setattr(verification.bootstrap, "_CHUNK", 50 * 7)
    assert score(analysis, truth).ci95 == once.ci95


def test_one_trajectory_has_no_interval():
    found = score(noise(n=1), noise(n=1, seed=1))
    assert all(math.isnan(bound) for pair in found.ci95.values() for bound in pair)
    none = score(noise(), noise(seed=1), n_bootstrap=0)
    assert all(math.isnan(bound) for pair in none.ci95.values() for bound in pair)


@pytest.mark.parametrize("measure", ["rmse_a", "rmse_pooled_a"])
@pytest.mark.parametrize("mirror_aware", [False, True])
def test_a_paired_difference_is_the_difference_of_scores(measure, mirror_aware):
    truth = noise(seed=1)
    a, b = truth + 0.5 * noise(seed=2), truth + noise(seed=3)
    function = {"rmse_a": rmse, "rmse_pooled_a": rmse_pooled}[measure]
    wanted = function(a, truth, mirror_aware) - function(b, truth, mirror_aware)
    difference, low, high = paired_difference(
        a, b, truth, measure=measure, mirror_aware=mirror_aware
    )
    assert difference == wanted
    assert low < difference < high < 0.0
    swapped = paired_difference(b, a, truth, measure=measure, mirror_aware=mirror_aware)
    assert swapped == pytest.approx((-difference, -high, -low), rel=1e-12)


def test_pairing_cancels_what_is_hard_for_both():
    """Large common errors, a small constant gain: only a paired interval sees it."""
    truth = np.zeros((60, 5, 3))
    b = np.abs(noise(n=60, times=1)).repeat(5, axis=1) * 10.0
    a = b * 0.99
    difference, low, high = paired_difference(a, b, truth)
    assert low < difference < high < 0.0
    unpaired = (
        score(a, truth).ci95["rmse_pooled_a"],
        score(b, truth).ci95["rmse_pooled_a"],
    )
    assert unpaired[0][1] > unpaired[1][0], "the intervals of the two overlap"


def test_equal_analyses_differ_by_exactly_nothing():
    a, truth = noise(), noise(seed=1)
    assert paired_difference(a, a, truth) == (0.0, 0.0, 0.0)


def test_skill():
    assert skill(0.5, 2.0) == 0.75
    assert skill(2.0, 2.0) == 0.0
    assert skill(0.0, 1.0) == 1.0
    assert math.isnan(skill(1.0, math.nan))
    assert math.isnan(skill(1.0, math.inf))
    assert math.isnan(skill(math.nan, 1.0))
    with pytest.raises(ArgumentValueError, match="reference: expected a number"):
        skill(1.0, 0.0)


@pytest.mark.parametrize(
    ("analysis", "truth", "error", "message"),
    [
        (ANALYSIS[:1], TRUTH, ArgumentValueError, r"analysis: expected \(2, 2, 3\)"),
        (ANALYSIS[0], TRUTH[0], ArgumentValueError, "truth: expected"),
        (ANALYSIS[..., :2], TRUTH[..., :2], ArgumentValueError, "truth: expected"),
        (ANALYSIS[:0], TRUTH[:0], ArgumentValueError, "n_trajectories"),
        (ANALYSIS[:, :0], TRUTH[:, :0], ArgumentValueError, "n_times"),
        (ANALYSIS, TRUTH * np.nan, ArgumentValueError, "truth: expected finite"),
        ("no", TRUTH, ArgumentTypeError, "analysis"),
        (ANALYSIS + 1j, TRUTH, ArgumentTypeError, "analysis: expected real"),
    ],
)
def test_bad_arrays_are_refused(analysis, truth, error, message):
    for function in (score, rmse, rmse_pooled):
        with pytest.raises(error, match=message):
            function(analysis, truth)


def test_bad_options_are_refused():
    with pytest.raises(ArgumentValueError, match="n_bootstrap"):
        score(ANALYSIS, TRUTH, n_bootstrap=-1)
    with pytest.raises(ArgumentTypeError, match="seed"):
        score(ANALYSIS, TRUTH, seed=0.5)
    with pytest.raises(ArgumentTypeError, match="mirror_aware"):
        rmse(ANALYSIS, TRUTH, 1)
    with pytest.raises(ArgumentValueError, match="measure: expected one of rmse_a, "):
        paired_difference(ANALYSIS, ANALYSIS, TRUTH, measure="mae")


def test_inputs_are_left_alone():
    analysis, truth = ANALYSIS.copy(), TRUTH.copy()
    for array in (analysis, truth):
        array.setflags(write=False)
    score(analysis, truth)
    paired_difference(analysis, analysis, truth)
    np.testing.assert_array_equal(analysis, ANALYSIS)


def test_intervals_of_rates_and_decibels():
    rng = np.random.default_rng(0)
    truth = np.tile([3.0, 3.0, 20.0], (60, 10, 1))
    flipped = rng.random((60, 1, 1)) < 0.3
    analysis = np.where(flipped, [-1.0, -1.0, 1.0], 1.0) * truth + 0.1
    analysis[:6] += 50.0
    found = score(analysis, truth)
    assert found.divergence_rate == pytest.approx(0.1)
    for name in ("sign_flip_rate", "divergence_rate"):
        low, high = found.ci95[name]
        rate = getattr(found, name)
        assert low < rate < high
        half = 1.96 * math.sqrt(rate * (1 - rate) / 60)
        assert high - low == pytest.approx(2 * half, rel=0.35)
    low, high = found.decibel_ci95
    assert low < found.decibel < high
    assert low == pytest.approx(20 * math.log10(found.ci95["rmse_pooled_a"][0]))


def test_a_comparison_is_of_paired_trajectories():
    rng = np.random.default_rng(0)
    truth = np.zeros((100, 25, 3))
    hard = rng.uniform(0.5, 5.0, (100, 1, 1))  # the same trajectories for both
    a = hard * rng.standard_normal(truth.shape)
    b = 1.1 * hard * rng.standard_normal(truth.shape)
    means_a, means_b = trajectory_means(a, truth), trajectory_means(b, truth)
    scores = score(a, truth), score(b, truth)
    for measure, column in (("rmse_a", 0), ("rmse_pooled_a", 1)):
        one, other = (getattr(s, measure) for s in scores)
        found = compare(means_a[:, column], means_b[:, column], measure=measure)
        assert found.difference == pytest.approx(one - other)
        assert found.ratio == pytest.approx(one / other)
        expected = paired_difference(a, b, truth, measure=measure)
        assert (found.difference, *found.difference_ci95) == expected
        low, high = found.ratio_ci95
        assert low < 1 / 1.1 < high
        unpaired = compare(
            means_a[:, column], rng.permutation(means_b[:, column]), measure=measure
        )
        assert high - low < 0.3 * np.diff(unpaired.ratio_ci95)[0]
    same = compare(means_a[:, 0], means_a[:, 0], measure="rmse_a")
    assert (same.ratio, *same.ratio_ci95) == (1.0, 1.0, 1.0)


def test_means_of_trajectories_are_what_scores_are_made_of():
    means = trajectory_means(ANALYSIS, TRUTH)
    found = score(ANALYSIS, TRUTH)
    expected = [
        found.rmse_a,
        found.rmse_pooled_a**2,
        found.mirror_rmse_a,
        found.mirror_rmse_pooled_a**2,
    ]
    np.testing.assert_allclose(means.mean(axis=0), expected, rtol=1e-12)
