"""The long proofs: bytes changed at random, many writers at once, hours of cycles."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiment_samples import tiny_cell
from l63fast.errors import L63Error
from l63fast.experiments.result import Result
from l63fast.experiments.settings_file import read_tables
from l63fast.storage import result_directory, verify_directory
from l63fast.twin import SPLIT_NAMES, TwinExperiment
from storage_help import PACKAGE

FUZZ_SECONDS = float(os.environ.get("L63FAST_FUZZ_SECONDS", "60"))
SOAK_MINUTES = float(os.environ.get("L63FAST_SOAK_MINUTES", "1"))


def load_twin(path: Path) -> None:
    for name in SPLIT_NAMES:
        _ = TwinExperiment.load(path).split(name)


def load_model(path: Path) -> None:
    from l63fast.learning.export import load_encoder

    load_encoder(path)


def load_result(path: Path) -> None:
    verify_directory(path)
    _ = Result.open(path).estimates


def load_configuration(path: Path) -> None:
    from l63fast.experiments.config import read_cell

    read_tables(path / "config.toml")
    read_cell(path / "config.toml")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder of each kind; those that have a cell in them need torch."""
    from l63fast.experiments.cell import run_cell

    root = tmp_path_factory.mktemp("originals")
    TwinExperiment.generate(tiny_cell().data).save(root / "twin")
    run_cell(tiny_cell(), root / "twin", root / "cell")
    model = root / "model"
    model.mkdir()
    for name in ("model.json", "model.safetensors", "config.toml"):
        shutil.copy(root / "cell" / name, model / name)
    return root


LOADERS: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "dataset": ("twin", "train.nc", load_twin),
    "index": ("twin", "experiment.json", load_twin),
    "manifest": ("cell", "manifest.json", load_result),
    "estimates": ("cell", "test.nc", load_result),
    "metrics": ("cell", "metrics.json", load_result),
    "model": ("model", "model.safetensors", load_model),
    "card": ("model", "model.json", load_model),
    "configuration": ("model", "config.toml", load_configuration),
}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with some of them changed, cut, doubled or replaced."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[place : place + rng.choice([1, 2, 100, len(out)])]
        elif kind == 2:
            out[place:place] = out[: rng.choice([1, 7, 300])]
        elif kind == 3:
            words = (b"Infinity", b"NaN", b"null", b"[", b"-1", b"1e999", b"\xff\0")
            out[place : place + rng.randrange(9)] = rng.choice(words)
        else:
            out[place : place + 8] = rng.randbytes(8)
    return bytes(out)


def fuzz(kind: str, originals: Path, folder: Path, seconds: float, n: int) -> int:
    """Load mutated files until the time is over; return how many were tried."""
    source, name, load = LOADERS[kind]
    shutil.copytree(originals / source, folder)
    load(folder)
    good, rng = (folder / name).read_bytes(), random.Random(kind)
    began, tried = time.monotonic(), 0
    while tried < n or time.monotonic() - began < seconds:
        bad = mutated(good, rng)
        (folder / name).write_bytes(bad)
        try:
            load(folder)
        except L63Error:
            pass
        else:
            checked = kind not in ("card", "configuration")
            assert bad == good or not checked, "damage was not found"
        tried += 1
    return tried


@pytest.mark.slow
@pytest.mark.promise("I20", "8 kinds of file, time-boxed: 0 undocumented errors")
@pytest.mark.promise("F2", "every kind of file through its own loader: 100 % found")
@pytest.mark.parametrize("kind", LOADERS)
def test_mutated_files_are_refused_by_an_error_of_ours(kind, originals, tmp_path):
    assert fuzz(kind, originals, tmp_path / "x", FUZZ_SECONDS, 0) > 100


WRITER = """
import sys
from l63fast.errors import LockedError
from l63fast.storage import result_directory
done = refused = 0
while done < 40:
    try:
        with result_directory(sys.argv[1]) as directory:
            for name in "abcd":
                (directory / name).write_text(sys.argv[2])
        done += 1
    except LockedError:
        refused += 1
"""


@pytest.mark.slow
@pytest.mark.promise("F5", "8 processes into one folder: always one whole result")
def test_eight_processes_write_one_result(memory_path) -> None:
    target = memory_path / "result"
    with result_directory(target) as directory:
        (directory / "a").write_text("0")
    environment = {**os.environ, "PYTHONPATH": PACKAGE}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(target), str(n)], env=environment
        )
        for n in range(8)
    ]
    looks = 0
    while any(writer.poll() is None for writer in writers):
        assert (target / "a").exists()
        looks += 1
        time.sleep(0.01)
    assert [writer.wait() for writer in writers] == [0] * 8
    assert looks > 5
    verify_directory(target)
    assert os.listdir(memory_path) == ["result"]


SOAK = """
import json, os, sys, time
import numpy as np
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.twin import TwinExperiment, TwinSettings
twin = TwinExperiment.generate(TwinSettings(n_train=2, n_val=2, n_test=4, n_steps=400))
scheme = EnKF(operator="xy", B=np.eye(3), R=np.eye(2))
end, curve = time.monotonic() + 60 * float(sys.argv[1]), []
while time.monotonic() < end or len(curve) < 20:
    for _ in range(20):
        run_cycles(scheme, twin, "test", seed=0)
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    curve.append((pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))))
print(json.dumps(curve))
"""


@pytest.mark.slow
@pytest.mark.promise("F7", "L63FAST_SOAK_MINUTES of cycles: 2 % and 0 descriptors")
def test_hours_of_cycles_take_no_more_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SOAK, str(SOAK_MINUTES)],
        capture_output=True,
        text=True,
        timeout=60 * SOAK_MINUTES + 300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    curve = json.loads(done.stdout)
    quarter = len(curve) // 4
    early = max(memory for memory, _ in curve[:quarter])
    late = max(memory for memory, _ in curve[-quarter:])
    assert late < 1.02 * early, curve[:: max(len(curve) // 50, 1)]
    assert curve[-1][1] == curve[0][1], "descriptors leak"
