"""The long proofs: bytes changed at random, many writers at once, hours of cycles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import load_script
from builds import HELPERS
from experiment_samples import contents
from l63fast.storage import result_directory, verify_directory
from mutants import LOADERS, fuzz, originals_in
from storage_help import PACKAGE
from writer_jobs import leftovers

FUZZ_SECONDS = float(os.environ.get("L63FAST_FUZZ_SECONDS", "60"))
SOAK_MINUTES = float(os.environ.get("L63FAST_SOAK_MINUTES", "1"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return originals_in(tmp_path_factory.mktemp("originals"))


@pytest.mark.slow
@pytest.mark.promise("I20", "12 kinds of file, time-boxed: 0 undocumented errors")
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
