"""Training, data and workers where a user's script or shell has its own ideas."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from l63fast.experiments.settings_file import read_tables
from l63fast.learning import EncoderSettings, TrainSettings, train
from l63fast.storage import verify_directory
from l63fast.twin import TwinExperiment, TwinSettings, open_shards
from learning_samples import B, samples
from storage_help import PACKAGE

SMALL = {"n_train": 3, "n_val": 2, "n_test": 2, "n_steps": 40}
SIZES = ("--train", "3", "--val", "2", "--test", "2", "--n_steps", "40")


def command(folder: Path, *words: str, **environment: str):
    """Run `l63fast` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from l63fast.cli import main; main()", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PACKAGE, **environment},
        capture_output=True,
        timeout=100,
        check=False,
    )


@pytest.mark.promise("E1", "training under no_grad, inference, autocast: same bits")
def test_training_in_the_contexts_of_a_caller() -> None:
    def weights() -> str:
        data, few = samples("xy", 40), TrainSettings(epochs=1, batch_size=32)
        settings = EncoderSettings("mlp", "xy", window=2, hidden=4, n_iterations=1)
        encoder = train(settings, few, data, data, B=B, R=np.eye(2)).encoder
        with torch.no_grad():
            found = [p.numpy().tobytes() for p in encoder.parameters()]
        return hashlib.sha256(b"".join(found)).hexdigest()

    expected = weights()
    for context in (
        torch.no_grad(),
        torch.inference_mode(),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        with context:
            assert weights() == expected


@pytest.mark.slow
@pytest.mark.promise("E1", "PYTORCH_JIT=0: refused before a training")
def test_training_without_scripts_is_refused_before_it_begins(tmp_path) -> None:
    words = ("train", *SIZES, "--window", "2", "--hidden", "4", "--epochs", "1")
    done = command(tmp_path, *words, "--save_dir", "x", PYTORCH_JIT="0")
    assert done.returncode == 1
    assert b"error: PYTORCH_JIT: expected 1 or unset" in done.stderr
    assert not re.search(rb"epoch +1/", done.stdout)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.promise("E1", "60 shards and 40 open files: made, one sentence")
def test_many_shards_and_few_open_files(tmp_path) -> None:
    code = """
import resource, sys
from l63fast.errors import DataFileError
from l63fast.experiments.data import make_shards
from l63fast.twin import TwinSettings, open_shards
from l63fast.twin.shards import ShardSettings
data = TwinSettings(n_train=60, n_val=1, n_test=1, n_steps=4, steps_per_cycle=2)
import xarray, dask.array, netCDF4, l63fast.storage
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
make_shards(ShardSettings(data, 60), sys.argv[1])
try:
    open_shards(sys.argv[1])
except DataFileError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")],
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "/s: cannot be read: Too many open files" in done.stdout
    assert open_shards(tmp_path / "s").sizes["trajectory"] == 60


@pytest.mark.slow
@pytest.mark.promise("E1", "a script with workers and no main guard: works")
def test_workers_of_a_script_without_a_main_guard(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from l63fast.experiments.data import make_shards\n"
        "from l63fast.twin import TwinSettings\n"
        "from l63fast.twin.shards import ShardSettings\n"
        "data = TwinSettings(n_train=4, n_val=1, n_test=1, n_steps=40)\n"
        "make_shards(ShardSettings(data, 2), 's', n_workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "once\n"), done.stderr
    verify_directory(tmp_path / "s")


@pytest.mark.promise("E1", "chdir after load: splits are found")
def test_another_folder_after_loading(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = TwinExperiment.generate(TwinSettings(**SMALL))
    made.save("twin")
    loaded = TwinExperiment.load("twin")
    monkeypatch.chdir("/")
    assert loaded.split("train").hash == made.split("train").hash


@pytest.mark.promise("E1", "a mark of byte order before TOML: read")
def test_a_configuration_with_a_mark_of_byte_order(tmp_path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf[data]\nn_train = 3\n")
    assert read_tables(tmp_path / "c.toml") == {"data": {"n_train": 3}}


@pytest.mark.slow
@pytest.mark.promise("E1", "an ASCII locale and UTF-8 paths: works, or one sentence")
def test_paths_in_an_ascii_locale(tmp_path) -> None:
    name = "dät ä/ü"
    words = ("simulate", *SIZES, "--data", name)
    done = command(tmp_path, *words, LC_ALL="C")
    assert done.returncode == 0, done.stderr
    verify_directory(tmp_path / name)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(tmp_path, *words[:-1], "ö", **ascii_only)
    assert done.returncode == 2
    assert b"expected a path of UTF-8 characters" in done.stderr
    assert b"paths are ascii here: PYTHONUTF8=1?" in done.stderr
    assert b"Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["dät ä"]
