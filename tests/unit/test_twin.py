"""Twin experiments: settings, keyed data, splits that share nothing, own data."""

from __future__ import annotations

import dataclasses
import hashlib

import netCDF4
import numpy as np
import pytest

from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DataFileError,
    MemoryLimitError,
)
from l63fast.lorenz63 import Lorenz63, climatology, simulate
from l63fast.observation import ObservationOperator
from l63fast.twin import SPLIT_NAMES, TwinExperiment, TwinSettings

SMALL = TwinSettings(n_train=12, n_val=7, n_test=5, n_steps=200, spin_up_time=2.0)


def changed(**values) -> TwinSettings:
    return dataclasses.replace(SMALL, **values)


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(SMALL)


def own_data(twin: TwinExperiment) -> tuple[np.ndarray, np.ndarray, dict]:
    splits = [twin.split(name) for name in SPLIT_NAMES]
    truth = np.concatenate([split.truth for split in splits])
    observations = np.concatenate([split.observations for split in splits])
    settings = twin.settings
    options = {
        name: getattr(settings, name)
        for name in ("operator", "sigma", "dt", "steps_per_cycle", "save_every")
    }
    sizes = {f"n_{name}": settings.n_trajectories(name) for name in SPLIT_NAMES}
    return truth, observations, {**options, **sizes}


# Settings


def test_defaults_are_those_of_the_commands():
    settings = TwinSettings()
    sizes = [settings.n_trajectories(name) for name in SPLIT_NAMES]
    assert sizes == [1000, 500, 500]
    assert (settings.n_saved, settings.n_obs) == (1001, 100)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"operator": "w"}, ArgumentValueError, "operator"),
        ({"operator": 3}, ArgumentTypeError, "operator"),
        ({"n_train": 0}, ArgumentValueError, "n_train: expected at least 1, got 0"),
        ({"n_val": -1}, ArgumentValueError, "n_val"),
        ({"n_test": 1.5}, ArgumentTypeError, "n_test"),
        ({"n_steps": 0}, ArgumentValueError, "n_steps"),
        ({"n_steps": True}, ArgumentTypeError, "n_steps"),
        ({"dt": 0.0}, ArgumentValueError, "dt"),
        ({"dt": 0.2}, ArgumentValueError, "dt"),
        ({"dt": "0.01"}, ArgumentTypeError, "dt"),
        ({"steps_per_cycle": 201}, ArgumentValueError, "steps_per_cycle: expected at"),
        ({"steps_per_cycle": 0}, ArgumentValueError, "steps_per_cycle"),
        ({"sigma": -1.0}, ArgumentValueError, "sigma"),
        ({"sigma": float("nan")}, ArgumentValueError, "sigma"),
        ({"save_every": 3}, ArgumentValueError, "save_every: expected a divisor of"),
        (
            {"save_every": 10, "n_steps": 205},
            ArgumentValueError,
            "save_every: expected a divisor of n_steps = 205",
        ),
        ({"spin_up_time": -1.0}, ArgumentValueError, "spin_up_time"),
        ({"seed": -1}, ArgumentValueError, "seed"),
        ({"seed": 0.5}, ArgumentTypeError, "seed"),
        ({"seed": "0"}, ArgumentTypeError, "seed"),
        ({"parameters": (10, 28, 3)}, ArgumentTypeError, "parameters"),
        ({"Q": -0.1}, ArgumentValueError, "Q: expected at least 0"),
        ({"Q": "0.1"}, ArgumentTypeError, "Q: expected a real number"),
        ({"Q": np.eye(2)}, ArgumentValueError, r"Q: expected \(3, 3\), got \(2, 2\)"),
        ({"Q": -np.eye(3)}, ArgumentValueError, "Q: expected a positive semidefinite"),
        ({"R": np.eye(3)}, ArgumentValueError, r"R: expected \(2, 2\), got \(3, 3\)"),
        ({"R": -np.eye(2)}, ArgumentValueError, "R: expected a positive definite"),
        (
            {"R": 4.0 * np.eye(2)},
            ArgumentValueError,
            "sigma: expected 2, the root of the mean variance of R, got 1",
        ),
    ],
)
@pytest.mark.promise("I05", "a table of settings")
def test_bad_settings_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        changed(**values)


def test_settings_survive_plain_values():
    settings = changed(parameters=Lorenz63(rho=30.0), sigma=0, seed=np.int64(3))
    assert TwinSettings.from_dict(settings.to_dict()) == settings
    for spoiled in ({"n_trian": 3}, {"seed": None}):
        with pytest.raises((ArgumentValueError, ArgumentTypeError)):
            TwinSettings.from_dict({**settings.to_dict(), **spoiled})
    with pytest.raises(ArgumentTypeError, match="parameters"):
        TwinSettings.from_dict({**settings.to_dict(), "parameters": {"eta": 1.0}})


@pytest.mark.parametrize("n_train", [10**12, 2**61])
@pytest.mark.promise("B6", "no file is made")
def test_more_than_memory_is_refused_before_work(n_train):
    with pytest.raises(MemoryLimitError, match="n_train"):
        TwinExperiment.generate(changed(n_train=n_train))


# What is generated


def test_shapes_and_positions(twin):
    for name, n in zip(SPLIT_NAMES, (12, 7, 5), strict=True):
        split = twin.split(name)
        assert split.name == name
        assert split.truth.shape == (n, 201, 3)
        assert split.observations.shape == (n, 20, 2)
        assert split.observation_steps.tolist() == list(range(10, 201, 10))
        assert split.n_trajectories == n
        np.testing.assert_array_equal(split.initial_state, split.truth[:, 0])
        at = split.truth_at_observations
        np.testing.assert_array_equal(at[:, 0], split.truth[:, 10])
        np.testing.assert_array_equal(at[:, -1], split.truth[:, 200])
        previous = split.previous_truth
        np.testing.assert_array_equal(previous[:, 0], split.truth[:, 0])
        np.testing.assert_array_equal(previous[:, 1:], at[:, :-1])


def test_the_truth_is_a_trajectory_of_the_model(twin):
    again = simulate(twin.val.initial_state, 200)
    np.testing.assert_array_equal(again, twin.val.truth)


@pytest.mark.parametrize("operator", ["xy", "x2", "xyz"])
def test_observations_are_h_of_the_truth_with_errors_of_sigma(operator):
    settings = changed(n_train=300, operator=operator, sigma=0.7)
    twin = TwinExperiment.generate(settings)
    split = twin.train
    h = ObservationOperator(operator)
    errors = split.observations - h(split.truth_at_observations)
    assert abs(errors.mean()) < 4 * 0.7 / np.sqrt(errors.size)
    assert errors.std() == pytest.approx(0.7, rel=4 / np.sqrt(2 * errors.size))
    np.testing.assert_array_equal(twin.R, 0.7**2 * np.eye(h.obs_dim))


def test_perfect_observations():
    twin = TwinExperiment.generate(changed(sigma=0.0, operator="x4"))
    h = ObservationOperator("x4")
    for name in SPLIT_NAMES:
        split = twin.split(name)
        np.testing.assert_array_equal(
            split.observations, h(split.truth_at_observations)
        )


def test_saving_fewer_states_changes_no_observation(twin):
    coarse = TwinExperiment.generate(changed(save_every=5))
    np.testing.assert_array_equal(coarse.train.truth, twin.train.truth[:, ::5])
    np.testing.assert_array_equal(coarse.train.observations, twin.train.observations)
    np.testing.assert_array_equal(
        coarse.train.previous_truth, twin.train.previous_truth
    )


def test_a_tail_after_the_last_observation_is_kept():
    twin = TwinExperiment.generate(changed(n_steps=205))
    assert twin.train.truth.shape[1] == 206
    assert twin.train.observation_steps[-1] == 200


def test_arrays_are_read_only(twin):
    for array in (twin.train.truth, twin.train.observations, twin.R):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0.0


@pytest.mark.promise("N6", "equal bytes")
def test_the_first_trajectories_do_not_depend_on_how_many_follow(twin):
    larger = TwinExperiment.generate(changed(n_train=30, n_val=1, n_test=40))
    for name in SPLIT_NAMES:
        a, b = twin.split(name), larger.split(name)
        n = min(a.n_trajectories, b.n_trajectories)
        np.testing.assert_array_equal(a.truth[:n], b.truth[:n])
        np.testing.assert_array_equal(a.observations[:n], b.observations[:n])


@pytest.mark.promise("N6", "equal bytes")
def test_generation_does_not_depend_on_threads(twin):
    again = TwinExperiment.generate(SMALL, n_threads=1)
    assert again.hashes == twin.hashes


@pytest.mark.promise("L1", "0 shared states and draws")
def test_splits_share_no_state_and_no_noise(twin):
    rows, noises = [], []
    for name in SPLIT_NAMES:
        split = twin.split(name)
        rows += [row.tobytes() for row in split.truth.reshape(-1, 3)]
        errors = split.observations - split.truth_at_observations[..., :2]
        noises += errors.ravel().round(9).tolist()
    assert len(set(rows)) == len(rows)
    assert len(set(noises)) == len(noises)


def test_another_seed_gives_other_data(twin):
    other = TwinExperiment.generate(changed(seed=1))
    assert not np.isin(other.train.truth[:, 0, 0], twin.train.truth[:, 0, 0]).any()
    assert other.hashes["train"] != twin.hashes["train"]


@pytest.mark.promise("L2", "recomputed equal")
def test_the_climatology_is_that_of_the_training_split(twin):
    wanted = climatology(twin.train.truth)
    np.testing.assert_array_equal(twin.climatology.mean, wanted.mean)
    np.testing.assert_array_equal(twin.climatology.covariance, wanted.covariance)
    C = twin.climatology.covariance
    assert C[0, 2] == C[1, 2] == twin.climatology.mean[0] == 0.0


# Model error

CORRELATED = ((0.5, 0.2, 0.0), (0.2, 0.3, 0.0), (0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("Q", "matrix"),
    [(0.0, np.zeros((3, 3))), (0.2, 0.2 * np.eye(3)), (CORRELATED, CORRELATED)],
)
def test_model_error_is_a_variance_or_a_covariance(Q, matrix):
    settings = changed(Q=Q)
    np.testing.assert_array_equal(settings.model_error_covariance, matrix)
    assert TwinSettings.from_dict(settings.to_dict()) == settings
    assert (
        changed(Q=np.array(matrix)).model_error_covariance.tolist()
        == np.array(matrix).tolist()
    )


def test_a_model_error_of_zero_changes_no_bit_and_no_hash(twin):
    """The hashes are those that the settings without a Q had, by the recipe below."""
    for none in (0, 0.0, np.zeros((3, 3))):
        same = TwinExperiment.generate(changed(Q=none))
        assert same.hashes == twin.hashes
        assert same.settings == twin.settings
    assert "Q" not in twin.settings.to_dict()


@pytest.mark.parametrize("Q", [0.2, CORRELATED])
@pytest.mark.parametrize("save_every", [1, 5])
def test_the_truth_takes_up_errors_of_covariance_q_after_each_cycle(Q, save_every):
    settings = changed(Q=Q, n_train=300, n_steps=205, save_every=save_every)
    twin = TwinExperiment.generate(settings)
    split, matrix = twin.train, twin.Q
    reached = simulate(split.previous_truth, 10)[:, :, -1]
    errors = (split.truth_at_observations - reached).reshape(-1, 3)
    assert np.abs(errors.mean(axis=0)).max() < 4 * np.sqrt(0.5 / len(errors))
    found = errors.T @ errors / len(errors)
    assert np.abs(found - matrix).max() < 4 * 0.5 * np.sqrt(2 / len(errors))
    normal = simulate(split.truth[:, 100 // save_every], 10, save_every=save_every)
    inside = split.truth[:, 100 // save_every : 110 // save_every]
    np.testing.assert_array_equal(inside, normal[:, :-1])
    tail = simulate(split.truth[:, 200 // save_every], 5)[:, -1]
    np.testing.assert_array_equal(split.truth[:, -1], tail)


def test_model_errors_are_a_stream_of_their_own(twin):
    """Observation errors stay; the first trajectories do not depend on the others."""
    noisy = TwinExperiment.generate(changed(Q=0.1))
    for name in SPLIT_NAMES:
        a, b = twin.split(name), noisy.split(name)
        np.testing.assert_array_equal(a.initial_state, b.initial_state)
        errors = [s.observations - s.truth_at_observations[..., :2] for s in (a, b)]
        np.testing.assert_allclose(*errors, rtol=0, atol=1e-12)
    larger = TwinExperiment.generate(changed(Q=0.1, n_train=30, n_test=40))
    np.testing.assert_array_equal(larger.train.truth[:12], noisy.train.truth)
    np.testing.assert_array_equal(larger.test.truth[:5], noisy.test.truth)
    assert noisy.hashes["train"] != twin.hashes["train"]


def test_model_errors_and_observation_errors_know_nothing_of_each_other():
    split = TwinExperiment.generate(changed(Q=0.1, operator="xyz", n_train=300)).train
    reached = simulate(split.previous_truth, 10)[:, :, -1]
    model = (split.truth_at_observations - reached).reshape(-1, 3)
    seen = (split.observations - split.truth_at_observations).reshape(-1, 3)
    correlation = np.corrcoef(model.T, seen.T)[:3, 3:]
    assert np.abs(correlation).max() < 4 / np.sqrt(len(seen))


# Hashes


def test_hashes_say_what_the_data_are(twin):
    assert set(twin.hashes) == set(SPLIT_NAMES)
    assert len(set(twin.hashes.values())) == 3
    assert TwinExperiment.generate(SMALL).hashes == twin.hashes
    with pytest.raises(TypeError):
        twin.hashes["train"] = "x"  # type: ignore[index]


def test_the_training_hash_does_not_know_the_test_set(twin):
    other = TwinExperiment.generate(changed(n_test=9))
    assert other.hashes["train"] == twin.hashes["train"]
    assert other.hashes["val"] == twin.hashes["val"]
    assert other.hashes["test"] != twin.hashes["test"]


@pytest.mark.parametrize("what", ["truth", "observations"])
def test_one_unit_in_the_last_place_changes_the_hash(twin, what):
    truth, observations, options = own_data(twin)
    before = TwinExperiment.from_arrays(truth, observations, **options)
    array = {"truth": truth, "observations": observations}[what]
    array[3, 5, 1] = np.nextafter(array[3, 5, 1], np.inf)
    after = TwinExperiment.from_arrays(truth, observations, **options)
    assert after.hashes["train"] != before.hashes["train"]
    assert after.hashes["test"] == before.hashes["test"]


def test_the_hash_is_documented_by_its_recipe(twin):
    """Written out once more, so that a change of the recipe is seen."""
    head = (
        '{"R": [[1.0, 0.0], [0.0, 1.0]], "schema": 1, "settings": {"dt": 0.01, '
        '"n_steps": 200, "operator": "xy", "parameters": {"beta": 2.6666666666666665, '
        '"rho": 28.0, "sigma": 10.0}, "save_every": 1, "seed": 0, "sigma": 1.0, '
        '"spin_up_time": 2.0, "steps_per_cycle": 10}, '
        '"shapes": [[5, 201, 3], [5, 20, 2]], "split": "test"}'
    )
    split = twin.test
    content = head.encode() + split.truth.tobytes() + split.observations.tobytes()
    assert split.hash == hashlib.sha256(content).hexdigest()


# Own data


def test_own_data_are_cut_in_order(twin):
    truth, observations, options = own_data(twin)
    own = TwinExperiment.from_arrays(truth, observations, **options)
    for name in SPLIT_NAMES:
        np.testing.assert_array_equal(own.split(name).truth, twin.split(name).truth)
    assert own.origin == "from arrays"
    before = own.train.truth[0, 0, 0]
    truth[0, 0, 0] += 1.0  # the caller's array stays the caller's
    assert own.train.truth[0, 0, 0] == before


def test_own_data_with_a_covariance_and_another_sigma(twin):
    truth, observations, options = own_data(twin)
    R = np.array([[1.1, 0.2], [0.2, 0.9]])
    own = TwinExperiment.from_arrays(truth, observations, R=R, **options)
    np.testing.assert_array_equal(own.R, R)
    wide = {**options, "sigma": 1.3}
    TwinExperiment.from_arrays(truth, observations, **wide)
    with pytest.raises(ArgumentValueError, match="R: expected a symmetric matrix"):
        TwinExperiment.from_arrays(truth, observations, R=R + np.eye(2, k=1), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_test": 6}, "expected the 24 trajectories of truth, got 12 . 7 . 6 = 25"),
        ({"steps_per_cycle": 20}, r"observations: expected \(24, 10, 2\)"),
        ({"operator": "xyz"}, r"observations: expected \(24, 20, 3\)"),
        ({"sigma": 0.4}, "standard deviation that R says"),
        ({"operator": "xz"}, "do not belong to the truth"),
    ],
)
def test_own_data_that_do_not_fit_are_refused(twin, change, message):
    truth, observations, options = own_data(twin)
    with pytest.raises(ArgumentValueError, match=message):
        TwinExperiment.from_arrays(truth, observations, **{**options, **change})


def _tilted(h: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Observe x and y with an instrument that is turned by a degree."""
    c, s = np.cos(np.pi / 180), np.sin(np.pi / 180)
    return h @ np.array([[c, s], [-s, c]]) + rng.normal(scale=0.05, size=h.shape)


def _heavy_tailed(h: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return h + rng.standard_t(2.5, size=h.shape)


def _with_outliers(h: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    outlier = rng.random(h.shape) < 0.05
    return h + np.where(outlier, 10.0, 1.0) * rng.normal(size=h.shape)


def _biased(h: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return h + 2.0 + rng.normal(size=h.shape)


@pytest.mark.parametrize(
    ("observe", "sigma"),
    [(_tilted, 0.05), (_heavy_tailed, 1.0), (_with_outliers, 1.0), (_biased, 1.0)],
)
def test_observations_with_errors_of_another_kind_have_two_ways_in(
    twin, observe, sigma, tmp_path
):
    truth, _, options = own_data(twin)
    options = {**options, "sigma": sigma}
    h = truth[:, 10::10, :2]
    observations = observe(h, np.random.default_rng(1))
    ways = "truth .*; if they do, give their true R, or check=False"
    with pytest.raises(ArgumentValueError, match=ways):
        TwinExperiment.from_arrays(truth, observations, **options)
    d = (observations - h).reshape(-1, 2)
    R = d.T @ d / len(d)
    told = TwinExperiment.from_arrays(truth, observations, R=R, **options)
    np.testing.assert_array_equal(told.R, R)
    unchecked = TwinExperiment.from_arrays(truth, observations, check=False, **options)
    np.testing.assert_array_equal(unchecked.R, sigma**2 * np.eye(2))
    for own, origin in (
        (told, "from arrays"),
        (unchecked, "from arrays, whose alignment was not checked"),
    ):
        own.save(tmp_path / "own")
        loaded = TwinExperiment.load(tmp_path / "own")
        assert own.origin == loaded.origin == origin
        np.testing.assert_array_equal(loaded.R, own.R)
        np.testing.assert_array_equal(loaded.test.observations, own.test.observations)
        with netCDF4.Dataset(tmp_path / "own" / "train.nc") as file:
            assert file.origin == origin


def test_a_shift_by_a_trajectory_is_refused_unless_asked_for(twin):
    truth, observations, options = own_data(twin)
    shifted = np.roll(observations, 1, axis=0)
    wide = {**options, "sigma": 50.0}  # no innovation is too large for that
    for how in (options, wide):
        with pytest.raises(ArgumentValueError, match="do not belong to the truth"):
            TwinExperiment.from_arrays(truth, shifted, **how)
    with pytest.raises(ArgumentTypeError, match="check: expected True or False"):
        TwinExperiment.from_arrays(truth, shifted, check=None, **options)
    own = TwinExperiment.from_arrays(truth, shifted, check=False, **options)
    assert own.origin.endswith("not checked")
    missing = np.where(np.arange(20)[:, None] == 3, np.nan, observations)
    with pytest.raises(ArgumentValueError, match="observations: expected finite"):
        TwinExperiment.from_arrays(truth, missing, check=False, **options)


@pytest.mark.parametrize("what", ["truth", "observations"])
def test_missing_values_are_refused(twin, what):
    truth, observations, options = own_data(twin)
    {"truth": truth, "observations": observations}[what][3, 2, 1] = np.nan
    with pytest.raises(
        ArgumentValueError, match=rf"{what}: expected finite.*\(3, 2, 1"
    ):
        TwinExperiment.from_arrays(truth, observations, **options)


def test_unknown_splits_and_settings_are_refused(twin):
    with pytest.raises(ArgumentValueError, match="train, val, test"):
        twin.split("all")
    with pytest.raises(ArgumentTypeError, match="settings: expected TwinSettings"):
        TwinExperiment.generate({"n_train": 3})  # type: ignore[arg-type]
    with pytest.raises(DataFileError, match="does not exist"):
        TwinExperiment.load("no/such/data")


# Correlated observation errors

R_FULL = ((2.5, 0.8), (0.8, 1.5))


def test_observation_errors_have_the_covariance_r():
    settings = changed(R=R_FULL, sigma=2.0**0.5, n_train=400)
    twin = TwinExperiment.generate(settings)
    np.testing.assert_array_equal(twin.R, R_FULL)
    split = twin.train
    errors = split.observations - split.truth_at_observations[..., :2]
    found = np.cov(errors.reshape(-1, 2).T)
    np.testing.assert_allclose(found, R_FULL, atol=0.1)
    assert TwinSettings.from_dict(settings.to_dict()) == settings


def test_an_r_of_equal_variances_goes_without_saying(twin):
    same = changed(R=twin.R)
    assert same == twin.settings
    assert "R" not in same.to_dict()
    assert TwinExperiment.generate(same).hashes == twin.hashes
