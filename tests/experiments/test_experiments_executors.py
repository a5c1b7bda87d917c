"""Where tasks run: in this process, or in workers that never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import util
from pathlib import Path

import pytest

from l63fast.errors import ConfigurationError
from l63fast.experiments import tasks
from l63fast.experiments.tasks import InProcess, Scheduler, default_workers, executor

SCRIPT = """
import os, sys, time
from functools import partial
from pathlib import Path
from l63fast.experiments.tasks import executor

def task(folder):
    Path(folder, str(os.getpid())).touch()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(range(10**5))

if __name__ == "__main__":
    try:
        with executor(2) as pool:
            for _ in pool.run({name: partial(task, sys.argv[1]) for name in "abc"}):
                pass
    except KeyboardInterrupt:
        sys.exit(130)
"""


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# Ctrl-C on a terminal reaches the whole group of processes, the others the parent.
@pytest.mark.parametrize(
    ("with_signal", "code"),
    [
        (signal.SIGKILL, -9),
        pytest.param(signal.SIGTERM, -15, marks=pytest.mark.slow),
        (signal.SIGINT, 130),
    ],
)
def test_workers_end_with_their_parent(tmp_path, with_signal, code) -> None:
    script, folder = tmp_path / "run.py", tmp_path / "pids"
    script.write_text(SCRIPT)
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in folder.iterdir()]
    assert len(workers) == 2
    assert all(running(pid) for pid in workers)
    send = os.killpg if with_signal == signal.SIGINT else os.kill
    send(parent.pid, with_signal)
    _, err = parent.communicate(timeout=30)
    while any(running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(running(pid) for pid in workers)
    assert parent.returncode == code
    if with_signal == signal.SIGINT:
        assert err == ""


def test_one_worker_is_this_process_and_errors_are_outcomes() -> None:
    with executor(1) as pool:
        assert isinstance(pool, InProcess)
        outcomes = dict(pool.run({"pid": os.getpid, "x": partial(int, "x")}))
    assert outcomes["pid"] == os.getpid()
    assert isinstance(outcomes["x"], ValueError)


def test_one_worker_needs_no_dask() -> None:
    code = (
        "import sys\n"
        "from l63fast.experiments.runner import run_cells\n"
        "from l63fast.experiments.tasks import executor\n"
        "with executor(1) as pool: assert dict(pool.run({'a': int})) == {'a': 0}\n"
        "print([name for name in ('dask', 'distributed') if name in sys.modules])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_no_more_workers_than_tasks_or_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert default_workers(10**6) == cores
    assert default_workers(1) == default_workers(0) == 1


def test_without_dask_there_is_one_worker_and_more_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(name: str) -> object:
        return None if name == "distributed" else util.find_spec(name)

    monkeypatch.setattr(tasks, "find_spec", find)
    assert default_workers(100) == 1
    command = r"pip install 'l63fast\[cluster\]'"
    with pytest.raises(ConfigurationError, match=f"2 workers: .*{command}"):
        executor(2).__enter__()
    with pytest.raises(ConfigurationError, match=f"a scheduler: .*{command}"):
        executor(scheduler=Scheduler("tcp://127.0.0.1:1")).__enter__()


def test_a_scheduler_has_one_address() -> None:
    for wrong in ({}, {"address": "tls://a:1", "file": Path("b")}):
        with pytest.raises(ConfigurationError, match="one of the two"):
            Scheduler(**wrong)
