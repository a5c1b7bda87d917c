"""Workers of a dask cluster: poisoned, absent, blind, unreachable, and its doors."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from cluster_help import dask_cluster, die, intrude, listening, pause, touch_and_wait
from experiment_samples import particle_cells, run_without_tables, whole
from l63fast.errors import ClusterError, ConfigurationError, DataFileError, ResultError
from l63fast.experiments import cluster, data, runner
from l63fast.experiments.data import make_shards
from l63fast.experiments.tasks import (
    Pool,
    Progress,
    Scheduler,
    executor,
    require_seen,
    run_tasks,
)
from l63fast.twin import ShardSettings, TwinSettings

CLOSED = "tcp://127.0.0.1:9"  # nothing listens on the port for what is thrown away


def at(there: Any) -> Scheduler:
    return Scheduler(there.scheduler_address)


@pytest.fixture(scope="module")
def ours() -> Iterator[Any]:
    with dask_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def pool(ours: Any) -> Iterator[Pool]:
    with executor(scheduler=at(ours)) as pool:
        yield pool


def outcome_of(pool: Pool, task: Callable[[], Any]) -> Any:
    """Return the result or the error of one task."""
    [(_, outcome)] = pool.run({"task": task})
    return outcome


def test_an_intruder_comes_in_where_there_is_a_door(ours: Any) -> None:
    # What proves that workers of our own have none would see one.
    host, port = ours.scheduler_address.removeprefix("tcp://").split(":")
    assert (host, int(port)) in listening()
    assert intrude([(host, int(port))]) == 1


def test_a_cluster_gives_the_bytes_of_one_process(ours: Any, tmp_path: Path) -> None:
    chosen = particle_cells(3, 100)
    serial = run_without_tables(chosen, tmp_path / "serial")
    outcome = run_without_tables(chosen, tmp_path / "two", scheduler=at(ours))
    settings = ShardSettings(TwinSettings(n_train=3000, n_steps=20), 6)
    make_shards(settings, tmp_path / "serial/big")
    make_shards(settings, tmp_path / "two/big", scheduler=at(ours))
    assert outcome.failures == serial.failures == {}
    assert whole(tmp_path / "two") == whole(tmp_path / "serial")


@pytest.mark.promise("D2", "named, the rest kept, on a cluster")
def test_a_task_that_kills_its_workers_is_named_and_the_rest_goes_on(
    pool: Pool,
) -> None:
    # Beside it all the time, and not to blame.
    tasks = {"deadly": die, **{f"calm{k}": partial(pause, 0.3) for k in range(3)}}
    ended = []
    failures = run_tasks(pool, tasks, Progress(lambda name, line: ended.append(name)))
    assert sorted(ended) == sorted(tasks)
    assert list(failures) == ["deadly"]
    assert "its worker process died each time" in failures["deadly"]


def test_an_error_of_a_task_is_its_own(pool: Pool) -> None:
    assert isinstance(outcome_of(pool, partial(int, "x")), ValueError)
    assert outcome_of(pool, partial(int, "3")) == 3


def test_lines_of_a_task_arrive(ours: Any) -> None:
    heard: list[tuple[str, str]] = []
    with executor(1, at(ours), lambda name, line: heard.append((name, line))) as pool:
        outcome_of(pool, partial(pool.tell, "a", "half way"))
        end = time.monotonic() + 10
        while not heard and time.monotonic() < end:
            time.sleep(0.02)
    assert heard == [("a", "half way")]


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["cluster", "client"])
def test_a_cluster_that_is_lost_fails_its_tasks(lost: str, tmp_path: Path) -> None:
    with dask_cluster(1) as mine, executor(scheduler=at(mine)) as pool:
        tasks = {name: partial(touch_and_wait, tmp_path) for name in "abc"}
        with ThreadPoolExecutor(1) as thread:
            outcomes = thread.submit(lambda: list(pool.run(tasks)))
            while not list(tmp_path.iterdir()):
                time.sleep(0.02)
            if lost == "cluster":
                mine.close()
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
    told = list(cluster.DaskPool(silent, Mock()).run(tasks))
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
    assert isinstance(outcome_of(cluster.DaskPool(client, Mock()), int), ClusterError)


def test_a_scheduler_file_leads_to_the_workers(ours: Any, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.touch()
    with ThreadPoolExecutor(1) as thread:
        later = thread.submit(  # a batch job opens it when it starts, and writes it
            lambda: (time.sleep(0.3), file.write_text(json.dumps({"address": there})))
        )
        there = ours.scheduler_address
        with executor(scheduler=Scheduler(file=file)) as pool:
            assert outcome_of(pool, partial(int, "3")) == 3
        later.result()
    file.write_text("{}")
    with pytest.raises(DataFileError, match="expected a scheduler file"):
        executor(scheduler=Scheduler(file=file)).__enter__()


@pytest.mark.promise("I19", "an error in time")
def test_a_scheduler_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cluster.PATIENCE < 10
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with pytest.raises(ClusterError, match="no dask scheduler answers"):
        executor(scheduler=Scheduler(CLOSED)).__enter__()


def test_a_scheduler_file_is_waited_for_and_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert (cluster.FILE_PATIENCE, cluster.REMINDER) == (120.0, 30.0)
    monkeypatch.setattr(cluster, "FILE_PATIENCE", 0.5)
    monkeypatch.setattr(cluster, "REMINDER", 0.2)
    heard: list[tuple[str, str]] = []
    nowhere = Scheduler(file=tmp_path / "nowhere")
    with pytest.raises(DataFileError, match="nowhere"):
        executor(1, nowhere, lambda name, line: heard.append((name, line))).__enter__()
    assert set(heard) == {
        ("cluster", f"no scheduler has written {tmp_path / 'nowhere'} yet (0 s)")
    }


def test_a_cluster_without_workers_says_so_until_one_joins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "REMINDER", 0.3)
    heard: list[str] = []
    with dask_cluster(0) as empty:

        def say(name: str, line: str) -> None:
            heard.append(line)
            empty.scale(1)

        with executor(1, at(empty), say) as pool:
            assert outcome_of(pool, partial(int, "3")) == 3
    assert heard[0] == "the cluster has no worker yet (0 s)"


def test_a_worker_that_does_not_see_the_results_is_named(
    pool: Pool, ours: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = partial(require_seen, tmp_path / "elsewhere")
    what = f"does not see {tmp_path / 'elsewhere'}: .*all workers share"
    assert re.search(what, str(outcome_of(pool, hidden)))
    # What a run hands to workers begins with it.
    monkeypatch.setattr(runner, "require_seen", Mock(side_effect=ClusterError("blind")))
    monkeypatch.setattr(data, "require_seen", Mock(side_effect=ClusterError("blind")))
    with pytest.raises(ClusterError, match="data xyz: blind"):
        run_without_tables(particle_cells(1, 10), tmp_path)
    with pytest.raises(ResultError, match="blind"):
        make_shards(
            ShardSettings(TwinSettings(n_train=9, n_steps=20), 1), tmp_path / "s"
        )


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
