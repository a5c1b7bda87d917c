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

import load_script
from builds import HELPERS
from experiment_samples import contents, tiny_cell
from l63fast.errors import L63Error
from l63fast.experiments.results import Result
from l63fast.experiments.settings import Cell
from l63fast.experiments.settings_file import read_tables
from l63fast.storage import result_directory, verify_directory
from l63fast.twin import SPLIT_NAMES, TwinExperiment
from storage_help import PACKAGE
from writer_jobs import leftovers

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
    Cell.from_tables(read_tables(path / "config.toml"), source="a test")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder of each kind; those that have a cell in them need torch."""
    from l63fast.experiments.run_cell import run_cell

    root = tmp_path_factory.mktemp("originals")
    TwinExperiment.generate(tiny_cell().data).save(root / "twin")
    run_cell(tiny_cell(), root / "twin", root / "cell", keep_states=True)
    model = root / "model"
    model.mkdir()
    for name in ("model.json", "model.safetensors", "config.toml"):
        shutil.copy(root / "cell" / name, model / name)
    return root


LOADERS: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "dataset": ("twin", "train.nc", load_twin),
    "index": ("twin", "experiment.json", load_twin),
    "manifest": ("cell", "manifest.json", load_result),
    "estimates": ("cell", "estimates.nc", load_result),
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
def test_mutated_files_are_refused_by_an_error_of_ours(
    kind, originals, tmp_path, record_property
):
    tried = fuzz(kind, originals, tmp_path / "x", FUZZ_SECONDS, 0)
    assert tried > 100
    record_property(
        "measured", f"{kind}: {tried} mutants in {FUZZ_SECONDS:g} s, all ours"
    )


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


@pytest.mark.slow
@pytest.mark.promise("D1", "8 processes, one experiment, one folder: equal sha256")
def test_eight_processes_run_one_experiment(tmp_path, record_property) -> None:
    load_script.experiment().run(tmp_path / "serial")
    command = [sys.executable, load_script.__file__, str(tmp_path / "shared")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    attempts = [int(process.communicate(timeout=600)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sum(attempts) > 0, "they must have met"
    folders = [tmp_path / name / "tiny" for name in ("serial", "shared")]
    for cell in load_script.experiment().cells():
        serial, shared = (contents(folder / cell.name) for folder in folders)
        assert serial == shared, cell.name
    assert leftovers(tmp_path) == []
    record_property("measured", f"8 processes, {sum(attempts)} refusals: equal sha256")


@pytest.mark.slow
@pytest.mark.promise("F7", "L63FAST_SOAK_MINUTES of cycles: 2 % and 0 descriptors")
def test_hours_of_cycles_take_no_more_memory(tmp_path, record_property) -> None:
    script = HELPERS / "soak_script.py"
    done = subprocess.run(
        [sys.executable, str(script), str(SOAK_MINUTES), str(tmp_path / "soak.png")],
        capture_output=True,
        text=True,
        timeout=60 * SOAK_MINUTES + 300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    growth, leak = growth_and_leak(looks)
    assert growth < 1.02, looks[:: max(len(looks) // 50, 1)]
    assert leak == 0, "descriptors leak"
    assert (tmp_path / "soak.png").stat().st_size > 1000
    cycles = looks[-1][-1] / 1e6
    record_property(
        "measured",
        f"{SOAK_MINUTES:g} min, {cycles:.1f} million cycles: memory {growth - 1:+.2%}, "
        f"{leak} descriptors",
    )


def growth_and_leak(looks: list[list[float]]) -> tuple[float, float]:
    """Return the largest memory late over that early, and the descriptors gained."""
    memory, descriptors = [look[1] for look in looks], [look[2] for look in looks]
    quarter = len(looks) // 4
    growth = max(memory[-quarter:]) / max(memory[:quarter])
    return growth, descriptors[-1] - descriptors[0]


def test_a_leak_would_be_seen() -> None:
    """Planted: a megabyte and a descriptor more at every look."""
    looks = [[k, 2e8 + k * 2**20, 6 + k, 1000 * k] for k in range(20)]
    growth, leak = growth_and_leak(looks)
    assert growth > 1.02
    assert leak == 19
