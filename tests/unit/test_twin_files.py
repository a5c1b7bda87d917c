"""Twin experiments on disk: what a file says, damage, laziness, alignment."""

from __future__ import annotations

import dataclasses
import json
import os

import netCDF4
import numpy as np
import pytest

from l63fast import storage
from l63fast.errors import DataFileError, ResultError
from l63fast.twin import SPLIT_NAMES, TwinExperiment, TwinSettings
from l63fast.twin.splits import Split, make_split, misalignment

SMALL = TwinSettings(n_train=12, n_val=7, n_test=5, n_steps=200, spin_up_time=2.0)


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(SMALL)


@pytest.fixture
def saved(twin, tmp_path):
    twin.save(tmp_path / "xy")
    return tmp_path / "xy"


def with_split(twin: TwinExperiment, split: Split) -> TwinExperiment:
    """Return the experiment with one split replaced and every hash consistent."""
    splits = {name: twin.split(name) for name in SPLIT_NAMES}
    splits[split.name] = split
    return TwinExperiment._of(splits, twin.settings, np.array(twin.R), twin.origin)


def shifted(split: Split, twin: TwinExperiment, axis: int, by: int = 1) -> Split:
    observations = np.roll(split.observations, by, axis=axis)
    truth = split.truth.copy()
    return make_split(split.name, truth, observations, twin.settings, np.array(twin.R))


# Round trip and metadata


def test_save_and_load(twin, saved):
    loaded = TwinExperiment.load(saved)
    assert loaded.settings == twin.settings
    assert loaded.hashes == twin.hashes
    assert loaded.origin == "generated"
    np.testing.assert_array_equal(loaded.R, twin.R)
    for name in SPLIT_NAMES:
        a, b = loaded.split(name), twin.split(name)
        np.testing.assert_array_equal(a.truth, b.truth)
        np.testing.assert_array_equal(a.observations, b.observations)
        assert a.hash == b.hash
        assert not a.truth.flags.writeable
    assert loaded.split("val") is loaded.val
    files = ["experiment.json", "test.nc", "train.nc", "val.nc"]
    assert sorted(storage.verify_directory(saved).files) == files


def test_own_data_with_a_covariance_survive(twin, tmp_path):
    truth = np.concatenate([twin.split(name).truth for name in SPLIT_NAMES])
    seen = np.concatenate([twin.split(name).observations for name in SPLIT_NAMES])
    own = TwinExperiment.from_arrays(
        truth, seen, operator="xy", sigma=1.0, dt=0.01, steps_per_cycle=10,
        n_train=12, n_val=7, n_test=5, R=np.array([[1.1, 0.2], [0.2, 1.0]]),
    )  # fmt: skip
    own.save(tmp_path / "own")
    loaded = TwinExperiment.load(tmp_path / "own")
    np.testing.assert_array_equal(loaded.R, own.R)
    assert loaded.test.hash == own.hashes["test"]
    assert loaded.origin == "from arrays"


@pytest.mark.parametrize("Q", [0.1, ((0.5, 0.2, 0.0), (0.2, 0.3, 0.0), (0.0,) * 3)])
def test_model_error_survives(Q, tmp_path):
    twin = TwinExperiment.generate(dataclasses.replace(SMALL, Q=Q))
    twin.save(tmp_path / "noisy")
    loaded = TwinExperiment.load(tmp_path / "noisy")
    assert loaded.settings == twin.settings
    np.testing.assert_array_equal(loaded.Q, twin.Q)
    assert loaded.train.hash == twin.hashes["train"]


def test_a_full_r_survives(tmp_path):
    R = ((1.2, 0.3), (0.3, 0.8))
    twin = TwinExperiment.generate(dataclasses.replace(SMALL, operator="xy", R=R))
    twin.save(tmp_path / "full")
    loaded = TwinExperiment.load(tmp_path / "full")
    assert loaded.settings == twin.settings
    np.testing.assert_array_equal(loaded.R, R)


def test_equal_experiments_are_equal_files(twin, saved, tmp_path):
    """No date and no machine: the bytes of a data set are those of its settings."""
    TwinExperiment.generate(SMALL).save(tmp_path / "again")
    assert storage.verify_directory(tmp_path / "again") == storage.verify_directory(
        saved
    )


def test_a_file_explains_itself(saved):
    with netCDF4.Dataset(saved / "train.nc") as file:
        assert file.Conventions.startswith("CF-")
        assert file.title == "Lorenz-63 twin experiment, training split"
        assert "l63fast" in file.source
        assert "generated" in file.history
        assert (file.seed, file.dt, file.sigma) == (0, 0.01, 1.0)
        assert (file.operator, file.steps_per_cycle) == ("xy", 10)
        settings = json.loads(file.configuration)
        assert TwinSettings.from_dict(settings) == SMALL
        assert file["truth"].dimensions == ("trajectory", "time", "component")
        assert file["time"].units == "1"
        assert file["time"][3] == pytest.approx(0.03)
        assert file["observation_step"][:].tolist() == list(range(10, 201, 10))
        assert file["component"][:].tolist() == ["x", "y", "z"]
        for name, variable in file.variables.items():
            assert variable.long_name, name


def test_a_result_of_another_kind_is_neither_read_nor_replaced(twin, tmp_path):
    with storage.result_directory(tmp_path / "x") as directory:
        (directory / "a").write_text("a")
    with pytest.raises(DataFileError, match="expected a twin experiment"):
        TwinExperiment.load(tmp_path / "x")
    with pytest.raises(ResultError, match="kind 'result'"):
        twin.save(tmp_path / "x")


# Laziness and non-interference (L3)


@pytest.mark.parametrize("replacement", ["nothing", "noise", "directory", "fifo"])
@pytest.mark.promise("L3", "test file absent, noise, directory, FIFO")
def test_training_never_opens_the_test_file(twin, saved, replacement):
    path = saved / "test.nc"
    path.unlink()
    if replacement == "noise":
        path.write_bytes(os.urandom(1000))
    elif replacement == "directory":
        path.mkdir()
    elif replacement == "fifo":
        os.mkfifo(path)
    loaded = TwinExperiment.load(saved)
    assert loaded.hashes == twin.hashes
    np.testing.assert_array_equal(loaded.train.truth, twin.train.truth)
    np.testing.assert_array_equal(loaded.val.truth, twin.val.truth)
    np.testing.assert_array_equal(
        loaded.climatology.covariance, twin.climatology.covariance
    )
    with pytest.raises(DataFileError, match=r"test\.nc"):
        _ = loaded.test


def test_loading_opens_no_data(saved, monkeypatch):
    def refuse(path):
        pytest.fail(f"{path} was opened")

    monkeypatch.setattr(storage, "read_dataset", refuse)
    loaded = TwinExperiment.load(saved)
    assert len(loaded.hashes["test"]) == 64


# Damage


@pytest.mark.parametrize("name", ["train.nc", "experiment.json"])
@pytest.mark.parametrize("how", ["flip", "truncate", "gone"])
@pytest.mark.promise("I06", "flipped, truncated, gone")
def test_damage_is_found(saved, name, how):
    path = saved / name
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    elif how == "truncate":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    with pytest.raises(DataFileError, match=name):
        _ = TwinExperiment.load(saved).train


def test_damage_of_the_description_is_found(saved):
    """The data are whole and their hash agrees; only the title has changed."""
    path = saved / "train.nc"
    path.write_bytes(path.read_bytes().replace(b"twin experiment", b"twim experiment"))
    with pytest.raises(DataFileError, match=r"train\.nc: is damaged"):
        _ = TwinExperiment.load(saved).train


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"settings": {"n_train": 3}},
        {"origin": "elsewhere"},
        {"hashes": {}},
        {"R": [[1.0]]},
        {"R": "many"},
        {"hashes": {"train": "0", "val": "0", "test": "0"}},
    ],
)
@pytest.mark.promise("I06", "another schema")
def test_an_index_of_another_form_is_refused(saved, change):
    """The manifest agrees with it, so that only the index itself can be at fault."""
    with storage.update_directory(saved) as directory:
        content = storage.read_json(directory / "experiment.json")
        storage.write_json(directory / "experiment.json", {**content, **change})
    with pytest.raises(DataFileError):
        _ = TwinExperiment.load(saved).train


def test_a_split_under_the_name_of_another_is_refused(saved):
    with storage.update_directory(saved) as directory:
        (directory / "train.nc").write_bytes((directory / "test.nc").read_bytes())
    with pytest.raises(DataFileError, match="is not the train split"):
        _ = TwinExperiment.load(saved).train


@pytest.mark.promise("I06", "another hash")
def test_data_of_other_settings_are_refused(saved, tmp_path):
    """A file of another experiment, in a directory whose manifest agrees with it."""
    TwinExperiment.generate(dataclasses.replace(SMALL, seed=1)).save(tmp_path / "b")
    with storage.update_directory(saved) as directory:
        (directory / "val.nc").write_bytes((tmp_path / "b" / "val.nc").read_bytes())
    with pytest.raises(DataFileError, match=r"val\.nc: expected data of sha256"):
        _ = TwinExperiment.load(saved).val


# Alignment (L4)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", SPLIT_NAMES)
@pytest.mark.promise("L4", "shift by one trajectory or time")
def test_shifted_observations_are_refused_at_load(twin, tmp_path, axis, name):
    """Hashes and manifest agree with the shifted data: only the check can see it."""
    bad = with_split(twin, shifted(twin.split(name), twin, axis))
    bad.save(tmp_path / "bad")
    loaded = TwinExperiment.load(tmp_path / "bad")
    with pytest.raises(DataFileError, match="do not belong to the truth"):
        loaded.split(name)
    others = set(SPLIT_NAMES) - {name}
    assert all(loaded.split(other).hash == bad.hashes[other] for other in others)


@pytest.mark.parametrize("operator", ["x", "xy", "x2", "xyz", "z3"])
@pytest.mark.parametrize("sigma", [0.0, 1e-12, 0.05, 1.0, 2.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_any_operator_and_error_shows_a_shift(operator, sigma, axis):
    settings = dataclasses.replace(SMALL, operator=operator, sigma=sigma, n_train=30)
    twin = TwinExperiment.generate(settings)
    R = np.array(twin.R)
    assert misalignment(twin.train, twin.operator, R) is None
    for by in (1, -1):
        bad = shifted(twin.train, twin, axis, by)
        assert misalignment(bad, twin.operator, R) is not None


def test_errors_larger_than_sigma_says_are_refused():
    """Ten per cent too much: too little for one trajectory, enough over all."""
    large = TwinExperiment.generate(dataclasses.replace(SMALL, n_train=200))
    R = np.array(large.R)
    assert misalignment(large.train, large.operator, R) is None
    problem = misalignment(large.train, large.operator, R / 1.21)
    assert problem is not None
    assert "the innovations y - h(truth) have 1.1" in problem
    assert misalignment(large.train, large.operator, R / 1.21, slack=2.0) is None


def test_a_shift_by_one_step_shows_where_observations_are_dense():
    settings = dataclasses.replace(SMALL, steps_per_cycle=1, n_train=50, sigma=3.0)
    twin = TwinExperiment.generate(settings)
    bad = shifted(twin.train, twin, axis=1)
    assert misalignment(bad, twin.operator, np.array(twin.R), slack=2.0) is not None


@pytest.mark.promise("L4", "two of them are named")
def test_two_trajectories_that_changed_places_are_named():
    """Two of 1,000 hardly move the mean over all: the check of each one sees them."""
    settings = dataclasses.replace(SMALL, n_train=1000, sigma=3.0)
    twin = TwinExperiment.generate(settings)
    observations = twin.train.observations.copy()
    observations[[4, 5]] = observations[[5, 4]]
    R = np.array(twin.R)
    bad = make_split("train", twin.train.truth.copy(), observations, settings, R)
    problem = misalignment(bad, twin.operator, R)
    assert problem is not None
    assert "of trajectory 4" in problem or "of trajectory 5" in problem


@pytest.mark.promise("L4", "0 false alarms")
def test_sound_data_raise_no_alarm():
    for seed in range(100):
        n_steps = 10 * (1 + seed % 7)
        settings = TwinSettings(
            operator=["x", "xy", "x2", "xyz"][seed % 4], sigma=[0.1, 1, 10][seed % 3],
            n_train=1 + seed % 5, n_val=1, n_test=1, n_steps=n_steps,
            steps_per_cycle=[1, 5, 10][seed % 3], spin_up_time=1.0, seed=seed,
        )  # fmt: skip
        twin = TwinExperiment.generate(settings)
        for name in SPLIT_NAMES:
            problem = misalignment(twin.split(name), twin.operator, np.array(twin.R))
            assert problem is None, (seed, name)
