"""Where cells run: in this process, or in workers that never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from l63fast.experiments.executors import InProcess, default_workers, executor

SCRIPT = """
import os, sys, time
from pathlib import Path
from l63fast.experiments.executors import executor

def task(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    with executor(2) as pool:
        futures = [pool.submit(task, sys.argv[1]) for _ in range(2)]
        for future in futures:
            future.result()
"""


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, with_signal) -> None:
    script, folder = tmp_path / "run.py", tmp_path / "pids"
    script.write_text(SCRIPT)
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(folder)])
    deadline = time.monotonic() + 30
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in folder.iterdir()]
    assert len(workers) == 2
    assert all(running(pid) for pid in workers)
    os.kill(parent.pid, with_signal)
    parent.wait(timeout=10)
    while any(running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(running(pid) for pid in workers)


def test_one_worker_is_this_process_and_errors_stay_in_their_future() -> None:
    with executor(1) as pool:
        assert isinstance(pool, InProcess)
        assert pool.submit(os.getpid).result() == os.getpid()
        failed = pool.submit(int, "x")
        assert isinstance(failed.exception(), ValueError)


def test_no_more_workers_than_tasks_or_cores() -> None:
    assert default_workers(1) == 1
    assert default_workers(10_000) == len(os.sched_getaffinity(0))
