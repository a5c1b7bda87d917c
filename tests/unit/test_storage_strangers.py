"""Promise F4: only what we made is deleted; dangerous places are refused."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import warnings
from pathlib import Path

import pytest
import xarray as xr

from l63fast import storage
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DataFileError,
    L63Warning,
    LockedError,
    ResultError,
)
from l63fast.storage import directories
from storage_help import make, snapshot


def plant_random_tree(rng: random.Random, folder: Path, outside: Path) -> bool:
    """Fill `folder` with ours and strangers; return whether all of it is ours."""
    ours = rng.random() < 0.7
    if ours:
        make(folder)
        for name in ("a.txt", "figures/b.txt"):
            if rng.random() < 0.2:
                (folder / name).unlink()  # a damaged result of ours stays ours
    else:
        folder.mkdir()
    places = [folder, folder / "figures"] if ours else [folder]
    for number in range(rng.choice([0, 0, 1, 3])):
        path = rng.choice(places) / f"s{number}"
        kind = rng.choice(["file", "folder", "link", "dangling", "folder link", "fifo"])
        if kind == "file":
            path.write_text("precious")
        elif kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            goal = {"link": outside / "file", "folder link": outside}
            path.symlink_to(goal.get(kind, outside / "gone"))
        ours = False
    if ours and rng.random() < 0.3:
        name = rng.choice(["a.txt", "figures"])
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside if name == "figures" else outside / "file")
        ours = False
    return ours or not os.listdir(folder)


def elsewhere(found: dict[str, tuple], target: Path) -> dict[str, tuple]:
    return {name: what for name, what in found.items() if str(target) not in name}


@pytest.mark.parametrize("n_trees", [150, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.promise("F4", "150 random trees by default, 1,000 slow")
def test_only_what_we_made_is_ever_deleted(memory_path, n_trees):
    rng = random.Random(3)
    outside = memory_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    replaced = 0
    for number in range(n_trees):
        target = memory_path / "results" / f"r{number}"
        target.parent.mkdir(exist_ok=True)
        ours = plant_random_tree(rng, target, outside)
        kind = rng.choice(["writing", "old"])
        sibling = target.with_name(f".r{number}.{kind}")
        is_planted = rng.random() < 0.2
        if is_planted:
            sibling.mkdir()
            (sibling / "precious").write_text("precious")
        before = snapshot(memory_path)
        try:
            with warnings.catch_warnings(record=True, action="always") as warned:
                make(target, "new")
        except ResultError:
            assert not ours
            assert snapshot(memory_path) == before
        else:
            assert ours
            assert len(warned) == is_planted
            replaced += 1
            after = snapshot(memory_path)
            assert elsewhere(after, target) == elsewhere(before, target)
            storage.verify_directory(target)
        shutil.rmtree(memory_path / "results")
    assert 0.2 < replaced / n_trees < 0.8, "both outcomes must have been tried"


@pytest.mark.promise("F4", "strangers are named")
def test_strangers_are_named(tmp_path):
    make(tmp_path / "x")
    (tmp_path / "x" / "thesis.tex").write_text("")
    (tmp_path / "x" / "figures" / "kept").mkdir()
    with pytest.raises(ResultError, match=r"'figures/kept/', 'thesis\.tex'"):
        make(tmp_path / "x")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "photo.jpg").write_text("")
    with pytest.raises(ResultError, match=r"photo\.jpg"):
        make(tmp_path / "y")


def test_a_directory_that_became_a_link_is_not_followed(tmp_path):
    """The names below the link are exactly those that the manifest lists."""
    make(tmp_path / "x")
    (tmp_path / "x" / "figures").rename(tmp_path / "elsewhere")
    (tmp_path / "x" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResultError, match=r"figures .a link"):
        make(tmp_path / "x", "new")
    assert (tmp_path / "elsewhere" / "b.txt").read_text() == "old"
    with pytest.raises(DataFileError, match=r"figures .a link"):
        storage.verify_directory(tmp_path / "x")


def test_a_stranger_that_comes_while_a_result_is_made_is_kept(tmp_path):
    make(tmp_path / "x")
    with (
        pytest.raises(ResultError, match=r"notes\.txt"),
        storage.result_directory(tmp_path / "x"),
    ):
        (tmp_path / "x" / "notes.txt").write_text("mine")
    assert (tmp_path / "x" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "x" / "a.txt").read_text() == "old"


@pytest.mark.promise("I14", "nothing is made")
def test_dangerous_directories_are_refused(tmp_path, monkeypatch):
    home, here = tmp_path / "users" / "me", tmp_path / "here" / "below"
    for path in (home, here, tmp_path / "repository" / ".git", tmp_path / "real"):
        path.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    before = snapshot(tmp_path)
    dangerous = [
        "/",
        "~",
        ".",
        "..",
        "../..",
        "a/..",
        "./",
        "/proc",
        str(home),
        "/tmp/..",
    ]
    dangerous += [str(home.parent), str(tmp_path), str(here), str(here.parent)]
    dangerous += [str(tmp_path / name) for name in ("repository", "link", "dangling")]
    for path in dangerous:
        for give in (storage.result_directory, storage.update_directory):
            with pytest.raises(ResultError), give(path):
                pytest.fail(f"{path} was accepted")
        with pytest.raises(ResultError):
            storage.partial_directory(path)
    assert snapshot(tmp_path) == before
    make(Path("~/results/x"))
    assert (home / "results" / "x" / "a.txt").exists()
    make(tmp_path / "link" / "x")
    assert (tmp_path / "real" / "x" / "a.txt").exists()


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\0b", "x" * 300, "é" * 101, ".x.writing", ".x.partial"]
)
@pytest.mark.promise("I15", "nothing is made")
def test_bad_names_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentValueError), storage.result_directory(name):
        pytest.fail("the name was accepted")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", [None, 3, b"bytes", ["x"]])
def test_a_path_must_be_a_path(path):
    with pytest.raises(ArgumentTypeError), storage.result_directory(path):
        pytest.fail("the path was accepted")


@pytest.mark.promise("F4", "nothing is written inside a finished result")
def test_a_folder_inside_a_result_is_refused(tmp_path):
    make(tmp_path / "x")
    before = snapshot(tmp_path)
    for inner in ("y", "figures", "figures/y", "new/y"):
        for give in (storage.result_directory, storage.update_directory):
            refused = pytest.raises(ResultError, match="is inside the result")
            with refused, give(tmp_path / "x" / inner):
                pytest.fail(f"{inner} was accepted")
    assert snapshot(tmp_path) == before
    (tmp_path / "manifest.json").write_text('{"name": "a page of somebody\'s"}')
    make(tmp_path / "y")


@pytest.mark.promise("F4", "a copy or a result under the name of a leftover is kept")
@pytest.mark.parametrize("number", ["", "17."])
@pytest.mark.parametrize("kind", ["old", "writing"])
@pytest.mark.parametrize("is_there", [False, True])
def test_what_only_has_the_name_of_a_leftover_is_kept(tmp_path, number, kind, is_there):
    make(tmp_path / "x")
    name = tmp_path / f".x.{number}{kind}"
    (shutil.copytree if is_there else os.rename)(tmp_path / "x", name)
    before = snapshot(name)
    make(tmp_path / "neighbour")
    with pytest.warns(L63Warning, match=rf"\.x\.{number}{kind}: is left alone"):
        make(tmp_path / "x", "new")
    assert snapshot(name) == before
    assert (tmp_path / "x" / "a.txt").read_text() == "new"


@pytest.mark.promise("F4", "what is in the way of nothing is no error at the end")
@pytest.mark.parametrize("what", ["file", "folder", "result"])
def test_a_stranger_named_partial_is_left_after_a_success(tmp_path, what):
    name = tmp_path / ".x.partial"
    if what == "file":
        name.write_text("mine")
    elif what == "folder":
        name.mkdir()
        (name / "mine").write_text("mine")
    else:
        make(name.with_name("y"))
        os.rename(name.with_name("y"), name)
    before = snapshot(tmp_path)
    make(tmp_path / "x", "new")
    storage.verify_directory(tmp_path / "x")
    after = snapshot(tmp_path)
    assert {path: after[path] for path in before} == before


@pytest.mark.promise("F4", "an old result that cannot be removed is named, no error")
@pytest.mark.parametrize("swaps", [True, False])
def test_what_was_replaced_and_cannot_be_removed(tmp_path, monkeypatch, swaps):
    make(tmp_path / "x")
    real = directories._remove_listed

    def refuse(directory):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(directories, "_remove_listed", refuse)
    if not swaps:
        monkeypatch.setattr(directories, "exchange", lambda first, second: False)
    with pytest.warns(L63Warning, match="cannot be removed now: .*denied"):
        make(tmp_path / "x", "new")
    assert (tmp_path / "x" / "a.txt").read_text() == "new"
    assert len(os.listdir(tmp_path)) == 2
    monkeypatch.setattr(directories, "_remove_listed", real)
    make(tmp_path / "y")  # the next start sweeps it
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


@pytest.mark.promise("F4", "links planted for temporary files are not followed")
def test_a_temporary_file_follows_no_link(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".a.tmp").symlink_to(precious)
    storage.write_bytes(tmp_path / "folder" / "a", b"ours")
    assert precious.read_text() == "mine"
    assert (tmp_path / "folder" / ".a.tmp").is_symlink(), "nor is one overwritten"
    # Even where the random name is known.
    monkeypatch.setattr("secrets.token_hex", lambda n: "known")
    (tmp_path / "folder" / ".a.known.tmp").symlink_to(precious)
    with pytest.raises(ResultError, match="cannot write the file: File exists"):
        storage.write_bytes(tmp_path / "folder" / "a", b"again")
    assert precious.read_text() == "mine"
    assert (tmp_path / "folder" / ".a.known.tmp").is_symlink()
    assert (tmp_path / "folder" / "a").read_bytes() == b"ours"


@pytest.mark.promise("F4", "a backslash, which netCDF takes for /, is refused")
def test_a_backslash_leads_to_no_other_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.nc").write_text("mine")
    (tmp_path / "c\\d").mkdir()
    with pytest.raises(ArgumentValueError, match="without"):
        make(tmp_path / "a\\b")
    for path in (tmp_path / "c\\d" / "x", Path("x")):
        monkeypatch.chdir(tmp_path / "c\\d")
        with pytest.raises(ResultError, match="netCDF takes"):
            make(path)
    data = xr.Dataset({"v": ("n", [1.0])})
    with pytest.raises(ResultError, match="netCDF takes"):
        storage.write_dataset(data, tmp_path / "a\\b.nc")
    shutil.copy(tmp_path / "a" / "b.nc", tmp_path / "a\\b.nc")
    with pytest.raises(DataFileError, match="netCDF takes"):
        storage.read_dataset(tmp_path / "a\\b.nc")
    assert (tmp_path / "a" / "b.nc").read_text() == "mine"


@pytest.mark.promise("F5", "a stale lock of another user: whose, and what to do")
@pytest.mark.parametrize("is_held", [False, True])
def test_a_lock_of_another_user_says_so(tmp_path, monkeypatch, is_held):
    lock = tmp_path / ".x.l63fast-lock"
    lock.write_text('{"pid": 7, "since": "2026-01-01T00:00:00+00:00"}')
    real = os.open

    def refusing(path, flags, *mode, **how):
        if flags & os.O_RDWR and str(path).endswith("-lock"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode, **how)

    with open(lock) as file:
        if is_held:
            fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setattr(os, "open", refusing)
        who = rf"user {os.getuid()}\b"
        said = "is being written by process 7" if is_held else rf"left by {who}.*delete"
        with pytest.raises(LockedError, match=said):
            make(tmp_path / "x")
    assert lock.exists()
