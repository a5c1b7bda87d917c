"""Promises F1 and F6 for everything that writes: kill -9 at random moments of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builds import HELPERS

KILLS = int(os.environ.get("L63FAST_KILLS", "100"))
# Of each hundred kills.
SHARES = {
    "dataset": 25,
    "shards": 15,
    "train": 15,
    "resumed": 15,
    "export": 15,
    "report": 15,
}


def killed(jobs: str, n: int, root: Path) -> list[dict]:
    """Return what was found when jobs were killed n times each."""
    script = HELPERS / "kill_script.py"
    done = subprocess.run(
        [sys.executable, str(script), jobs, str(n), str(root)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found: dict, record_property) -> None:
    assert found["bad"] == [], found
    assert found["left"] > 0.2 * found["kills"], "the kills must strike unfinished work"
    assert found["late"] < 0.8 * found["kills"], "the kills come too late"
    record_property(
        "measured", f"{found['kills']} kills of {found['job']}: 0 torn, missing or left"
    )


@pytest.mark.slow
@pytest.mark.parametrize("job", SHARES)
@pytest.mark.promise("F1", "L63FAST_KILLS kill -9 of six jobs: 0 torn, 0 missing")
@pytest.mark.promise("F6", "L63FAST_KILLS kill -9 of six jobs: 0 left")
@pytest.mark.promise("N7", "resumed after kill -9: equal sha256")
def test_kills_at_random_moments_of_every_job(
    job, memory_path, record_property
) -> None:
    n = max(KILLS * SHARES[job] // 100, 2)
    (found,) = killed(job, n, memory_path / "kills")
    check(found, record_property)


@pytest.mark.slow
@pytest.mark.promise("F1", "a writer that deletes first is caught")
def test_the_kills_would_find_a_torn_folder(memory_path) -> None:
    (found,) = killed("torn", 20, memory_path / "kills")
    assert len(found["bad"]) > 3
