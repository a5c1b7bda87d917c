"""Scores over seeds and trajectories: what the intervals cover, what ranks say."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.errors import ArgumentValueError
from l63fast.verification import Rank, Repetitions, compare


def drawn(
    rng: np.random.Generator, n_seeds: int, *means: float, seed_spread: float = 0.3
) -> dict[str, np.ndarray]:
    """Return methods whose seeds differ, on trajectories that are hard for all."""
    hard = rng.normal(size=(n_seeds, 40))
    return {
        f"m{i}": mean + seed_spread * rng.normal(size=(n_seeds, 1)) + hard
        for i, mean in enumerate(means)
    }


def test_one_seed_is_the_bootstrap_over_trajectories() -> None:
    means = drawn(np.random.default_rng(0), 1, 5.0, 6.0)
    together = Repetitions.of(means, measure="rmse_a", n_bootstrap=200, seed=3)
    plain = compare(means["m0"][0], means["m1"][0], measure="rmse_a", n_bootstrap=200,
                    seed=3)  # fmt: skip
    assert together.compare("m0", "m1") == plain


def test_a_pooled_error_is_the_root_of_the_mean_over_seeds_and_trajectories() -> None:
    square = np.array([[1.0, 4.0], [9.0, 2.0]])
    together = Repetitions.of({"a": square}, measure="rmse_pooled_a", n_bootstrap=10)
    assert together.score("a").value == 2.0


def test_the_interval_covers_what_another_set_of_seeds_would_give() -> None:
    n_seeds = 6
    rng, inside, n = np.random.default_rng(1), 0, 100
    widths = []
    for _ in range(n):
        means = drawn(rng, n_seeds, 5.0, 5.0)
        found = Repetitions.of(means, measure="rmse_a", n_bootstrap=100)
        low, high = found.compare("m0", "m1").difference_ci95
        inside += low <= 0.0 <= high
        widths.append(high - low)
    # Over trajectories alone the interval would be a tenth as wide, and cover little.
    expected = 2 * 1.96 * 0.3 * (2.0 / n_seeds) ** 0.5
    assert np.mean(widths) == pytest.approx(expected, rel=0.15)
    assert inside / n > 0.85


def test_ranks_say_what_cannot_be_told() -> None:
    rng = np.random.default_rng(2)
    hard = rng.normal(size=(5, 40))
    means = {
        "good": 5.0 + hard,
        "as good": 5.0 + hard + 0.01 * rng.normal(size=hard.shape),
        "bad": 6.0 + hard + 0.01 * rng.normal(size=hard.shape),
    }
    found = Repetitions.of(means, measure="rmse_a").standings(tuple(means))
    assert {name: s.rank for name, s in found.items()} == {
        "good": 1,
        "as good": 1,
        "bad": 3,
    }
    assert found["good"].ties == ("as good",)
    assert found["bad"].ties == ()
    # What is hard for both cancels: a tenth of the spread is told apart.
    means["nearly"] = 5.1 + hard + 0.01 * rng.normal(size=hard.shape)
    assert Repetitions.of(means, measure="rmse_a").standings(("good", "nearly"))[
        "nearly"
    ] == Rank(2, (), 2)
    few = Repetitions.of(means, measure="rmse_a").standings(("bad", "good"))
    assert few["bad"].rank == 2


def test_methods_of_other_shapes_are_refused() -> None:
    with pytest.raises(ArgumentValueError, match="at least one method"):
        Repetitions.of({})
    with pytest.raises(ArgumentValueError, match=r"means\['b'\]: expected \(2, 3\)"):
        Repetitions.of({"a": np.ones((2, 3)), "b": np.ones((2, 4))})


def test_trainings_on_one_set_of_data_share_its_trajectories() -> None:
    n_trainings, n = 4, 50
    rng = np.random.default_rng(3)
    widths: dict[str, list[float]] = {"score": [], "ratio": []}
    for _ in range(60):
        hard = 5.0 + rng.normal(size=n)
        theirs = hard + 0.2 * rng.normal(size=(n_trainings, 1))
        means = {"trained": theirs[None], "filter": hard[None, None]}
        found = Repetitions.of(means, measure="rmse_a", n_bootstrap=200)
        low, high = found.score("trained").ci95
        widths["score"].append(high - low)
        low, high = found.compare("trained", "filter").difference_ci95
        widths["ratio"].append(high - low)
    assert (found.n_data, found.n_trainings) == (1, n_trainings)
    # What is hard for all cancels in a difference; what trainings differ in does not.
    # The spread of few trainings varies a lot, and of four the mean of it is low.
    trainings, trajectories = 0.2**2 / n_trainings, 1.0 / n
    expected = 2 * 1.96 * (trainings + trajectories) ** 0.5
    assert np.mean(widths["score"]) == pytest.approx(expected, rel=0.1)
    expected = 2 * 1.96 * trainings**0.5
    assert np.mean(widths["ratio"]) == pytest.approx(expected, rel=0.2)


def test_a_single_training_of_three_dimensions_is_the_bootstrap_as_before() -> None:
    means = drawn(np.random.default_rng(4), 3, 5.0, 6.0)
    plain = Repetitions.of(means, measure="rmse_a", n_bootstrap=50)
    deep = {name: values[:, None] for name, values in means.items()}
    same = Repetitions.of(deep, measure="rmse_a", n_bootstrap=50)
    np.testing.assert_array_equal(same.resampled, plain.resampled)
    with pytest.raises(ArgumentValueError, match=r"means\['b'\]: expected \(1, 2, 3\)"):
        Repetitions.of({"a": np.ones((1, 2, 3)), "b": np.ones((1, 3, 3))})
