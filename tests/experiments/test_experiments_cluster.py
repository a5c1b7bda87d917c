"""Workers of a dask cluster: killed, poisoned, unreachable, and closed to the world."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import MagicMock, Mock, patch

import psutil
import pytest

from cluster_help import (
    address_of,
    callbacks_of_this_worker,
    die,
    kill_writers,
    pause,
    touch_and_wait,
)
from experiment_samples import contents, tiny_cycled
from l63fast.errors import ClusterError, ConfigurationError, DataFileError
from l63fast.experiments import cluster, report
from l63fast.experiments.data import make_shards
from l63fast.experiments.runner import Outcome, run_cells
from l63fast.experiments.settings import Cell
from l63fast.experiments.tasks import (
    Done,
    Pool,
    Progress,
    Scheduler,
    executor,
    run_tasks,
    seconds_left,
)
from l63fast.twin import ShardSettings, TwinSettings

CLOSED = "tcp://127.0.0.1:9"  # nothing listens on the port for what is thrown away


@pytest.fixture(scope="module")
def two() -> Iterator[Pool]:
    with executor(2) as pool:
        yield pool


def outcome_of(pool: Pool, task: Callable[[], Any]) -> Any:
    """Return the result or the error of one task."""
    [(_, outcome)] = pool.run({"task": task})
    return outcome


def cells(n_methods: int, n_cycles: int) -> list[Cell]:
    methods = {
        f"pf{k}": {"scheme": "pf", "n_particles": 200 + k, "regularisation": 1.5}
        for k in range(n_methods)
    }
    cycles = {"n_cycles": n_cycles}
    return tiny_cycled("oi", "enkf", "pf", cycles=cycles, methods=methods).cells()


def run(chosen: list[Cell], root: Path, **where: Any) -> Outcome:
    """Run cells without their tables, which take longer than tiny cells."""
    with patch.object(report, "write_summary"):
        return run_cells(chosen, root / "tiny", **where)


def whole(root: Path) -> dict[str, dict[str, str]]:
    return {
        str(path.parent.relative_to(root)): contents(path.parent)
        for path in root.glob("**/manifest.json")
    }


@pytest.mark.promise("D3", "0 sockets beyond loopback")
def test_only_loopback_is_listened_on(two: Pool) -> None:
    assert isinstance(outcome_of(two, partial(pause, 0)), Done)
    here = psutil.Process()
    sockets = [
        socket
        for process in (here, *here.children(recursive=True))
        for socket in process.net_connections("inet")
    ]
    listening = [s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3  # the scheduler and two workers
    assert all(ip_address(ip).is_loopback for ip in listening)
    assert two.n_workers == 2
    assert 8787 not in {s.laddr.port for s in sockets}  # dask's dashboard


@pytest.mark.promise("D1", "equal sha256")
def test_a_killed_worker_changes_nothing(two: Pool, tmp_path: Path) -> None:
    chosen = cells(3, 100)
    serial = run(chosen, tmp_path / "serial")
    with ThreadPoolExecutor(1) as thread:
        kills = thread.submit(kill_writers, tmp_path / "killed", 1)
        outcome = run(chosen, tmp_path / "killed", scheduler=Scheduler(address_of(two)))
    assert len(kills.result()) == 1
    assert outcome.failures == serial.failures == {}
    assert whole(tmp_path / "killed") == whole(tmp_path / "serial")
    left = [path.name for path in (tmp_path / "killed/tiny").glob(".*")]
    assert [name for name in left if not name.endswith("lock")] == []


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [2, 4])
@pytest.mark.promise("D1", "20 kill -9, equal sha256")
def test_twenty_killed_workers_change_nothing(tmp_path: Path, n_workers: int) -> None:
    chosen = cells(24, 1500)
    serial = run(chosen, tmp_path / "serial")
    with ThreadPoolExecutor(1) as thread:
        kills = thread.submit(kill_writers, tmp_path / "killed", 20, seconds=300)
        outcome = run(chosen, tmp_path / "killed", n_workers=n_workers)
    assert len(kills.result()) == 20
    assert outcome.failures == serial.failures == {}
    assert whole(tmp_path / "killed") == whole(tmp_path / "serial")


@pytest.mark.slow
@pytest.mark.promise("D1", "a kill every 2 s through 200 cells: equal sha256")
def test_a_worker_killed_every_two_seconds_changes_nothing(
    tmp_path: Path, record_property
) -> None:
    chosen, stop = cells(200, 500), Event()
    serial = run(chosen, tmp_path / "serial")
    with ThreadPoolExecutor(1) as thread:
        kills = thread.submit(
            partial(kill_writers, calm=2.0, stop=stop, seconds=900.0),
            *(tmp_path / "killed", 1000),
        )
        start = time.monotonic()
        outcome = run(chosen, tmp_path / "killed", n_workers=2)
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
    assert "its worker process died each time" in failures["deadly"]


def test_a_task_does_not_outlive_the_worker_that_is_asked_to_close(
    tmp_path: Path,
) -> None:
    def at_work() -> set[int]:
        return {int(path.name) for path in tmp_path.iterdir() if path.name != "go"}

    with executor(2) as pool, ThreadPoolExecutor(1) as thread:
        told = thread.submit(outcome_of, pool, partial(touch_and_wait, tmp_path))
        while not at_work():
            time.sleep(0.02)
        (first,) = at_work()
        workers = pool._client.cluster  # type: ignore[attr-defined]
        (nanny,) = (n for n in workers.workers.values() if n.pid == first)
        workers.loop.add_callback(nanny.close)
        while len(at_work()) < 2:  # it is tried again
            time.sleep(0.02)
        outlives = psutil.pid_exists(first) and (
            psutil.Process(first).status() != psutil.STATUS_ZOMBIE
        )
        (tmp_path / "go").touch()
        assert told.result(60) == Done("went on", None)
    assert not outlives


def test_an_error_of_a_task_is_its_own(two: Pool) -> None:
    assert isinstance(outcome_of(two, partial(int, "x")), ValueError)
    assert outcome_of(two, partial(int, "3")) == 3


@pytest.mark.parametrize("lost", ["cluster", "client"])
def test_a_cluster_that_is_lost_fails_its_tasks(lost: str, tmp_path: Path) -> None:
    with executor(2) as mine, executor(scheduler=Scheduler(address_of(mine))) as pool:
        tasks = {name: partial(touch_and_wait, tmp_path) for name in "abc"}
        with ThreadPoolExecutor(1) as thread:
            outcomes = thread.submit(lambda: list(pool.run(tasks)))
            while not list(tmp_path.iterdir()):
                time.sleep(0.02)
            if lost == "cluster":
                mine._client.shutdown()  # type: ignore[attr-defined]
            else:
                pool._client.close()  # type: ignore[attr-defined]
            told = outcomes.result(timeout=60)
    assert sorted(name for name, _ in told) == ["a", "b", "c"]  # none of them twice
    assert all(isinstance(outcome, ClusterError) for _, outcome in told), told


def test_tasks_of_a_client_that_says_nothing_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = Mock(status="closed")  # at times dask's futures stay pending for ever
    ended = Mock(has_ready=lambda: False)
    monkeypatch.setattr(cluster.distributed, "as_completed", lambda loop: ended)
    tasks = dict.fromkeys("ab", partial(int, "3"))
    told = list(cluster.DaskPool(silent).run(tasks))
    assert [name for name, _ in told] == ["a", "b"]
    assert all(isinstance(outcome, ClusterError) for _, outcome in told)


def test_a_result_that_a_closed_client_has_lost_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Mock(status="running")
    sent = Mock(status="finished", client=client, cancelled=lambda: False)

    def submit(*arguments: Any, key: str) -> Mock:
        sent.key = key
        return sent

    def result(timeout: float) -> None:
        client.status = "closed"
        raise TimeoutError

    client.submit, sent.result = submit, result
    ended = MagicMock(has_ready=lambda: True)
    ended.__next__.return_value = sent
    monkeypatch.setattr(cluster.distributed, "as_completed", lambda loop: ended)
    assert isinstance(outcome_of(cluster.DaskPool(client), int), ClusterError)


def test_no_profiler_holds_the_frames_of_a_task(two: Pool) -> None:
    # torch.export fails at times under one: a tensor of the trace that lives on is
    # taken for a constant.
    assert "profile" not in outcome_of(two, callbacks_of_this_worker)


def test_shards_do_not_depend_on_who_makes_them(two: Pool, tmp_path: Path) -> None:
    settings = ShardSettings(TwinSettings(n_train=3000, n_steps=20), 6)
    make_shards(settings, tmp_path / "serial")
    make_shards(settings, tmp_path / "two", scheduler=Scheduler(address_of(two)))
    assert contents(tmp_path / "two") == contents(tmp_path / "serial")


def test_a_scheduler_file_leads_to_the_workers(two: Pool, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.touch()
    with ThreadPoolExecutor(1) as thread:
        later = thread.submit(  # a batch job opens it when it starts, and writes it
            lambda: (time.sleep(0.3), file.write_text(json.dumps({"address": there})))
        )
        there = address_of(two)
        with executor(scheduler=Scheduler(file=file)) as pool:
            assert outcome_of(pool, partial(int, "3")) == 3
        later.result()
    file.write_text("{}")
    with pytest.raises(DataFileError, match="not a scheduler file"):
        executor(scheduler=Scheduler(file=file)).__enter__()


@pytest.mark.promise("I19", "an error in time")
def test_a_scheduler_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cluster.PATIENCE < 10
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with pytest.raises(ClusterError, match="no dask scheduler answers"):
        executor(scheduler=Scheduler(CLOSED)).__enter__()
    with pytest.raises(DataFileError, match="nowhere"):
        executor(scheduler=Scheduler(file=tmp_path / "nowhere")).__enter__()


@pytest.mark.parametrize("address", ["tcp://192.0.2.7:8786", "192.0.2.7:8786"])
@pytest.mark.promise("D3", "refused unless asked")
def test_another_machine_without_tls_is_refused_unless_asked(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"without TLS.*--insecure"):
        executor(scheduler=Scheduler(address)).__enter__()
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with pytest.raises(ClusterError):  # it is tried, and there is no such machine
        executor(scheduler=Scheduler(address, insecure=True)).__enter__()


def test_tls_without_certificates_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"TLS needs .*client\.cert"):
        executor(scheduler=Scheduler("tls://127.0.0.1:9")).__enter__()


@pytest.mark.parametrize("address", ["ucx://a:1", "node7", "tcp://a:b:c"])
@pytest.mark.promise("I19", "a table of addresses")
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises((ConfigurationError, ClusterError), match="scheduler"):
        executor(scheduler=Scheduler(address)).__enter__()


def test_the_time_left_is_that_of_tasks_that_were_run() -> None:
    def left(seconds: list[float], n_left: int, n_workers: int) -> float:
        return seconds_left([("", s) for s in seconds], [""] * n_left, n_workers)

    assert left([10.0], 0, 2) == 0.0
    assert left([10.0], 4, 1) == 40.0
    assert left([8.0, 12.0], 4, 1) == 40.0
    # Of four left, one runs beside and is half done: 3.5 tasks on two workers.
    assert left([10.0], 4, 2) == 17.5
    assert left([10.0], 1, 8) == 5.0


def test_the_time_left_is_that_of_tasks_of_their_kind() -> None:
    ended = [("gru", 100.0), ("3dvar", 2.0), ("gru", 120.0), ("enkf", 8.0)]
    assert seconds_left(ended, ["3dvar", "enkf"], 1) == 10.0
    assert seconds_left(ended, ["3dvar", "gru"], 1) == 112.0
    # The first of them runs beside; a new kind takes as long as all do in the mean.
    assert seconds_left(ended, ["gru", "3dvar", "pf"], 2) == 57.5
    # Nothing can be shared of the one that is left for last.
    assert seconds_left(ended, ["3dvar", "gru"], 4) == 55.0
    assert seconds_left(ended, ["3dvar", "gru"], 2) == 110.0


def test_the_ledger_knows_which_tasks_are_alike() -> None:
    told: list[float] = []
    times = {"long-0": 100.0, "short-0": 2.0, "long-1": 100.0, "short-1": 2.0}
    tasks = {name: partial(Done, name, seconds) for name, seconds in times.items()}
    alike = {name: name.split("-")[0] for name in tasks}
    with executor(1) as pool:
        run_tasks(pool, tasks, Progress(left=told.append), alike)
    assert told == [300.0, 102.0, 2.0, 0.0]


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
            pool, tasks, Progress(lambda n, line: notes.append(line), told.append)
        )
    assert notes == ["kept", "made", "last"]
    assert told == [3.0, 0.0]
