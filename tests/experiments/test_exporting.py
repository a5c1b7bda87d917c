"""`l63fast export` and `l63fast benchmark encoders`: files, numbers, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cli_runs import Command
from l63fast.errors import DataFileError
from l63fast.experiments.speed import encoder_benchmark
from l63fast.learning import encoder_speed
from l63fast.learning.card import FILES
from l63fast.learning.encoder_speed import EncoderSpeed, EncoderTimes
from l63fast.learning.encoders import build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings
from l63fast.storage import read_manifest, result_directory
from learning_samples import samples

FORMATS = ("safetensors", "torchscript", "pt2")

TINY = EncoderSpeed((1, 5), rounds=1)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    data = samples("xy", 100)
    settings = EncoderSettings("gru", "xy", window=2, hidden=8)
    encoder = build_encoder(settings, Normaliser.fit(data, "xy"))
    with result_directory(tmp_path / "trained") as folder:
        save_model(encoder, folder, {"interval": 0.1}, formats=("safetensors",))
    return tmp_path / "trained"


def test_an_export_holds_the_model_in_the_formats_asked_for(
    l63fast: Command, result: Path
) -> None:
    run = l63fast("export", result, "--formats", "torchscript, pt2")
    assert run.code == 0, run.err
    folder = result.with_name("trained_export")
    assert read_manifest(folder).kind == "model"
    card = json.loads((folder / "model.json").read_text())
    old = json.loads((result / "model.json").read_text())
    assert tuple(card["files"]) == FORMATS
    for key in ("normaliser_hash", "training", "encoder"):
        assert card[key] == old[key]
    weights = FILES["safetensors"]
    assert (folder / weights).read_bytes() == (result / weights).read_bytes()
    data = samples("xy", 7)
    hashes = dict(re.findall(r"^(\w+) .*sha256 (\w{64})", run.out, re.MULTILINE))
    assert tuple(hashes) == FORMATS
    for format, found in hashes.items():
        loaded = load_encoder(folder, format=format, sha256=found)
        assert np.allclose(
            loaded(data.background, data.obs_window),
            load_encoder(result)(data.background, data.obs_window),
            atol=1e-4,
        )
    again = l63fast("export", result, "--formats", "torchscript", "--quiet")
    assert (again.code, again.out) == (0, "")
    assert not (folder / FILES["pt2"]).exists()


def test_exports_that_make_no_sense_are_refused(l63fast: Command, result: Path) -> None:
    run = l63fast("export")
    assert (run.code, "RESULT: expected the folder" in run.err) == (2, True)
    run = l63fast("export", "nowhere")
    assert (run.code, "nowhere" in run.err) == (1, True)
    run = l63fast("export", result, "--formats", "pickle")
    assert (run.code, "formats: expected one of" in run.err) == (2, True)
    run = l63fast("export", result, "--save_dir", "/")
    assert (run.code, "expected a directory of its own" in run.err) == (1, True)
    run = l63fast("export", result, "--save_dir", result)
    assert run.code == 1  # a result is not replaced by an export
    assert load_encoder(result).window == 2
    run = l63fast("export", result, "--dry_run")
    assert (run.code, "would write torchscript, pt2 to" in run.out) == (0, True)
    assert [path.name for path in result.parent.iterdir()] == ["trained"]


def test_the_benchmark_times_every_format_and_draws(
    l63fast: Command, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EncoderSpeed, "of_scale", lambda scale: TINY)
    monkeypatch.setattr(encoder_speed, "FILES", {kind: FILES[kind] for kind in FORMATS})
    monkeypatch.setattr(encoder_speed, "_LATENCY_CALLS", 2)
    run = l63fast("benchmark", "encoders", "--result_dir", result)
    assert run.code == 0, run.err
    folder = Path("results/benchmark_encoders")
    assert {path.suffix for path in folder.iterdir()} == {
        ".json", ".md", ".png", ".svg",
    }  # fmt: skip
    content = json.loads((folder / "encoders.json").read_text())
    assert content["encoder"].startswith("GRU-8, window 2, xy")
    assert list(content["rows"]) == ["eager", *FORMATS]
    for row in content["rows"].values():
        assert row["latency"] > 0.0
        assert list(row["per_window"]) == ["1", "5"]
        assert min(row["per_window"].values()) > 0.0
    assert (folder / "encoders.md").read_text().count("\n|") == 5
    dry = l63fast("benchmark", "encoders", "--dry_run")
    assert dry.out == "would measure and write results/benchmark_encoders\n"


def test_a_table_says_how_much_faster_than_eager_each_is() -> None:
    rows = {
        "eager": EncoderTimes(200e-6, {1: 210e-6, 100: 10e-6}),
        "onnx": EncoderTimes(40e-6, {1: 50e-6, 100: 4e-6}),
        "C++ torchscript": EncoderTimes(100e-6, {}),
    }
    where = {"processor": "one"}
    lines = encoder_benchmark(rows, "an encoder", where).markdown.splitlines()
    assert lines[2].split("|")[1:-1] == [
        *(" eager ", " 200 ", " 1.00 ", " 210 ", " 10 ", " 1.00 "),
    ]
    assert lines[3].split("|")[3:-1] == [" 5.00 ", " 50 ", " 4 ", " 2.50 "]
    assert lines[4] == "| C++ torchscript | 100 | 2.00 |  |  |  |"
    assert "an encoder; processor time" in lines[6]


def test_sizes_of_a_share_of_the_time() -> None:
    assert EncoderSpeed.of_scale(1.0) == EncoderSpeed()
    small = EncoderSpeed.of_scale(0.01)
    assert (small.batches, small.rounds) == ((1, 16, 256, 1000), 1)


def test_a_program_that_is_none_is_an_error(tmp_path: Path) -> None:
    encoder = encoder_speed.encoder_to_time(None)
    save_model(encoder, tmp_path, {}, formats=())
    with pytest.raises(DataFileError, match="expected times"):
        encoder_speed._cpp(encoder, tmp_path, Path("/bin/false"))()
