"""Result directories as a whole, their partial siblings, and single files."""

from __future__ import annotations

import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from l63fast import storage
from l63fast.errors import ArgumentTypeError, DataFileError, ResultError
from storage_help import make, snapshot


def test_a_result_appears_as_a_whole_with_a_manifest(tmp_path):
    target = tmp_path / "new" / "root" / "Ergebnis mit Raum ü"
    with storage.result_directory(target) as directory:
        assert directory.parent == target.parent
        (directory / "a.txt").write_text("hello")
        (directory / "empty").mkdir()
        assert not target.exists()
    manifest = storage.verify_directory(target)
    assert manifest.files["a.txt"].size == 5
    assert manifest.files["a.txt"].sha256.startswith("2cf24dba5fb0a30e26e83b2ac5b9e29e")
    assert sorted(os.listdir(target)) == ["a.txt", "manifest.json"]
    assert os.listdir(target.parent) == [target.name]


def test_an_old_result_is_replaced_as_a_whole(tmp_path):
    make(tmp_path / "x")
    with storage.result_directory(tmp_path / "x") as directory:
        (directory / "c.txt").write_text("new")
        assert (tmp_path / "x" / "a.txt").read_text() == "old"
    assert set(storage.verify_directory(tmp_path / "x").files) == {"c.txt"}
    assert os.listdir(tmp_path) == ["x"]


def test_an_exception_leaves_the_old_result(tmp_path):
    make(tmp_path / "x")
    before = snapshot(tmp_path)

    def interrupted() -> None:
        with storage.result_directory(tmp_path / "x") as directory:
            (directory / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert snapshot(tmp_path) == before


def test_replace_and_kind_protect_what_is_there(tmp_path):
    make(tmp_path / "x", kind="twin")
    for options in ({"replace": False, "kind": "twin"}, {}):
        with (
            pytest.raises(ResultError, match=r"exists already|kind 'twin'"),
            storage.result_directory(tmp_path / "x", **options),
        ):
            pytest.fail("the body must not run")
    with storage.result_directory(tmp_path / "y", replace=False) as directory:
        (directory / "a").write_text("a")


def test_an_empty_directory_may_become_a_result(tmp_path):
    (tmp_path / "x").mkdir()
    make(tmp_path / "x")
    storage.verify_directory(tmp_path / "x")


def test_update_adds_to_a_copy(tmp_path):
    make(tmp_path / "x")
    with storage.update_directory(tmp_path / "x") as directory:
        (directory / "figures" / "c.txt").write_text("added")
        with open(directory / "a.txt", "r+") as file:
            file.write("changed in place")
        assert (tmp_path / "x" / "a.txt").read_text() == "old"
    manifest = storage.verify_directory(tmp_path / "x")
    assert set(manifest.files) == {"a.txt", "figures/b.txt", "figures/c.txt"}


def test_update_does_not_bless_a_damaged_result(tmp_path):
    make(tmp_path / "x")
    (tmp_path / "x" / "a.txt").write_text("OLD")
    with (
        pytest.raises(DataFileError, match=r"/x/a\.txt: is damaged"),
        storage.update_directory(tmp_path / "x"),
    ):
        pytest.fail("the body must not run")
    with (
        pytest.raises(DataFileError, match="does not exist"),
        storage.update_directory(tmp_path / "absent" / "y"),
    ):
        pytest.fail("the body must not run")
    assert os.listdir(tmp_path) == ["x"]


def test_update_does_not_bless_a_damaged_copy(tmp_path, monkeypatch):
    make(tmp_path / "x")
    monkeypatch.setattr(shutil, "copyfile", lambda old, new: new.write_text("OLD"))
    with (
        pytest.raises(DataFileError, match="is damaged"),
        storage.update_directory(tmp_path / "x"),
    ):
        pytest.fail("the body must not run")
    storage.verify_directory(tmp_path / "x")


def test_a_link_in_a_new_result_is_refused(tmp_path):
    make(tmp_path / "x")
    with (
        pytest.raises(DataFileError, match="'l \\(a link\\)'"),
        storage.result_directory(tmp_path / "x") as directory,
    ):
        (directory / "l").symlink_to("/etc/passwd")
    storage.verify_directory(tmp_path / "x")
    assert os.listdir(tmp_path) == ["x"]


def test_the_partial_directory_lives_until_success(tmp_path):
    def run(*, resume: bool, fail: bool) -> list[str]:
        with storage.result_directory(tmp_path / "x") as directory:
            partial = storage.partial_directory(tmp_path / "x", resume=resume)
            found = [p.name for p in partial.iterdir() if p.name == "checkpoint"]
            storage.write_bytes(partial / "checkpoint", b"state")
            (directory / "a").write_text("a")
            if fail:
                raise RuntimeError
        return found

    for _ in range(2):
        with pytest.raises(RuntimeError):
            run(resume=False, fail=True)
    assert os.listdir(tmp_path) == [".x.partial"]
    assert run(resume=True, fail=False) == ["checkpoint"]
    assert os.listdir(tmp_path) == ["x"]
    with pytest.raises(RuntimeError):
        run(resume=True, fail=True)
    with storage.update_directory(tmp_path / "x"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".x.partial", "x"]
    assert run(resume=False, fail=False) == []


@pytest.mark.promise("F6", "what is not ours is kept")
def test_a_foreign_partial_directory_is_not_discarded(tmp_path):
    (tmp_path / ".x.partial").mkdir()
    (tmp_path / ".x.partial" / "thesis").write_text("mine")
    with pytest.raises(ResultError, match="thesis"):
        storage.partial_directory(tmp_path / "x")
    assert (tmp_path / ".x.partial" / "thesis").read_text() == "mine"


def special_files(folder: Path) -> list[Path]:
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to(folder / "gone")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "zero").symlink_to("/dev/zero")
    return [folder, *(folder / n for n in ("fifo", "dangling", "loop", "zero", "gone"))]


@pytest.mark.parametrize(
    "read", [storage.read_file, storage.read_json, storage.read_dataset]
)
@pytest.mark.promise("I06", "FIFO, device, directory, dangling link")
def test_special_files_are_refused_at_once(tmp_path, read):
    for path in special_files(tmp_path):
        started = time.monotonic()
        with pytest.raises(DataFileError, match=str(path)):
            read(path)
        assert time.monotonic() - started < 1.0


def test_a_listed_file_replaced_by_a_special_one_is_refused(tmp_path):
    make(tmp_path / "x")
    (tmp_path / "x" / "a.txt").unlink()
    os.mkfifo(tmp_path / "x" / "a.txt")
    with pytest.raises(DataFileError, match=r"a\.txt"):
        storage.verify_directory(tmp_path / "x")
    with pytest.raises(DataFileError, match="got a FIFO"):
        storage.read_bytes(tmp_path / "x", "a.txt")


@pytest.mark.promise("I06", "unreadable")
def test_an_unreadable_file_is_a_data_file_error(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataFileError, match="a: cannot be read: Permission denied"):
        storage.read_file(tmp_path / "a")


def test_a_special_file_is_not_even_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(os, "open", lambda *arguments: pytest.fail("it was opened"))
    with pytest.raises(DataFileError, match="got a FIFO"):
        storage.read_file(tmp_path / "fifo")


def test_write_bytes_replaces_and_does_not_overwrite(tmp_path):
    storage.write_bytes(tmp_path / "a", b"old")
    os.link(tmp_path / "a", tmp_path / "same file")
    storage.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "same file").read_bytes() == b"old"


def test_write_bytes_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    storage.write_bytes(path, b"good")

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ResultError, match="No space left") as caught:
        storage.write_bytes(path, b"never")
    assert caught.value.errno == 28
    assert path.read_bytes() == b"good"
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_json_takes_numpy_and_hides_no_nan(tmp_path):
    path = tmp_path / "a.json"
    content = {"n": np.int64(3), "a": np.arange(2.0), "bad": [math.nan, -math.inf]}
    storage.write_json(path, {**content, "name": "é", "none": None, "t": (True, 0.1)})
    assert storage.read_json(path) == {
        "n": 3,
        "a": [0.0, 1.0],
        "bad": ["nan", "-inf"],
        "name": "é",
        "none": None,
        "t": [True, 0.1],
    }
    with pytest.raises(ArgumentTypeError, match="got set"):
        storage.write_json(path, {"a": {1}})
    path.write_text("{")
    with pytest.raises(DataFileError, match="not valid JSON"):
        storage.read_json(path)


def test_datasets_come_back_equal_and_chunked_by_trajectory(tmp_path):
    values = np.random.default_rng(0).normal(size=(300, 2001, 3))
    data = xr.Dataset({"truth": (("trajectory", "time", "component"), values)})
    storage.write_dataset(data, tmp_path / "a.nc")
    loaded = storage.read_dataset(tmp_path / "a.nc")
    assert loaded.identical(data)
    chunks = loaded["truth"].encoding["chunksizes"]
    assert chunks[0] < 300
    assert chunks[1:] == (2001, 3)


@pytest.mark.parametrize("keep", [0, 10, 3000, -1])
def test_a_broken_dataset_is_a_data_file_error(tmp_path, keep):
    path = tmp_path / "a.nc"
    storage.write_dataset(xr.Dataset({"a": ("n", np.arange(9000.0))}), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataFileError, match=r"a\.nc: is not readable as netCDF"):
        storage.read_dataset(path)
