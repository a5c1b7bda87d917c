"""Promise L3: what is in the test split changes no byte of a training."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiment_samples import tiny_cell
from l63fast.experiments.cell import Log, train_cell
from l63fast.experiments.config import CellSettings
from l63fast.experiments.problem import Problem
from l63fast.learning import export
from l63fast.learning.settings import ENCODER_NAMES
from l63fast.twin import SPLIT_NAMES, TwinExperiment
from l63fast.twin.split import Split, make_split

FATES = ("noise", "permuted", "nan", "absent")


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(tiny_cell().data)


@pytest.fixture
def saved(twin: TwinExperiment, tmp_path: Path) -> Path:
    twin.save(tmp_path / "data")
    return tmp_path / "data"


def with_split(twin: TwinExperiment, split: Split) -> TwinExperiment:
    """Return the experiment with another split, every hash in agreement with it."""
    splits = {name: twin.split(name) for name in SPLIT_NAMES} | {split.name: split}
    return TwinExperiment._of(splits, twin.settings, np.array(twin.R), twin.origin)


def spoiled(twin: TwinExperiment, fate: str) -> TwinExperiment:
    """Return the experiment with a test split that no other split should notice."""
    test, rng = twin.test, np.random.default_rng(0)
    truth, observations = test.truth.copy(), test.observations.copy()
    if fate == "nan":
        truth[:], observations[:] = np.nan, np.nan
    elif fate == "noise":
        truth = rng.normal(size=truth.shape)
        observations = rng.normal(size=observations.shape)
    else:
        truth, observations = truth[::-1].copy(), observations[::-1].copy()
    other = make_split("test", truth, observations, twin.settings, np.array(twin.R))
    return with_split(twin, other)


def artefacts(cell: CellSettings, data: Path, folder: Path) -> dict[str, bytes]:
    """Train on data and return every file that the training leaves, by name."""
    (folder / "working").mkdir(parents=True)
    (folder / "out").mkdir()
    problem = Problem.prepare(TwinExperiment.load(data), cell)
    log = Log()
    train_cell(cell, problem, folder / "out", log, folder / "working")
    found = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    return found | {"log": "\n".join(log.lines).encode()}


def check(model: str, twin: TwinExperiment, saved: Path, folder: Path) -> None:
    cell = tiny_cell(model={"model": model})
    expected = artefacts(cell, saved, folder / "whole")
    assert {"model.safetensors", "model.json", "history.csv"} <= set(expected)
    for fate in FATES:
        other = folder / f"data-{fate}"
        if fate == "absent":
            shutil.copytree(saved, other)
            (other / "test.nc").unlink()
        else:
            spoiled(twin, fate).save(other)
            test = (saved / "test.nc").read_bytes()
            assert (other / "test.nc").read_bytes() != test, "nothing was tested"
        assert artefacts(cell, other, folder / fate) == expected, fate


@pytest.mark.promise("L3", "test split NaN, noise, permuted, absent: equal bytes")
@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_the_test_split_changes_no_byte_of_a_training(
    model, twin, saved, tmp_path, monkeypatch
) -> None:
    # Compiling the two programs takes seconds: the slow test has them.
    only = {"safetensors": export._WRITE["safetensors"]}
    monkeypatch.setattr(export, "_WRITE", only)
    check(model, twin, saved, tmp_path)


@pytest.mark.slow
@pytest.mark.promise("L3", "TorchScript and .pt2 too")
@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_the_test_split_changes_no_byte_of_the_programs(
    model, twin, saved, tmp_path
) -> None:
    check(model, twin, saved, tmp_path)


@pytest.mark.promise(
    "L3", "1 ulp of one training value changes the card, of all as float32 the weights"
)
@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_one_unit_in_the_last_place_of_the_training_split_is_seen(
    model, twin, saved, tmp_path, monkeypatch
) -> None:
    only = {"safetensors": export._WRITE["safetensors"]}
    monkeypatch.setattr(export, "_WRITE", only)
    cell = tiny_cell(model={"model": model})
    before = artefacts(cell, saved, tmp_path / "before")
    one = twin.train.observations.copy()
    one[0, -1, 0] = np.nextafter(one[0, -1, 0], np.inf)
    # The encoder reads and is float32: the last place of one float64 is in the card.
    every = np.nextafter(twin.train.observations.astype(np.float32), np.float32(np.inf))
    changed = {"model.json": one, "model.safetensors": every.astype(np.float64)}
    for name, observations in changed.items():
        data = (twin.train.truth, observations, twin.settings, np.array(twin.R))
        folder = tmp_path / name
        with_split(twin, make_split("train", *data)).save(folder / "data")
        assert artefacts(cell, folder / "data", folder)[name] != before[name]


def test_a_leak_would_be_seen(twin, saved, tmp_path, monkeypatch) -> None:
    """Planted: a training that fits its scales to the test split as well."""
    only = {"safetensors": export._WRITE["safetensors"]}
    monkeypatch.setattr(export, "_WRITE", only)
    real = Problem.samples

    def leaking(self: Problem, name: str):
        samples = real(self, name)
        if name != "train":
            return samples
        extra = real(self, "test").truth.mean()
        return dataclasses.replace(samples, truth=samples.truth + 1e-9 * extra)

    monkeypatch.setattr(Problem, "samples", leaking)
    with pytest.raises(AssertionError, match="noise"):
        check("mlp", twin, saved, tmp_path)
