"""Promises F1, F3, F5, F6: kills, faults, full disks, and the lock."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from l63fast import storage
from l63fast.errors import LockedError, ResultError
from l63fast.storage import directories
from storage_help import crash, make, python, snapshot


@pytest.mark.promise("F1", "0 torn, 0 missing in 100 kill -9")
@pytest.mark.promise("F6", "0 left")
def test_kill_leaves_a_complete_result_and_no_leftovers(memory_path):
    found = crash("kills", "100", memory_path)
    assert found["missing"] == found["torn"] == found["left_at_end"] == 0
    assert found["left"] > 20, "the kills must have come while a result was written"
    assert found["changes"] > 20
    assert found["last"] == 7


@pytest.mark.promise("F1", "delete-then-write is caught")
def test_the_kills_would_find_a_torn_result(memory_path):
    found = crash("naive", "50", memory_path)
    assert found["missing"] + found["torn"] > 10


@pytest.mark.slow
@pytest.mark.promise("F1", "0 torn, 0 missing in 1,000 kill -9")
def test_a_thousand_kills(memory_path):
    found = crash("kills", "1000", memory_path)
    assert found["missing"] == found["torn"] == found["left_at_end"] == 0


@pytest.mark.promise("F1", "0 unrecovered")
def test_a_stop_at_every_system_call(memory_path):
    found = crash("steps", "exchange", memory_path)
    assert set(found["seen"]) == {"0", "1"}
    assert found["seen"]["0"] > 10
    assert found["seen"]["1"] > 5
    assert found["unrecovered"] == []


@pytest.mark.promise("F1", "0 unrecovered")
def test_a_stop_at_every_system_call_where_directories_do_not_swap(memory_path):
    found = crash("steps", "aside", memory_path)
    assert found["seen"]["missing"] == 1, "between the two renames, and only there"
    assert found["unrecovered"] == []


@pytest.mark.parametrize("how", ["exchange", "aside"])
@pytest.mark.promise("F3", "old or new after each, never an abort")
def test_a_full_disk_at_every_system_call(memory_path, how):
    found = crash("faults", how, memory_path)
    assert found["bad"] == []
    # 2: our error with errno; 4: the body's own error; 5: a call that may fail.
    assert set(found["codes"]) <= {"0", "2", "4", "5"}
    assert found["codes"]["2"] > 30


def test_without_exchange_the_old_result_comes_back_if_the_rename_fails(
    tmp_path, monkeypatch
):
    make(tmp_path / "x")
    monkeypatch.setattr(directories, "exchange", lambda first, second: False)
    make(tmp_path / "x", "new")
    assert (tmp_path / "x" / "a.txt").read_text() == "new"
    real = os.rename

    def refuse(source, target):
        if Path(source).suffix == ".writing" and Path(target).name == "x":
            raise PermissionError(1, "not now")
        real(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(ResultError, match="cannot finish the result: not now"):
        make(tmp_path / "x", "newer")
    assert (tmp_path / "x" / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["x"]


def test_exchange_says_where_it_cannot(tmp_path):
    with pytest.raises(FileNotFoundError):
        directories.exchange(tmp_path / "a", tmp_path / "b")


@pytest.mark.promise("F3", "RLIMIT_FSIZE: bytes and HDF5")
def test_files_beyond_a_limit_are_a_clean_error(memory_path):
    """A quota met while writing bytes and a data set (HDF5 has buffers of its own)."""
    make(memory_path / "x")
    before = snapshot(memory_path)
    code = """
import resource, sys
from pathlib import Path
import numpy as np, xarray as xr
from l63fast import storage
from l63fast.errors import ResultError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for number in range(2):
    try:
        with storage.result_directory(sys.argv[1]) as directory:
            if number:
                storage.write_bytes(directory / "big", bytes(200_000))
            else:
                data = xr.Dataset({"a": (("n", "t"), np.zeros((100, 1000)))})
                storage.write_dataset(data, directory / "big.nc")
    except ResultError as error:
        print(type(error).__name__, "cannot write" in str(error))
"""
    child = python("-c", code, str(memory_path / "x"))
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert output == "ResultError True\n" * 2, "a library added lines of its own"
    assert snapshot(memory_path) == before


def test_an_error_of_the_body_is_passed_on(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        storage.result_directory(tmp_path / "x"),
    ):
        _ = 1 / 0
    assert os.listdir(tmp_path) == []


def test_a_parent_that_cannot_be_made_is_a_clean_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ResultError, match=r"cannot (make|be used)"),
        storage.result_directory(tmp_path / "file" / "x"),
    ):
        pytest.fail("the body must not run")


HOLD = """
import sys, time
from l63fast import storage
with storage.result_directory(sys.argv[1]) as directory:
    (directory / "a").write_text("a")
    print("holding", flush=True)
    time.sleep(60)
"""


@pytest.mark.promise("F5", "1 s, pid and since")
def test_a_second_writer_is_told_who_holds_the_lock(tmp_path):
    holder = python("-c", HOLD, str(tmp_path / "x"))
    assert holder.stdout.readline() == "holding\n"
    started = time.monotonic()
    with pytest.raises(LockedError, match=f"process {holder.pid} since 2") as caught:
        make(tmp_path / "x")
    assert time.monotonic() - started < 1.0
    assert caught.value.pid == holder.pid
    make(tmp_path / "y")  # another result beside it is free
    [working] = tmp_path.glob(".x.*.writing")
    assert (working / "a").exists(), "a run in progress is not swept"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    make(tmp_path / "x")
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


def test_the_lock_holds_within_one_process(tmp_path):
    with (
        storage.result_directory(tmp_path / "x"),
        pytest.raises(LockedError, match=str(os.getpid())),
    ):
        make(tmp_path / "x")


@pytest.mark.promise("F5", "no stale lock")
def test_a_forked_worker_does_not_keep_the_lock_of_its_killed_parent(tmp_path):
    code = """
import os, sys, time
from l63fast import storage
with storage.result_directory(sys.argv[1]):
    worker = os.fork()
    if worker == 0:
        os.close(1)
        time.sleep(60)
    print(worker, flush=True)
    time.sleep(60)
"""
    holder = python("-c", code, str(tmp_path / "x"))
    worker = int(holder.stdout.readline())
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    try:
        make(tmp_path / "x")
    finally:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("content", ["precious", '{"pid": 1}', "[]"])
def test_a_foreign_file_in_the_place_of_the_lock_is_kept(tmp_path, content):
    lock = tmp_path / ".x.l63fast-lock"
    lock.write_text(content)
    with pytest.raises(ResultError, match="expected a lock of l63fast"):
        make(tmp_path / "x")
    make(tmp_path / "y")
    assert lock.read_text() == content


def test_a_lock_that_is_a_link_or_a_fifo_is_refused(tmp_path):
    (tmp_path / "victim").write_text("")
    (tmp_path / ".x.l63fast-lock").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / ".y.l63fast-lock")
    for name in ("x", "y"):
        with pytest.raises(ResultError):
            make(tmp_path / name)
    assert (tmp_path / "victim").read_text() == ""
