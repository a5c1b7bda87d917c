"""Intervals hold the true score as often as they say; rare losses are marked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from interval_coverage import (
    DISTRIBUTIONS,
    INTERVALS,
    N_SAMPLES,
    PAIRS,
    SIZES,
    Coverage,
    of_contrasts,
    of_scores,
)
from l63fast.errors import ArgumentValueError
from l63fast.verification import Rank, Repetitions, compare, score
from l63fast.verification.bootstrap import resample
from pages import blocks, page, printed_by

SKEWED = "gamma, skewness 2"


def mean_share(rows: list[Coverage], interval: str) -> float:
    return float(np.mean([row.shares[interval] for row in rows]))


def test_intervals_of_scores_cover_where_percentiles_do_not() -> None:
    rows = list(of_scores(("normal", SKEWED), (12,), 1000, n_bootstrap=300))
    assert mean_share(rows, "percentile") < 0.895
    assert mean_share(rows, "BCa") > 0.915


def test_intervals_of_contrasts_cover_where_percentiles_do_not() -> None:
    rows = list(of_contrasts((SKEWED,), (12,), 1000, n_bootstrap=300))
    assert mean_share(rows, "percentile") < 0.895
    assert mean_share(rows, "widened") > 0.915


@pytest.mark.slow
def test_every_interval_covers_as_its_documentation_says() -> None:
    scores = list(of_scores(DISTRIBUTIONS, SIZES, N_SAMPLES))
    contrasts = list(of_contrasts(PAIRS, SIZES, N_SAMPLES))
    for rows, ours in ((scores, "BCa"), (contrasts, "widened")):
        for row in rows:
            assert row.shares[ours] > (0.93 if row.n >= 50 else 0.915), row
    written = {}
    for line in page("explanation/intervals").splitlines():
        case, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
        if line.startswith("|") and ":" in case:
            written[case] = np.reshape([float(x) for x in numbers], (len(SIZES), -1))
    assert written.keys() == {row.case for row in (*scores, *contrasts)}
    for row in (*scores, *contrasts):
        found = [100.0 * row.shares[name] for name in INTERVALS]
        # A libm of other last bits moves a sample or two across an end.
        np.testing.assert_allclose(
            written[row.case][SIZES.index(row.n)], found, atol=0.3
        )


@pytest.mark.parametrize("skewness", [-1.5, 1.5])
def test_the_interval_of_a_score_is_bca(skewness: float) -> None:
    """Against SciPy, on the same resampled scores."""
    n = 30
    values = 10.0 + skewness * np.random.default_rng(0).gamma(1.0, 1.0, n)
    scores = resample(values[:, None], 4000, 0).apply(np.sqrt)
    widened = math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)
    resampled = scores.resampled[:, 0]
    expected = stats.bootstrap(
        (values,),
        lambda x, axis: np.sqrt(x.mean(axis=axis)),
        n_resamples=0,
        confidence_level=1.0 - 2.0 * stats.norm.sf(widened),
        bootstrap_result=stats._resampling.BootstrapResult(
            stats._resampling.ConfidenceInterval(0.0, 0.0), resampled, 0.0
        ),
    ).confidence_interval
    width = expected.high - expected.low
    assert scores.interval() == pytest.approx(tuple(expected), abs=0.005 * width)
    not_moved = np.array(scores.interval(paired=True))
    assert np.abs(not_moved - expected).max() > 0.05 * width


def test_left_out_is_each_trajectory_of_each_data_set_in_all_trainings() -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, (2, 3, 4))
    found = Repetitions.of({"a": values}, measure="rmse_pooled_a", n_bootstrap=5)
    expected = []
    for data in range(2):
        for trajectory in range(4):
            means = values.mean(axis=(1, 2))
            means[data] = np.delete(values[data], trajectory, axis=1).mean()
            expected.append(math.sqrt(means.mean()))
    np.testing.assert_allclose(found.left_out[:, 0], expected, rtol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_trajectories_that_do_not_differ_have_an_interval_of_no_width(n: int) -> None:
    same = resample(np.full((n, 1), 0.1), 100, 0)
    assert same.interval() == pytest.approx((0.1, 0.1), rel=1e-15)


def test_the_example_of_rare_losses_prints_what_its_page_says() -> None:
    text = page("explanation/intervals")
    assert printed_by(blocks(text, "python")[0]) == blocks(text, "text")[0]


def lossy(n_lost: int, n: int = 60, worst: float = 12.0) -> np.ndarray:
    """Return time means of which some are lost."""
    means = 0.5 + 0.05 * np.random.default_rng(n_lost).random((1, n))
    means[0, :n_lost] = worst
    return means


def test_rare_losses_are_marked_with_what_is_known_of_them() -> None:
    means = {"safe": lossy(0), "rare": lossy(2), "often": lossy(20)}
    found = Repetitions.of(means, measure="rmse_a")
    rare = found.score("rare")
    assert rare.rare_losses
    assert rare.lost == pytest.approx(2 / 60)
    exact = stats.binomtest(2, 60).proportion_ci(method="exact")
    assert rare.lost_ci95 == pytest.approx((exact.low, exact.high), rel=1e-10)
    assert rare.median == np.median(means["rare"])
    safe = found.score("safe")
    assert (safe.rare_losses, safe.lost, safe.lost_ci95[0]) == (False, 0.0, 0.0)
    assert safe.lost_ci95[1] == pytest.approx(1.0 - 0.025 ** (1 / 60), rel=1e-10)
    # A third of all: the sample knows how large these losses are and how frequent.
    assert not found.score("often").rare_losses
    assert found.score("often").lost == pytest.approx(1 / 3)
    assert found.compare("rare", "safe").rare_losses
    assert not found.compare("often", "safe").rare_losses
    assert compare(means["rare"][0], means["safe"][0], measure="rmse_a").rare_losses


@pytest.mark.parametrize("worst", [12.0, np.nan, np.inf])
def test_what_rare_losses_make_has_no_rank(worst: float) -> None:
    means = {"rare": lossy(1, worst=worst), "b": lossy(0) + 1.0, "a": lossy(0)}
    found = Repetitions.of(means, measure="rmse_a")
    assert found.standings(tuple(means)) == {
        "rare": Rank(None, (), None),
        "b": Rank(2, (), 3 if worst == 12.0 else 2),
        "a": Rank(1, (), 1),
    }
    assert found.score("rare").lost == pytest.approx(1 / 60)
    assert found.score("rare").median < 0.6


def test_what_is_lost_altogether_has_no_rank() -> None:
    means = {"a": lossy(0), "lost": np.full((1, 60), np.nan)}
    found = Repetitions.of(means, measure="rmse_a")
    assert found.standings(("a", "lost"))["lost"] == Rank(None, (), None)
    lost = found.score("lost")
    assert (lost.rare_losses, lost.lost, lost.median) == (False, 1.0, math.inf)


def test_pooled_means_are_lost_by_the_time_means_beside_them() -> None:
    rms, n = {"a": lossy(2), "b": lossy(0)}, 60
    pooled = {name: values**2 for name, values in rms.items()}
    found = Repetitions.of(pooled, rmse_means=rms, n_bootstrap=50).score("a")
    assert found.lost == pytest.approx(2 / n)
    assert found.median == pytest.approx(np.median(rms["a"]), rel=1e-3)
    unknown = Repetitions.of(pooled, n_bootstrap=50).score("a")
    assert unknown.rare_losses
    assert math.isnan(unknown.lost)
    assert all(map(math.isnan, unknown.lost_ci95))
    # Trainings on the same trajectories do not make more of them.
    thrice = {
        name: np.repeat(values[:, None], 3, axis=1) for name, values in rms.items()
    }
    again = Repetitions.of(thrice, measure="rmse_a", n_bootstrap=50).score("a")
    assert again.lost_ci95 == pytest.approx(found.lost_ci95)
    with pytest.raises(ArgumentValueError, match="rmse_means: expected the methods"):
        Repetitions.of(pooled, rmse_means={"a": rms["a"]})
    with pytest.raises(ArgumentValueError, match=r"rmse_means: expected \(1, 1, 60\)"):
        Repetitions.of(pooled, rmse_means={k: v[:, :9] for k, v in rms.items()})


def test_ranks_are_against_the_best() -> None:
    """A noisy best is tied with two that differ from each other."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(1, 60))
    means = {
        "c": 5.10 + hard + 0.01 * rng.normal(size=hard.shape),
        "b": 5.05 + hard + 0.01 * rng.normal(size=hard.shape),
        "a": 5.00 + np.linspace(-2.0, 2.0, 60)[None],
        "d": 7.00 + hard,
    }
    found = Repetitions.of(means, measure="rmse_a")
    places = found.standings(tuple(means))
    assert found.compare("b", "c").difference_ci95[1] < 0.0
    assert {name: place.rank for name, place in places.items()} == {
        "c": 1,
        "b": 1,
        "a": 1,
        "d": 4,
    }
    assert places["a"].ties == ("c", "b")
    assert places["c"].ties == ("a",)


def test_a_score_is_marked_and_its_divergences_have_an_exact_interval() -> None:
    truth = np.zeros((40, 10, 3))
    analysis = 0.1 * np.random.default_rng(0).standard_normal(truth.shape)
    plain = score(analysis, truth, n_bootstrap=50)
    assert not any(plain.rare_losses.values())
    exact = stats.binomtest(0, 40).proportion_ci(method="exact")
    assert plain.ci95["divergence_rate"] == pytest.approx((exact.low, exact.high))
    analysis[7] += 20.0
    found = score(analysis, truth, n_bootstrap=50)
    assert found.rare_losses.keys() == {
        "rmse_a",
        "rmse_pooled_a",
        "mirror_rmse_a",
        "mirror_rmse_pooled_a",
    }
    assert all(found.rare_losses.values())
    exact = stats.binomtest(1, 40).proportion_ci(method="exact")
    assert found.ci95["divergence_rate"] == pytest.approx((exact.low, exact.high))
