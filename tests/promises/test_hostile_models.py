"""Hostile model files do what they were made for if trusted, and nothing if not."""

from __future__ import annotations

import logging
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runs import Command
from hostile_models import (
    PROGRAMS,
    SECRET,
    hostile_pt2,
    hostile_torchscript,
    pickled,
    plant,
)
from l63fast.errors import L63Error, ModelFileError
from l63fast.learning.card import FILES
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings
from l63fast.storage import result_directory

STATE, WINDOW = np.ones((1, 3)), np.ones((1, 2, 2))
NOT_OPENED = r"is a program|expected sha256"
REFUSED: tuple[dict[str, Any], ...] = ({}, {"sha256": "ab" * 32})


def small_encoder(seed: int = 0) -> Encoder:
    settings = EncoderSettings("gru", "xy", window=2, hidden=8)
    return build_encoder(settings, Normaliser.identity("xy"), seed=seed)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    save_model(small_encoder(), folder, {}, formats=("torchscript", "pt2"))
    return folder


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.promise("M2", "0 side effects without trust")
def test_hostile_torchscript_is_not_opened(model: Path, name: str) -> None:
    trace = model / "trace"
    plant(model, "torchscript", hostile_torchscript(name, trace))
    for arguments in REFUSED:
        with pytest.raises(ModelFileError, match=NOT_OPENED):
            load_encoder(model, format="torchscript", **arguments)
    assert not trace.exists()


def wrote_at_load(model: Path, trace: Path) -> bool:
    load_encoder(model, format="torchscript", trust=True)
    return trace.exists()


def wrote_in_forward(model: Path, trace: Path) -> bool:
    loaded = load_encoder(model, format="torchscript", trust=True)
    assert not trace.exists()
    loaded(STATE, WINDOW)
    return trace.exists()


def read_the_secret(model: Path, trace: Path) -> bool:
    trace.write_bytes(SECRET)
    loaded = load_encoder(model, format="torchscript", trust=True)
    return bool((loaded(STATE, WINDOW) == list(SECRET[:3])).all())


def ran_out_of_memory(model: Path, trace: Path) -> bool:
    with pytest.raises(ModelFileError, match="is not a torchscript program"):
        load_encoder(model, format="torchscript", trust=True)
    return True


def never_came_back(model: Path, trace: Path) -> bool:
    code = (
        "import sys, l63fast; import l63fast.learning.export; print('x', flush=True);"
        "l63fast.load_encoder(sys.argv[1], format='torchscript', trust=True)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.read(1)
        process.wait(timeout=2.0)
    except subprocess.TimeoutExpired:
        return True
    finally:
        process.kill()
        process.communicate()
    return False


EFFECTS: dict[str, Callable[[Path, Path], bool]] = {
    "WritesAtLoad": wrote_at_load,
    "WritesInForward": wrote_in_forward,
    "ReadsAFile": read_the_secret,
    "AllocatesTerabytes": ran_out_of_memory,
    "NeverEnds": never_came_back,
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "NeverEnds" else [])
        for name in PROGRAMS
    ],
)
@pytest.mark.promise("M2", "the planted programs do strike")
def test_the_fixtures_are_hostile_indeed(model: Path, name: str) -> None:
    trace = model / "trace"
    plant(model, "torchscript", hostile_torchscript(name, trace))
    assert EFFECTS[name](model, trace)


@pytest.mark.promise("M2", "0 side effects without trust")
def test_a_hostile_pt2_writes_only_if_trusted(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch's warning that it fell back to pickle lacks an argument of its own text.
    logger = logging.getLogger("torch._export.serde.serialize")
    monkeypatch.setattr(logger, "disabled", True)
    trace = model / "trace"
    genuine = (model / FILES["pt2"]).read_bytes()
    found = plant(model, "pt2", hostile_pt2(genuine, trace))
    for arguments in REFUSED:
        with pytest.raises(ModelFileError, match=NOT_OPENED):
            load_encoder(model, format="pt2", **arguments)
    assert not trace.exists()
    with pytest.raises(ModelFileError, match="is not a pt2 program"):
        load_encoder(model, format="pt2", sha256=found)
    assert trace.exists()


@pytest.mark.parametrize("format", FILES)
@pytest.mark.promise("I11", "pickles under any suffix")
def test_a_pickle_under_any_suffix_is_not_opened(model: Path, format: str) -> None:
    trace = model / "trace"
    if format in ("safetensors", "torchscript", "pt2"):
        plant(model, format, pickled(trace))
    with pytest.raises(L63Error):
        load_encoder(model, format=format)
    assert not trace.exists()


@pytest.mark.promise("M2", "0 side effects without trust")
def test_a_hostile_folder_with_a_consistent_manifest_is_not_opened(
    model: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    folder = tmp_path / "looks-good"
    with result_directory(folder, kind="model") as working:
        for path in model.iterdir():
            shutil.copy(path, working / path.name)
        plant(working, "torchscript", hostile_torchscript("WritesAtLoad", trace))
        genuine = (model / FILES["pt2"]).read_bytes()
        plant(working, "pt2", hostile_pt2(genuine, trace))
    for format in ("torchscript", "pt2"):
        for arguments in REFUSED:
            with pytest.raises(ModelFileError, match=NOT_OPENED):
                load_encoder(folder, format=format, **arguments)
    assert load_encoder(folder)(STATE, WINDOW).shape == (1, 3)
    assert not trace.exists()


@pytest.mark.promise("F3", "export: never an abort")
def test_an_export_to_a_full_disk_is_an_error_and_the_old_one_stays(
    l63fast: Command, tmp_path: Path
) -> None:
    for seed, name in enumerate(("old", "new")):
        with result_directory(tmp_path / name) as folder:
            save_model(small_encoder(seed), folder, {}, formats=())
    export = tmp_path / "export"
    how = ("--save_dir", export, "--formats", "torchscript,pt2")
    assert l63fast("export", tmp_path / "old", *how).code == 0
    before = {path.name: path.read_bytes() for path in export.iterdir()}
    sizes = [
        len(before[FILES[format]]) for format in ("safetensors", "torchscript", "pt2")
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (1000, max(sizes) - 1):  # none of the files fits, all but one do
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            run = l63fast("export", tmp_path / "new", *how)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (run.code, "cannot write the file" in run.err) == (1, True)
        after = {path.name: path.read_bytes() for path in export.iterdir()}
        assert after == before
    assert min(sizes) > 1000
    assert load_encoder(export)(STATE, WINDOW).shape == (1, 3)
