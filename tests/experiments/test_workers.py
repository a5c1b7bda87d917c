"""Where tasks run: here or in workers, which are killed, poisoned, and have no door."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest

import cluster_help
from cluster_help import (
    busy,
    die,
    kill_writers,
    listening,
    pause,
    raise_no_traveller,
    touch_and_wait,
)
from experiment_samples import contents, particle_cells, run_without_tables, whole
from l63fast.errors import ConfigurationError, MissingPackageError
from l63fast.experiments.data import make_shards
from l63fast.experiments.tasks import (
    Done,
    InProcess,
    Pool,
    Progress,
    Scheduler,
    default_workers,
    executor,
    run_tasks,
    seconds_left,
)
from l63fast.twin import ShardSettings, TwinSettings

HELPERS = Path(cluster_help.__file__).parent
SCRIPT = f"""
import sys
sys.path.insert(0, {str(HELPERS)!r})
from functools import partial
from cluster_help import busy
from l63fast.experiments.tasks import executor

try:  # without a main guard
    with executor(2) as pool:
        for _ in pool.run({{name: partial(busy, sys.argv[1]) for name in "abc"}}):
            pass
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(scope="module")
def two() -> Iterator[Pool]:
    with executor(2) as pool:
        yield pool


def outcome_of(pool: Pool, task: Callable[[], Any]) -> Any:
    """Return the result or the error of one task."""
    [(_, outcome)] = pool.run({"task": task})
    return outcome


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


@pytest.mark.parametrize("n_workers", [1, 2])
def test_workers_of_this_machine_need_no_dask(n_workers: int) -> None:
    code = (
        "import sys\n"
        "from l63fast.experiments.runner import run_cells\n"
        "from l63fast.experiments.tasks import executor\n"
        f"with executor({n_workers}) as pool: assert dict(pool.run({{'a': int}}))\n"
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


def test_a_scheduler_without_dask_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith("distributed")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "l63fast.experiments.cluster", raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    with pytest.raises(MissingPackageError, match=r"distributed .*l63fast\[cluster\]"):
        executor(scheduler=Scheduler("tcp://127.0.0.1:1")).__enter__()


def test_a_scheduler_has_one_address() -> None:
    for wrong in ({}, {"address": "tls://a:1", "file": Path("b")}):
        with pytest.raises(ConfigurationError, match="either an address or"):
            Scheduler(**wrong)


@pytest.mark.promise("D3", "0 sockets, of any kind")
def test_workers_of_this_machine_have_no_door(two: Pool, tmp_path: Path) -> None:
    tasks = {name: partial(touch_and_wait, tmp_path) for name in "ab"}
    with ThreadPoolExecutor(1) as thread:
        outcomes = thread.submit(lambda: dict(two.run(tasks)))
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.02)
        doors = listening()
        (tmp_path / "go").touch()
        assert set(outcomes.result()) == {"a", "b"}
    assert doors == []  # so that 0 calls of anyone else are run
    assert two.n_workers == 2


@pytest.mark.promise("D1", "equal sha256")
def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    chosen = particle_cells(3, 100)
    serial = run_without_tables(chosen, tmp_path / "serial")
    with ThreadPoolExecutor(1) as thread:
        kills = thread.submit(kill_writers, tmp_path / "killed", 1)
        outcome = run_without_tables(chosen, tmp_path / "killed", n_workers=2)
    assert len(kills.result()) == 1
    assert outcome.failures == serial.failures == {}
    assert whole(tmp_path / "killed") == whole(tmp_path / "serial")
    left = [path.name for path in (tmp_path / "killed/tiny").glob(".*")]
    assert [name for name in left if not name.endswith("lock")] == []


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [2, 4])
@pytest.mark.promise("D1", "20 kill -9, equal sha256")
def test_twenty_killed_workers_change_nothing(tmp_path: Path, n_workers: int) -> None:
    chosen = particle_cells(24, 1500)
    serial = run_without_tables(chosen, tmp_path / "serial")
    with ThreadPoolExecutor(1) as thread:
        kills = thread.submit(kill_writers, tmp_path / "killed", 20, seconds=300)
        outcome = run_without_tables(chosen, tmp_path / "killed", n_workers=n_workers)
    assert len(kills.result()) == 20
    assert outcome.failures == serial.failures == {}
    assert whole(tmp_path / "killed") == whole(tmp_path / "serial")


@pytest.mark.slow
@pytest.mark.promise("D1", "a kill every 2 s through 200 cells: equal sha256")
def test_a_worker_killed_every_two_seconds_changes_nothing(
    tmp_path: Path, record_property
) -> None:
    chosen, stop = particle_cells(200, 500), Event()
    serial = run_without_tables(chosen, tmp_path / "serial")
    with ThreadPoolExecutor(1) as thread:
        kills = thread.submit(
            partial(kill_writers, calm=2.0, stop=stop, seconds=900.0),
            *(tmp_path / "killed", 1000),
        )
        start = time.monotonic()
        outcome = run_without_tables(chosen, tmp_path / "killed", n_workers=2)
        stop.set()
    n, seconds = len(kills.result()), time.monotonic() - start
    assert n >= 5
    assert outcome.failures == serial.failures == {}
    assert whole(tmp_path / "killed") == whole(tmp_path / "serial")
    often = f"{len(chosen)} cells, one in {seconds / n:.1f} s"
    record_property("measured", f"{n} kills in {often}: 0 differing bytes")


@pytest.mark.promise("D2", "named, the rest kept")
def test_a_task_that_kills_its_workers_is_named_and_the_rest_goes_on(
    two: Pool,
) -> None:
    # Beside it all the time, and not to blame.
    tasks = {"deadly": die, **{f"calm{k}": partial(pause, 0.3) for k in range(3)}}
    ended = []
    failures = run_tasks(two, tasks, Progress(lambda name, line: ended.append(name)))
    assert sorted(ended) == sorted(tasks)
    assert list(failures) == ["deadly"]
    assert ended[-1] == "deadly"  # tried again when all others have ended
    assert "its worker process died each time" in failures["deadly"]


def test_a_worker_that_is_killed_while_it_waits_costs_no_task(two: Pool) -> None:
    done = outcome_of(two, partial(pause, 0))
    os.kill(int(done.line), signal.SIGKILL)
    again = outcome_of(two, partial(pause, 0))
    assert int(again.line) != int(done.line)


def test_workers_at_work_end_with_the_pool_and_with_the_run(tmp_path: Path) -> None:
    tasks = {name: partial(busy, str(tmp_path)) for name in "ab"}
    with executor(2) as pool:
        outcomes = pool.run({"first": partial(pause, 0), **tasks})
        assert next(outcomes)[0] == "first"
        while not list(tmp_path.iterdir()):
            time.sleep(0.02)
    assert [p for p in psutil.Process().children() if "serve" in str(p.cmdline())] == []
    assert not any(running(int(path.name)) for path in tmp_path.iterdir())


def test_an_error_of_a_task_is_its_own(two: Pool) -> None:
    assert isinstance(outcome_of(two, partial(int, "x")), ValueError)
    assert outcome_of(two, partial(int, "3")) == 3
    assert "pickle" in str(outcome_of(two, lambda: 3))
    assert str(outcome_of(two, raise_no_traveller)) == "NoTraveller: of a lock"


def test_lines_of_a_task_arrive_before_its_end() -> None:
    heard: list[tuple[str, str]] = []
    with executor(2, say=lambda name, line: heard.append((name, line))) as pool:
        for name, _ in pool.run({"a": partial(pool.tell, "a", "half way")}):
            heard.append((name, "ended"))
    assert heard == [("a", "half way"), ("a", "ended")]


def test_shards_do_not_depend_on_who_makes_them(tmp_path: Path) -> None:
    settings = ShardSettings(TwinSettings(n_train=3000, n_steps=20), 6)
    make_shards(settings, tmp_path / "serial")
    make_shards(settings, tmp_path / "two", n_workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "serial")


# The time that is left


def test_the_time_left_is_that_of_tasks_that_were_run() -> None:
    def left(seconds: list[float], n_left: int, n_workers: int) -> float:
        ended = [("", s) for s in seconds]
        expected, is_least = seconds_left(ended, [""] * n_left, n_workers)
        assert not is_least
        return expected

    assert left([10.0], 0, 2) == 0.0
    assert left([10.0], 4, 1) == 40.0
    assert left([8.0, 12.0], 4, 1) == 40.0
    # Of four left, one runs beside and is half done: 3.5 tasks on two workers.
    assert left([10.0], 4, 2) == 17.5
    assert left([10.0], 1, 8) == 5.0


def test_the_time_left_is_that_of_tasks_of_their_kind() -> None:
    ended = [("gru", 100.0), ("3dvar", 2.0), ("gru", 120.0), ("enkf", 8.0)]
    assert seconds_left(ended, ["3dvar", "enkf"], 1) == (10.0, False)
    assert seconds_left(ended, ["3dvar", "gru"], 1) == (112.0, False)
    # The first of them runs beside; how long a new kind takes is not known.
    assert seconds_left(ended, ["gru", "3dvar", "pf"], 2) == (55.0, True)
    # Nothing can be shared of the one that is left for last.
    assert seconds_left(ended, ["3dvar", "gru"], 4) == (55.0, False)
    assert seconds_left(ended, ["3dvar", "gru"], 2) == (110.0, False)


def test_the_ledger_knows_which_tasks_are_alike() -> None:
    told: list[tuple[float, bool]] = []
    times = {"long-0": 100.0, "short-0": 2.0, "long-1": 100.0, "short-1": 2.0}
    tasks = {name: partial(Done, name, seconds) for name, seconds in times.items()}
    alike = {name: name.split("-")[0] for name in tasks}
    with executor(1) as pool:
        progress = Progress(left=lambda *left: told.append(left))
        run_tasks(pool, tasks, progress, alike)
    assert told == [(100.0, True), (102.0, False), (2.0, False), (0.0, False)]
    lines: list[str] = []
    with executor(1) as pool:
        run_tasks(pool, tasks, Progress.of_lines(lines.append, len(tasks)), alike)
    assert [line.partition("; ")[2] for line in lines] == [
        "more than 2 min left", "about 2 min left", "about 2 s left", "",
    ]  # fmt: skip


def test_kept_tasks_tell_nothing_about_the_time_left() -> None:
    told: list[float] = []
    notes: list[str] = []
    tasks = {
        "kept": lambda: Done("kept", None),
        "made": lambda: Done("made", 3.0),
        "last": lambda: Done("last", 5.0),
    }
    with executor(1) as pool:
        run_tasks(
            pool,
            tasks,
            Progress(
                lambda n, line: notes.append(line),
                lambda seconds, is_least: told.append(seconds),
            ),
        )
    assert notes == ["kept", "made", "last"]
    assert told == [3.0, 0.0]
