"""Promise L3: what is in the test split changes no byte of a training."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from experiment_samples import (
    TINY_GRU,
    contents,
    tiny_cell,
    tiny_cycled,
    tiny_windows,
    weights_only,
)
from l63fast.errors import DataFileError
from l63fast.experiments import protocols
from l63fast.experiments.methods import METHODS
from l63fast.experiments.protocols import PROTOCOLS, Problem, Work
from l63fast.experiments.run_cell import problem_of, run_cell
from l63fast.experiments.settings import Cell
from l63fast.learning.settings import ENCODER_NAMES
from l63fast.twin import SPLIT_NAMES, TwinExperiment
from l63fast.twin.splits import Split, make_split

NOTHING_TO_TUNE = ("background", "climatology", "oi", "optimum", "encoder")
FATES = ("noise", "permuted", "nan", "absent", "garbage")


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


@pytest.fixture
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


def artefacts(cell: Cell, data: Path, folder: Path) -> dict[str, bytes]:
    """Train on data and return every file that the training leaves, by name."""
    (folder / "working").mkdir(parents=True)
    (folder / "out").mkdir()
    told: list[object] = []
    work = Work(
        folder / "working",
        say=told.append,
        epoch=lambda row, n_epochs: told.append(row),
    )
    protocols._fits.cache_clear()  # each must do without what the last has found
    fitted = cell.method.fit(problem_of(cell, TwinExperiment.load(data), work))
    assert fitted.export is not None
    fitted.export(folder / "out")
    found = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    return found | {"told": json.dumps([told, fitted.facts]).encode()}


def other_data(twin: TwinExperiment, saved: Path, fate: str, other: Path) -> Path:
    """Save the experiment with a test split that is wrong, or none."""
    if fate not in ("absent", "garbage"):
        spoiled(twin, fate).save(other)
        test = (saved / "test.nc").read_bytes()
        assert (other / "test.nc").read_bytes() != test, "nothing was tested"
        return other
    shutil.copytree(saved, other)
    (other / "test.nc").unlink()
    if fate == "garbage":
        (other / "test.nc").write_bytes(b"noise")
    with pytest.raises(DataFileError):
        TwinExperiment.load(other).split("test")
    return other


def check(cell: Cell, twin: TwinExperiment, saved: Path, folder: Path) -> None:
    expected = artefacts(cell, saved, folder / "whole")
    assert {"model.safetensors", "model.json", "history.csv"} <= set(expected)
    for fate in FATES:
        other = other_data(twin, saved, fate, folder / f"data-{fate}")
        assert artefacts(cell, other, folder / fate) == expected, fate


@pytest.mark.promise("L3", "test split NaN, noise, permuted, absent: equal bytes")
@pytest.mark.usefixtures("without_programs")
@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_the_test_split_changes_no_byte_of_a_training(
    model, twin, saved, tmp_path
) -> None:
    check(tiny_cell(method={"model": model}), twin, saved, tmp_path)


@pytest.mark.promise("L3", "test split NaN, noise, permuted, absent: equal bytes")
@pytest.mark.usefixtures("without_programs")
def test_the_test_split_changes_no_byte_of_a_training_in_cycles(tmp_path) -> None:
    [cell] = tiny_cycled(methods={"it": TINY_GRU}).only("it").cells()
    twin = TwinExperiment.generate(cell.data)
    twin.save(tmp_path / "data")
    check(cell, twin, tmp_path / "data", tmp_path)


@pytest.mark.slow
@pytest.mark.promise("L3", "TorchScript and .pt2 too")
@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_the_test_split_changes_no_byte_of_the_programs(
    model, twin, saved, tmp_path
) -> None:
    check(tiny_cell(method={"model": model}), twin, saved, tmp_path)


@pytest.mark.promise("L3", "every method fitted without a test split: equal bytes")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_fit_of_no_method_opens_the_test_split(protocol, tmp_path) -> None:
    in_cycles = protocol == "cycles"
    names = [m for m in METHODS if in_cycles or not hasattr(METHODS[m], "needs_cycles")]
    methods = {scheme: {"scheme": scheme} for scheme in names}
    if protocol == "cycles":
        methods["pf-joint"] |= {"n_particles": 50}
    methods["optimum"] |= {"n_particles": 50, "max_particles": 100}
    methods["encoder"] = TINY_GRU
    tiny = tiny_windows if protocol == "windows" else tiny_cycled
    cells = tiny("gru", "enkf", "pf", methods=methods).only(*names).cells()
    TwinExperiment.generate(cells[0].data).save(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "absent")
    (tmp_path / "absent" / "test.nc").unlink()
    found = {}
    for fate in ("whole", "absent"):
        protocols._fits.cache_clear()
        for cell in cells:
            place = tmp_path / f"{fate}-{cell.key}"
            only = dataclasses.replace(cell, tune_only=True)
            metrics = run_cell(only, tmp_path / fate, place)
            assert (metrics["tuning"] is None) == (cell.key in NOTHING_TO_TUNE)
            found[fate, cell.key] = contents(place)
    for cell in cells:
        assert found["whole", cell.key] == found["absent", cell.key], cell.key
        assert "metrics.json" in found["whole", cell.key]


@pytest.mark.promise(
    "L3", "1 ulp of one training value changes the card, of all as float32 the weights"
)
@pytest.mark.usefixtures("without_programs")
@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_one_unit_in_the_last_place_of_the_training_split_is_seen(
    model, twin, saved, tmp_path
) -> None:
    cell = tiny_cell(method={"model": model})
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


@pytest.mark.usefixtures("without_programs")
def test_a_leak_would_be_seen(twin, saved, tmp_path, monkeypatch) -> None:
    """Planted: a training that fits its scales to the test split as well."""
    real = Problem.samples

    def leaking(self: Problem, name: str, **how):
        samples = real(self, name, **how)
        if name != "train":
            return samples
        extra = real(self, "test", **how).truth.mean()
        return dataclasses.replace(samples, truth=samples.truth + 1e-9 * extra)

    monkeypatch.setattr(Problem, "samples", leaking)
    with pytest.raises(AssertionError, match="noise"):
        check(tiny_cell(method={"model": "mlp"}), twin, saved, tmp_path)
