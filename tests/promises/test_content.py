"""Content whose hash is right is still only content: it may make no sense."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from experiment_samples import tiny_cycled, weights_only
from l63fast.errors import DataFileError, ModelFileError
from l63fast.experiments.report import page, scores, states
from l63fast.experiments.results import Result, Source, open_results
from l63fast.experiments.settings_file import dump_tables
from l63fast.twin import TwinExperiment
from mutants import LOADERS, fuzz, originals_in, put
from report_help import unsaved

SECONDS = float(os.environ.get("L63FAST_FUZZ_SECONDS", "60"))
SIGNED = [kind for kind in LOADERS if kind != "configuration"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with weights_only():
        return originals_in(tmp_path_factory.mktemp("originals"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    tiny_cycled().run(root)
    return root / "tiny"


@pytest.fixture
def experiment(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "tiny")
    return tmp_path / "tiny"


def netcdf(path: Path, **variables: Any) -> bytes:
    """Return the bytes of a netCDF file, made in a folder."""
    xr.Dataset(variables).to_netcdf(path, engine="netcdf4")
    return path.read_bytes()


def evil_scale(path: Path) -> bytes:
    return netcdf(path, truth=xr.DataArray([1.0], attrs={"scale_factor": "evil"}))


@pytest.mark.promise("C1", "17 planted contents of a result, each signed anew")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("metrics.json", text) for text in (b"", b"[]", b"{}", b"3", b"\xff\xfe")),
        ("metrics.json", b"[" * 100_000),
        ("metrics.json", {"measure": ["rmse_a"]}),
        ("metrics.json", {"scores": [1.0]}),
        ("metrics.json", {"label": {"a": 1}}),
        ("metrics.json", {"versions": "l63fast"}),
        *(("timing.json", text) for text in (b"", b"{}", b"\xff")),
        ("config.toml", b"a = " + b"9" * 5000),
        ("config.toml", {"scores": {"n_bootstrap": 10**400}}),
        ("results.csv", b"trajectory,rmse_a\n0,1.0\n0,1.0,2.0\n"),
        ("results.csv", b"trajectory\n0\n"),
    ],
)
def test_a_result_that_makes_no_sense_is_left_out(experiment, name, content) -> None:
    folder = experiment / "oi"
    if isinstance(content, dict) and name.endswith(".json"):
        content = json.dumps(
            json.loads((folder / name).read_bytes()) | content
        ).encode()
    elif isinstance(content, dict):
        content = dump_tables(
            Result.open(folder).settings.to_tables() | content
        ).encode()
    put(folder, name, content)
    with pytest.raises(DataFileError, match=r"tiny/oi"):
        Result.open(folder)
    assert set(open_results(experiment)["cell"]) == {"enkf", "pf"}
    assert list(Source.open(experiment).left_out) == ["oi"]


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let a report have two chapters, whose figures are drawn and not written."""
    drawn: dict[str, Any] = dict.fromkeys(page._CHAPTERS, lambda summary: iter(()))
    drawn |= {"ensembles": scores.ensembles, "increments": states.increments}
    monkeypatch.setattr(page, "_CHAPTERS", drawn)
    monkeypatch.setattr(page, "_saved", unsaved)
    return drawn


@pytest.mark.promise("C1", "a report leaves out and names cells, whatever they hold")
@pytest.mark.parametrize(
    ("change", "make"),
    [
        (lambda m: m["spread"].update(spread=[[1.0], 2.0]), evil_scale),
        (lambda m: m["innovation"].update(ratio={}), lambda path: b"CDF"),
        (lambda m: m.update(ranks=3), lambda path: netcdf(path, increment_share=3)),
    ],
)
def test_a_report_leaves_out_cells_that_make_no_sense(
    experiment, tmp_path, quick_report, change, make
) -> None:
    metrics = json.loads((experiment / "enkf/metrics.json").read_bytes())
    change(metrics)
    put(experiment / "enkf", "metrics.json", json.dumps(metrics).encode())
    put(experiment / "pf", "diagnostics.nc", make(tmp_path / "made.nc"))
    path, source = page.write_report(experiment)
    assert set(source.left_out) == {"enkf", "pf"}
    said = (path.parent / "tables/answer.txt").read_text("utf-8")
    for name, why in source.left_out.items():
        assert f"tiny/{name}" in why
        assert why.partition(":")[0] in path.read_text("utf-8")
        assert f"{name} is left out: " in said
    put(experiment / "oi", "diagnostics.nc", b"CDF")
    with pytest.raises(
        DataFileError, match=r"no cell can be read: .*enkf.*; .*oi.*; .*pf"
    ):
        page.write_report(experiment)


def test_an_error_of_no_cell_is_not_blamed_on_one(experiment, quick_report) -> None:
    def broken(summary: Any) -> Iterator[str]:
        if len(summary.source.results) > 1:
            raise ZeroDivisionError("of ours")
        yield "fine"

    quick_report["scores"] = broken
    with pytest.raises(ZeroDivisionError, match="of ours"):
        page.write_report(experiment)


@pytest.mark.promise("C1", "netCDF without variables, or with a scale that is a word")
@pytest.mark.parametrize("make", [netcdf, evil_scale])
def test_data_that_make_no_sense_are_refused(originals, tmp_path, make) -> None:
    shutil.copytree(originals / "twin", tmp_path / "twin")
    put(tmp_path / "twin", "train.nc", make(tmp_path / "made.nc"))
    with pytest.raises(DataFileError, match=r"train\.nc: is not"):
        TwinExperiment.load(tmp_path / "twin").split("train")


def signed_checkpoint(folder: Path, whole: Any) -> None:
    from l63fast.learning.loop import CHECKPOINT

    buffer = io.BytesIO()
    torch.save(whole, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    (folder / CHECKPOINT).write_bytes(digest + b"\n" + buffer.getvalue())


@pytest.mark.promise("C1", "a checkpoint without identity, or with one of no sense")
@pytest.mark.parametrize(
    "whole",
    [
        *([], {}, {"version": 3}, {"version": 3, "identity": 5, "progress": {}}),
        {"version": 3, "identity": {"a": torch.zeros(3)}, "progress": {}},
        {"version": 3, "identity": {1: 1}, "progress": {}},
        {"version": 3, "identity": {"a": 1}},
    ],
)
def test_a_checkpoint_without_sense_is_refused(tmp_path, whole) -> None:
    from l63fast.learning.loop import read_checkpoint

    signed_checkpoint(tmp_path, whole)
    with pytest.raises(ModelFileError, match="without resume the training starts anew"):
        read_checkpoint(tmp_path, {"a": 1})


@pytest.mark.promise("C1", "the progress of a checkpoint, each part of it spoilt")
@pytest.mark.parametrize(
    "part", ["weights", "shown", "best_weights", "optimiser", "history"]
)
def test_progress_without_sense_is_refused(tmp_path, part) -> None:
    from l63fast.learning import EncoderSettings, TrainSettings, train
    from l63fast.learning.loop import CHECKPOINT
    from learning_samples import B, samples

    data = samples("xy", 40)
    encoder = EncoderSettings("mlp", "xy", window=2, hidden=4, n_iterations=1)
    few = TrainSettings(epochs=1, batch_size=32)
    how: Any = {"B": B, "R": np.eye(2), "directory": tmp_path, "resume": True}
    train(encoder, few, data, data, **how)
    payload = (tmp_path / CHECKPOINT).read_bytes().partition(b"\n")[2]
    whole = torch.load(io.BytesIO(payload), weights_only=True)
    good = dict(whole["progress"])
    for spoilt in (None, {"evil": 1}, [{"val_loss": "evil"}]):
        whole["progress"] = good | {part: spoilt}
        signed_checkpoint(tmp_path, whole)
        with pytest.raises(ModelFileError, match=r"\.pt: does not make sense"):
            train(encoder, few, data, data, **how)


@pytest.mark.promise("C1", "11 kinds of file, 12 mutants each, signed anew")
@pytest.mark.parametrize("kind", SIGNED)
def test_signed_mutants_are_refused_by_one_kind_of_error(
    kind, originals, tmp_path
) -> None:
    assert fuzz(kind, originals, tmp_path / "x", 0.0, 12, sign=True) == 12


@pytest.mark.slow
@pytest.mark.promise("C1", "11 kinds of file, signed anew: DataFileError, nothing else")
@pytest.mark.parametrize("kind", SIGNED)
def test_signed_mutants_for_long(kind, originals, tmp_path, record_property) -> None:
    tried = fuzz(kind, originals, tmp_path / "x", SECONDS, 0, sign=True)
    record_property("measured", f"{kind}: {tried} mutants in {SECONDS:g} s, all ours")
