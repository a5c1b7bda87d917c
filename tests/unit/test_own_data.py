"""Data from elsewhere: one long run cut by time, splits as they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from l63fast.errors import ArgumentTypeError, ArgumentValueError, ModelWarning
from l63fast.lorenz63 import simulate, spin_up
from l63fast.twin import TwinExperiment

RUN = simulate(spin_up(1, seed=4)[0], 6000)  # (6001, 3), 60 time units
SEEN = RUN[10::10, :2] + np.random.default_rng(4).normal(scale=0.5, size=(600, 2))
ABOUT = {"operator": "xy", "sigma": 0.5, "dt": 0.01, "steps_per_cycle": 10}
BLOCKS = {"n_train": 4, "n_val": 2, "n_test": 3}


def cut(**changes):
    given = {"truth": RUN, "observations": SEEN, **ABOUT, **BLOCKS, **changes}
    return TwinExperiment.from_arrays(**given)


@pytest.mark.parametrize("save_every", [1, 5])
def test_a_long_run_is_cut_into_blocks_of_time_with_gaps(save_every):
    twin = cut(truth=RUN[::save_every], save_every=save_every)
    length = 44  # cycles: (600 - 2 * 100) // 9
    first = [0, 44, 88, 132, 276, 320, 464, 508, 552]  # and 100 more at each gap
    blocks = [block for name in ("train", "val", "test")
              for block in twin.split(name).truth]  # fmt: skip
    assert len(blocks) == len(first)
    for block, k in zip(blocks, first, strict=True):
        whole = RUN[10 * k : 10 * (k + length) + 1 : save_every]
        assert np.array_equal(block, whole)
    assert np.array_equal(twin.test.observations[1], SEEN[508:552])
    assert twin.settings.n_steps == 10 * length


@pytest.mark.parametrize(("gap", "cycles"), [(0.0, 0), (0.3, 3), (0.31, 4), (10, 100)])
def test_no_state_within_the_gap_of_another_split_is_used(gap, cycles):
    twin = cut(gap=gap)
    times = {tuple(state): i for i, state in enumerate(RUN)}
    ends = {
        name: (times[tuple(truth[0, 0])], times[tuple(truth[-1, -1])])
        for name, truth in ((n, twin.split(n).truth) for n in ("train", "val", "test"))
    }
    assert ends["val"][0] - ends["train"][1] == 10 * cycles
    assert ends["test"][0] - ends["val"][1] == 10 * cycles


@pytest.mark.parametrize(
    ("states", "changes"),
    [
        (RUN, {"dt": 0.02}),
        (RUN[::2].repeat(2, axis=0)[:6001], {}),  # every second state, twice
        (np.random.default_rng(0).permutation(RUN), {}),
    ],
)
def test_a_truth_that_does_not_follow_the_model_is_warned_of(states, changes):
    observations = states[10::10, :2] + SEEN - RUN[10::10, :2]
    with pytest.warns(ModelWarning, match="truth: trajectory . .* follow the model"):
        cut(truth=states, observations=observations, **changes)
    cut(truth=states, observations=observations, check=False, **changes)


def test_a_run_may_be_a_data_array_and_lists():
    truth = xr.DataArray(RUN.T, dims=("component", "time"))
    assert dict(cut(truth=truth).hashes) == dict(cut().hashes)
    assert dict(cut(observations=SEEN.tolist()).hashes) == dict(cut().hashes)


def test_a_twin_comes_back_from_its_own_datasets():
    twin = cut()
    parts = {name: twin.split(name).to_xarray() for name in ("train", "val", "test")}
    again = TwinExperiment.from_arrays(
        {name: data.truth.transpose("time", ...) for name, data in parts.items()},
        {name: data.observation for name, data in parts.items()},
        **ABOUT,
    )
    assert dict(again.hashes) == dict(twin.hashes)


def test_splits_may_be_given_a_single_trajectory_among_them():
    truth = {"train": RUN[:2001].reshape(1, 2001, 3), "val": RUN[2000:4001],
             "test": RUN[4000:]}  # fmt: skip
    seen = {"train": SEEN[None, :200], "val": SEEN[200:400], "test": SEEN[400:]}
    twin = TwinExperiment.from_arrays(truth, seen, **ABOUT)
    assert twin.settings.n_val == 1
    assert np.array_equal(twin.val.truth[0], RUN[2000:4001])
    assert np.array_equal(twin.test.observations[0], SEEN[400:])


def test_observations_of_another_time_are_refused_in_a_run_too():
    with pytest.raises(ArgumentValueError, match="do not belong to the truth"):
        cut(observations=np.roll(SEEN, 1, axis=0))


@pytest.mark.parametrize("R", [0.25, [[0.3, 0.1], [0.1, 0.2]]])
def test_the_covariance_of_the_errors_says_their_deviation_too(R):
    twin = cut(sigma=None, R=R)
    assert twin.settings.sigma == pytest.approx(0.5)
    np.testing.assert_array_equal(twin.R, R * np.eye(2) if R == 0.25 else R)


GIVEN = {"truth": {"train": RUN[:101], "val": RUN[:101], "test": RUN[:101]},
         "observations": {"train": SEEN[:10], "val": SEEN[:10], "test": SEEN[:10]},
         "n_train": None, "n_val": None, "n_test": None}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"gap": 29.8}, ArgumentValueError,
         "truth: expected a run of at least 605 cycles, for 4 \\+ 2 \\+ 3 blocks and "
         "two gaps of 29.8 time units, got 600"),
        ({"gap": 1.8, "truth": RUN[:401], "observations": SEEN[:3], "steps_per_cycle":
          None, "observation_steps": [50, 57, 300], "n_train": 40}, ArgumentValueError,
         "at least 405 saved states after the first, for 40 \\+ 2 \\+ 3 blocks and two "
         "gaps of 1.8 time units, got 400"),
        ({"sigma": None}, ArgumentTypeError,
         "sigma: expected a number, or a covariance R, got none"),
        ({"sigma": None, "R": np.eye(3)}, ArgumentValueError, r"R: expected \(2, 2\)"),
        ({"gap": -1.0}, ArgumentValueError, "gap: expected at least 0, got -1.0"),
        ({"n_val": None}, ArgumentTypeError,
         "^n_val: expected the number of trajectories of each split"),
        (dict.fromkeys(BLOCKS), ArgumentTypeError,
         r"^n_train, n_val, n_test: .* \(of a single run: of blocks .* got none"),
        ({"steps_per_cycle": None}, ArgumentTypeError,
         "^steps_per_cycle: expected the steps of dt .* or observation_steps"),
        ({"observations": SEEN[1:]}, ArgumentValueError,
         r"observations: expected \(600, n\), got \(599, 2\)"),
        ({"truth": RUN[:505].reshape(5, 101, 3), "observations":
          SEEN[:50].reshape(5, 10, 2).swapaxes(0, 1)}, ArgumentValueError,
         r"observations: expected \(5, 10, 2\) for truth \(5, 101, 3\), both with "
         r"trajectories first, got \(10, 5, 2\)"),
        ({"truth": pd.DataFrame(RUN, columns=["z", "y", "x"])}, ArgumentTypeError,
         "^truth: expected an array, got a DataFrame"),
        ({"observations": pd.DataFrame(SEEN)}, ArgumentTypeError,
         "^observations: expected an array, got a DataFrame"),
        ({**GIVEN, "observations": {**GIVEN["observations"], "test":
          pd.DataFrame(SEEN[:10])}}, ArgumentTypeError, "got a DataFrame"),
        ({"truth": RUN[:, :2]}, ArgumentValueError, r"truth: expected \(n, 3\)"),
        ({"truth": RUN[::3], "save_every": 3}, ArgumentValueError,
         "save_every: expected a divisor of"),
        ({**GIVEN, "n_val": 3}, ArgumentValueError,
         "n_val: expected no number, as the splits are given, got 3"),
        ({**GIVEN, "observations": SEEN}, ArgumentTypeError,
         "observations: expected a mapping with the keys train, val, test .* ndarray"),
        ({**GIVEN, "truth": {"train": RUN}}, ArgumentTypeError,
         r"truth: expected a mapping with the keys .*, got \['train'\]"),
        ({**GIVEN, "truth": {**GIVEN["truth"], "val": RUN}}, ArgumentValueError,
         r"truth\['val'\]: expected \(1, 101, 3\), got \(1, 6001, 3\)"),
        ({**GIVEN, "observations": {**GIVEN["observations"], "test": SEEN}},
         ArgumentValueError, r"observations\['test'\]: expected \(1, 10, 2\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_or_put_together_is_refused(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        cut(**changes)
