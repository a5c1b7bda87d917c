"""Observations as they come: values that are missing, times that are irregular."""

from __future__ import annotations

import dataclasses
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l63fast as l63
from l63fast.assimilation.backgrounds import Backgrounds, perturbed
from l63fast.assimilation.program_files import write_cycle_inputs
from l63fast.errors import ArgumentTypeError, ArgumentValueError, DataFileError
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.storage import read_dataset
from l63fast.twin import SPLIT_NAMES, ShardSettings, TwinExperiment, TwinSettings
from l63fast.twin.shards import write_shard

SMALL = TwinSettings("xyz", 6, 5, 4, n_steps=300, spin_up_time=2.0)
RANGE = (0.1, 0.4)


def changed(**values: Any) -> TwinSettings:
    free = {"steps_per_cycle": None} if "interval" in values else {}
    return dataclasses.replace(SMALL, **free, **values)


@pytest.fixture(scope="module")
def whole() -> TwinExperiment:
    return TwinExperiment.generate(SMALL)


@pytest.fixture(scope="module")
def holed() -> TwinExperiment:
    return TwinExperiment.generate(changed(missing=0.5))


@pytest.fixture(scope="module")
def ragged() -> TwinExperiment:
    return TwinExperiment.generate(changed(missing=0.3, interval=RANGE))


# Settings


# Of the version before there were gaps.
HASHES = {"train": "168f59b0b1ec", "val": "b2109a880e46", "test": "1c0f057db765"}


def test_data_without_gaps_have_the_hashes_of_earlier_versions(
    whole: TwinExperiment,
) -> None:
    hashes = {name: digest[:12] for name, digest in whole.hashes.items()}
    assert hashes == HASHES
    names = ("missing", "interval", "observation_steps")
    assert not {*names} & {*SMALL.to_dict()}
    for same in ({"missing": 0}, {"observation_steps": range(10, 301, 10)}):
        assert changed(**same) == SMALL


def test_times_are_drawn_once_from_their_range(ragged: TwinExperiment) -> None:
    data = changed(n_steps=60_000, interval=RANGE)
    cycles = data.cycle_steps
    assert (cycles.min(), cycles.max()) == (10, 40)
    assert cycles.mean() == pytest.approx(25.0, abs=4 * 30 / np.sqrt(12 * len(cycles)))
    np.testing.assert_array_equal(np.cumsum(cycles), data.observed_steps)
    assert 0 <= data.n_steps - data.observed_steps[-1] < 40
    assert data.steps_per_cycle == 25  # the mean
    steps = ragged.observation_steps
    np.testing.assert_array_equal(steps, data.observed_steps[: len(steps)])
    for name in SPLIT_NAMES:
        np.testing.assert_array_equal(ragged.split(name).observation_steps, steps)
    other = dataclasses.replace(ragged.settings, seed=1)
    assert not np.array_equal(other.observed_steps[:5], steps[:5])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"missing": 1.0}, "missing: expected a number below 1"),
        ({"missing": -0.1}, "missing: expected at least 0"),
        ({"missing": float("nan")}, "missing: expected a finite number"),
        ({"interval": 0.2}, "interval: expected the shortest and the longest time"),
        ({"interval": (0.1,)}, "interval: expected the shortest and the longest time"),
        ({"interval": (0.4, 0.1)}, "interval: expected two rising times"),
        ({"interval": (0.001, 0.1)}, "interval: expected two rising times from dt"),
        ({"interval": (0.1, 3.5)}, r"interval: .* to n_steps dt = 3"),
        ({"interval": RANGE, "steps_per_cycle": 10}, "steps_per_cycle: expected none"),
        ({"interval": RANGE, "save_every": 2}, "save_every: expected a divisor"),
        ({"observation_steps": (5, 5)}, r"observation_steps: .* got \[5, 5\]"),
        ({"observation_steps": (0, 5)}, r"observation_steps: .* from 1 to"),
        ({"observation_steps": (5, 301)}, r"observation_steps: .* n_steps = 300"),
        ({"observation_steps": (0.5,)}, "observation_steps: expected .n_obs,. integ"),
        ({"observation_steps": ()}, "observation_steps: expected .n_obs,. integers"),
        (
            {"observation_steps": (5, 9), "interval": RANGE},
            "observation_steps: expected none with interval",
        ),
        (
            {"observation_steps": (6, 9), "save_every": 2},
            "save_every: expected a divisor",
        ),
    ],
)
def test_gaps_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=message):
        dataclasses.replace(SMALL, **{"steps_per_cycle": None, **values})


def test_settings_with_gaps_survive_plain_values() -> None:
    for values in ({"missing": 0.5}, {"interval": RANGE}):
        settings = changed(**values)
        assert TwinSettings.from_dict(settings.to_dict()) == settings
    steps = TwinSettings(n_steps=99, observation_steps=(3, 40, 44))
    assert TwinSettings.from_dict(steps.to_dict()) == steps
    assert steps.steps_per_cycle == 15
    assert dataclasses.replace(steps, sigma=2.0).observed_steps.tolist() == [3, 40, 44]


# What is generated


def test_dropped_values_leave_the_others_bit_for_bit(
    whole: TwinExperiment, holed: TwinExperiment
) -> None:
    fewer = TwinExperiment.generate(changed(missing=0.2))
    for name in SPLIT_NAMES:
        full, some = whole.split(name).observations, holed.split(name).observations
        present = ~np.isnan(some)
        np.testing.assert_array_equal(some[present], full[present])
        np.testing.assert_array_equal(whole.split(name).truth, holed.split(name).truth)
        # A value that is missing less often is present wherever it was before.
        assert not np.isnan(fewer.split(name).observations[present]).any()
        assert holed.split(name).n_missing == (~present).sum()
    share = np.isnan(holed.train.observations).mean()
    assert share == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(6 * 30 * 3))
    assert not np.array_equal(*np.isnan(holed.train.observations[:2]))
    # Whether a value is missing does not depend on its error.
    errors = holed.train.observations - holed.train.truth_at_observations
    assert abs(np.nanmean(errors)) < 4 / np.sqrt((1 - share) * errors.size)


def test_the_first_trajectories_do_not_depend_on_how_many_follow(
    ragged: TwinExperiment,
) -> None:
    more = TwinExperiment.generate(dataclasses.replace(ragged.settings, n_train=9))
    np.testing.assert_array_equal(
        more.train.observations[:6], ragged.train.observations
    )


@pytest.mark.parametrize("Q", [0.0, 0.1])
def test_observations_belong_to_the_truth_at_their_steps(Q: float) -> None:
    steps = (1, 2, 40, 77, 300)
    settings = changed(steps_per_cycle=None, observation_steps=steps, sigma=0.0, Q=Q)
    split = TwinExperiment.generate(settings).train
    np.testing.assert_array_equal(split.observations, split.truth[:, list(steps)])
    np.testing.assert_array_equal(split.truth_at_observations, split.observations)
    before = split.truth[:, [0, 1, 2, 40, 77]]
    np.testing.assert_array_equal(split.previous_truth, before)
    # Model error, where there is any, is added at the times of observation only.
    for start, end in pairwise((0, *steps)):
        path = l63.simulate(split.truth[:, start], end - start)
        np.testing.assert_array_equal(path[:, :-1], split.truth[:, start:end])
        assert np.array_equal(path[:, -1], split.truth[:, end]) == (Q == 0.0)


# Files


def test_gaps_survive_a_file(ragged: TwinExperiment, tmp_path: Path) -> None:
    ragged.save(tmp_path / "data")
    found = TwinExperiment.load(tmp_path / "data")
    assert (found.settings, found.hashes) == (ragged.settings, ragged.hashes)
    for name in SPLIT_NAMES:
        a, b = found.split(name), ragged.split(name)
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.observation_steps, b.observation_steps)
    file = read_dataset(tmp_path / "data" / "test.nc")
    counts = file.attrs["n_given"], file.attrs["n_missing"]
    assert counts == (b.observations.size - b.n_missing, b.n_missing)
    assert file.attrs["missing"] == 0.3
    assert list(file.attrs["interval"]) == list(RANGE)
    assert "steps_per_cycle" not in file.attrs
    np.testing.assert_array_equal(file["observation_step"], ragged.observation_steps)
    assert "intervals of 0.1 to 0.4, 30 % missing" in repr(ragged)
    again = pickle.loads(pickle.dumps(ragged.test))
    np.testing.assert_array_equal(again.observations, ragged.test.observations)


def test_a_file_may_not_have_more_gaps_than_its_settings_say(
    whole: TwinExperiment, tmp_path: Path
) -> None:
    split = whole.test
    spoiled = split.observations.copy()
    spoiled[0, 0, 0] = np.nan
    split = dataclasses.replace(split, observations=spoiled)
    openers = {name: lambda: split for name in SPLIT_NAMES}
    bad = TwinExperiment(SMALL, whole.R, whole.origin, whole.hashes, openers)
    bad._splits = {"train": whole.train, "val": whole.val, "test": split}
    bad.save(tmp_path / "bad")
    with pytest.raises(DataFileError, match="observation: expected finite values"):
        TwinExperiment.load(tmp_path / "bad").split("test")


def test_shards_have_the_gaps_of_the_training_split(
    ragged: TwinExperiment, tmp_path: Path
) -> None:
    for shard, rows in ((0, slice(0, 3)), (1, slice(3, 6))):
        write_shard(ShardSettings(ragged.settings, 2), shard, tmp_path / "part.nc")
        file = read_dataset(tmp_path / "part.nc")
        seen = ragged.train.observations[rows]
        np.testing.assert_array_equal(file["observation"], seen)
        np.testing.assert_array_equal(
            file["observation_step"], ragged.observation_steps
        )


# Your own data


ABOUT: dict[str, Any] = {"operator": "xyz", "sigma": 1.0, "dt": 0.01}
SIZES = {"n_train": 6, "n_val": 5, "n_test": 4}


def arrays(twin: TwinExperiment) -> tuple[np.ndarray, np.ndarray]:
    splits = [twin.split(name) for name in SPLIT_NAMES]
    truth = np.concatenate([split.truth for split in splits])
    return truth, np.concatenate([split.observations for split in splits])


def test_own_data_with_gaps_are_as_they_were_given(
    ragged: TwinExperiment, tmp_path: Path
) -> None:
    truth, seen = arrays(ragged)
    about = {**ABOUT, **SIZES, "observation_steps": ragged.observation_steps}
    own = TwinExperiment.from_arrays(truth, seen, **about, missing="nan")
    assert own.settings.missing == np.isnan(seen).mean()
    np.testing.assert_array_equal(own.val.observations, ragged.val.observations)
    np.testing.assert_array_equal(own.observation_steps, ragged.observation_steps)
    own.save(tmp_path / "own")
    found = TwinExperiment.load(tmp_path / "own")
    assert (found.settings, found.test.hash) == (own.settings, own.test.hash)
    # The bits of a NaN are in no hash.
    odd = seen.copy()
    odd[np.isnan(odd)] = np.array(0xFFF8000000000123, "u8").view("f8")
    other = TwinExperiment.from_arrays(truth, odd, **about, missing="nan")
    assert other.hashes == own.hashes


def test_nan_is_accepted_where_it_is_declared_and_infinity_never(
    holed: TwinExperiment,
) -> None:
    truth, seen = arrays(holed)
    about = {**ABOUT, **SIZES, "steps_per_cycle": 10}
    with pytest.raises(ArgumentValueError, match="or missing='nan' for values"):
        TwinExperiment.from_arrays(truth, seen, **about)
    with pytest.raises(ArgumentValueError, match="missing: expected one of nan"):
        TwinExperiment.from_arrays(truth, seen, **about, missing="none")
    seen[0, 0, 0] = np.inf
    with pytest.raises(ArgumentValueError, match=r"got 1 that are not, .* .inf."):
        TwinExperiment.from_arrays(truth, seen, **about, missing="nan")
    with pytest.raises(ArgumentValueError, match="missing: expected a number below 1"):
        TwinExperiment.from_arrays(
            truth, np.full(seen.shape, np.nan), **about, missing="nan"
        )


@pytest.mark.parametrize("full_R", [False, True])
def test_the_alignment_of_what_is_present_is_checked(
    ragged: TwinExperiment, full_R: bool
) -> None:
    truth, seen = arrays(ragged)
    about = {**ABOUT, **SIZES, "observation_steps": ragged.observation_steps}
    about |= {"missing": "nan", "R": np.eye(3) + 0.3 * full_R}
    TwinExperiment.from_arrays(truth, seen, **about)
    partly = np.isnan(seen).any(axis=-1, keepdims=True)
    shifts = np.roll(seen, 1, axis=1), np.roll(seen, 1, axis=0)
    for wrong in (*shifts, seen + 20.0, seen + 20.0 * partly):
        with pytest.raises(ArgumentValueError, match="do not belong to the truth"):
            TwinExperiment.from_arrays(truth, wrong, **about)
    # Errors as small as R says, but of observations one time too late.
    steps = ragged.observation_steps[:-1]
    late = truth[:, ragged.observation_steps[1:]]
    about |= {"observation_steps": steps, "R": 1e4}
    with pytest.raises(ArgumentValueError, match=r"moved by \+1 observations"):
        TwinExperiment.from_arrays(truth, late, **about)


def test_one_run_with_irregular_times_is_cut_into_blocks() -> None:
    truth = l63.simulate(l63.spin_up(1, seed=8)[0], n_steps=3000)
    rng = np.random.default_rng(0)
    steps = np.sort(rng.choice(np.arange(1, 3001), 250, replace=False))
    seen = truth[steps] + rng.normal(size=(250, 3))
    about = {**ABOUT, "n_train": 3, "n_val": 2, "n_test": 2, "gap": 1.0}
    with pytest.raises(ArgumentValueError, match="observations: expected finite"):
        TwinExperiment.from_arrays(
            truth, np.where(seen > 20.0, np.nan, seen), **about, observation_steps=steps
        )
    own = TwinExperiment.from_arrays(truth, seen, **about, observation_steps=steps)
    length = 400  # (3000 - 2 * 100) / 7
    assert own.settings.n_steps == length
    firsts = [k * length + 100 * (k > 2) + 100 * (k > 4) for k in range(7)]
    blocks = np.concatenate([own.split(name).observations for name in SPLIT_NAMES])
    for first, block in zip(firsts, blocks, strict=True):
        there = ~np.isnan(block).all(axis=1)
        inside = (steps > first) & (steps <= first + length)
        np.testing.assert_array_equal(
            own.observation_steps[there], steps[inside] - first
        )
        np.testing.assert_array_equal(block[there], seen[inside])


# Cycles


def test_each_forecast_takes_the_steps_to_the_next_observation() -> None:
    settings = changed(interval=RANGE, operator="x")
    twin = TwinExperiment.generate(settings)
    scheme = l63.ThreeDVar.for_twin(twin, B=np.eye(3))
    result = l63.run_cycles(scheme, twin, burn_in=2)
    state = np.tile(twin.climatology.mean, (4, 1))
    step, analyses = 0, []
    for k, observed in enumerate(twin.observation_steps.tolist()):
        background = l63.forecast(state, observed - step)
        y = np.ascontiguousarray(twin.test.observations[:, k])
        state = l63.three_d_var(background, y, "x", B=np.eye(3), R=twin.R).state
        step = observed
        analyses.append(state)
    np.testing.assert_array_equal(result.analysis, np.stack(analyses, axis=1)[:, 2:])
    times = twin.observation_steps[2:] * settings.dt
    np.testing.assert_array_equal(result.to_xarray()["time"], times)


def test_schemes_of_another_dt_and_backgrounds_go_by_the_same_times() -> None:
    twin = TwinExperiment.generate(
        changed(steps_per_cycle=None, observation_steps=(4, 10, 30, 90, 120))
    )
    scheme = l63.ThreeDVar.for_twin(twin, B=np.eye(3), dt=0.02)
    result = l63.run_cycles(scheme, twin, imperfect_model=True)
    first = l63.forecast(np.tile(twin.climatology.mean, (4, 1)), 2, dt=0.02)
    np.testing.assert_array_equal(result.background[:, 0], first)
    scheme = l63.ThreeDVar.for_twin(twin, B=np.eye(3), dt=0.04)
    with pytest.raises(ArgumentValueError, match=r"divides the interval .* 0\.06"):
        l63.run_cycles(scheme, twin, imperfect_model=True)
    backgrounds = Backgrounds.fit(twin, "forecast")
    drawn, P = backgrounds.draw(twin, "val"), backgrounds.start_covariance
    start = perturbed(twin.val.previous_truth, P, seed=0, split_name="val")
    for k, n_steps in enumerate((4, 6, 20, 60, 30)):
        np.testing.assert_array_equal(drawn[:, k], l63.forecast(start[:, k], n_steps))


def test_functions_without_flags_and_programs_refuse_gaps(
    holed: TwinExperiment, ragged: TwinExperiment, tmp_path: Path
) -> None:
    for twin, gaps in ((holed, "50 % missing"), (ragged, "intervals of 0.1 to 0.4")):
        refused = rf"twin: .* an encoder without flags .* got data with {gaps}"
        function = EncoderFunction.for_twin(twin, lambda x, y, h: (x, h))
        scheme = NeuralAnalysis.for_twin(twin, encoder=function)
        with pytest.raises(ArgumentValueError, match=refused):
            l63.run_cycles(scheme, twin)
        scheme = l63.ThreeDVar.for_twin(twin, B=np.eye(3))
        with pytest.raises(ArgumentValueError, match=r"for the C\+\+ programs"):
            write_cycle_inputs(tmp_path / "inputs.nc", scheme, twin, "test")
