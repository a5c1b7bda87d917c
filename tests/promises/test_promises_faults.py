"""Promises F1, F3, F6: real writers, a fault at every k-th write, fsync and rename."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builds import HELPERS, output, tool


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    source = HELPERS.parent / "native" / "faults.c"
    output(tool("gcc"), "-shared", "-fPIC", "-O1", source, "-o", path, "-ldl")
    return path


def met(writers: str, stride: int, root: Path, library: Path) -> list[dict]:
    """Return what was found when writers met a fault at every so many calls."""
    script = HELPERS / "fault_script.py"
    done = subprocess.run(
        [sys.executable, str(script), writers, str(stride), str(root)],
        env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # The netCDF library adds lines of its own where a file cannot be closed.
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


@pytest.mark.promise("F1", "killed at every k-th write, fsync, rename: 0 torn")
@pytest.mark.promise("F3", "full disk at every k-th write, fsync, rename: 0 torn")
@pytest.mark.promise("F6", "0 left after the next start")
@pytest.mark.promise("I07", "full disk: old result and checkpoint intact, one sentence")
@pytest.mark.parametrize(
    ("writers", "stride"),
    [
        ("bytes", 5),
        ("dataset", 53),
        pytest.param("bytes,dataset,shards", 1, marks=pytest.mark.slow),
        pytest.param("train", 1, marks=pytest.mark.slow),
        pytest.param("resumed", 5, marks=pytest.mark.slow),
        pytest.param("export", 1, marks=pytest.mark.slow),
        pytest.param("experiment", 3, marks=pytest.mark.slow),
        pytest.param("figures,report", 23, marks=pytest.mark.slow),
    ],
)
def test_a_fault_at_every_system_call_leaves_a_whole_result(
    writers, stride, memory_path, library, record_property
) -> None:
    all_found = met(writers, stride, memory_path / "faults", library)
    assert len(all_found) == 2 * len(writers.split(","))
    for found in all_found:
        assert found["bad"] == [], found
        assert found["left"] == [], found
        assert found["same_files"], found
        struck = found["counts"].get("2" if found["mode"] == "full" else "9", 0)
        assert struck > 1, "the faults must have come while something was written"
    n = sum(sum(found["counts"].values()) for found in all_found)
    record_property("measured", f"{writers}: {n} faults, 0 torn, left or unclear")
