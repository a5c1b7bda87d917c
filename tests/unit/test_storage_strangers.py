"""Promise F4: only what we made is deleted; dangerous places are refused."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from l63fast import storage
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DataFileError,
    ResultError,
)
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
        if rng.random() < 0.2:
            ours = False
            sibling.mkdir()
            (sibling / "precious").write_text("precious")
        before = snapshot(memory_path)
        try:
            make(target, "new")
        except ResultError:
            assert not ours
            assert snapshot(memory_path) == before
        else:
            assert ours
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
