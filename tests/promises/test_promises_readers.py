"""Readers beside a writer that replaces what they read, all the time."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from experiment_samples import particle_cells, run_without_tables
from l63fast import storage
from l63fast.errors import DataFileError
from l63fast.experiments.diagnostics import DIAGNOSTICS
from l63fast.experiments.results import Result, Source
from l63fast.storage import manifest
from l63fast.twin import TwinExperiment
from storage_help import make

PAUSE = 0.03  # seconds between two results: no reader keeps up with less
Read = Callable[[Path], str]


@pytest.fixture(scope="module")
def generations(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two experiments of one cell whose every file differs."""
    folders = []
    for seed in (0, 1):
        [cell] = particle_cells(1, 20)
        data = {**cell.to_tables(), "data": {**cell.to_tables()["data"], "seed": seed}}
        root = tmp_path_factory.mktemp(f"generation{seed}")
        run_without_tables([type(cell).from_tables(data, source="a test")], root)
        folders.append(root / "tiny")
    return folders


def cell_of(folder: Path) -> str:
    """Return what is in a cell, through the door of tables and reports."""
    [result] = Source.open(folder).results
    return str((result.metrics["data"], result.trajectories.to_csv()))


def data_of(folder: Path) -> str:
    """Return which data an experiment has, without a split."""
    twin = TwinExperiment.load(folder / "data" / "xyz")
    return str((twin.settings, dict(twin.hashes)))


@contextmanager
def replaced_all_the_time(folder: Path, generations: list[Path]) -> Iterator[None]:
    """Replace every result in a folder by those of other generations, in turn."""
    shutil.copytree(generations[0], folder)
    names = [p.parent.relative_to(folder) for p in folder.glob("**/manifest.json")]
    pid = os.fork()
    if pid == 0:
        try:
            for turn in range(10**9):
                source = generations[turn % 2]
                for name in names:
                    kind = storage.read_manifest(source / name).kind
                    with storage.result_directory(folder / name, kind=kind) as made:
                        for file in (source / name).iterdir():
                            if file.name != storage.MANIFEST:
                                shutil.copyfile(file, made / file.name)
                    time.sleep(PAUSE)
        finally:
            os._exit(1)
    try:
        yield
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the writer has failed"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def opens(n: int, read: Read, generations: list[Path], folder: Path) -> dict[str, int]:
    """Return how often a reader beside the writer found which generation, or failed."""
    whole = {
        read(generation): f"generation {k}" for k, generation in enumerate(generations)
    }
    found: dict[str, int] = {}
    with replaced_all_the_time(folder, generations):
        end = time.monotonic() + 60  # until the writer has been seen at work
        while sum(found.values()) < n or (len(found) < 2 and time.monotonic() < end):
            try:
                said = whole.get(read(folder), "a mixture")
            except DataFileError as error:
                said = str(error)
            found[said] = found.get(said, 0) + 1
    return found


@pytest.mark.parametrize("read", [cell_of, data_of])
@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.promise("C2", "0 false damage, 0 mixtures, 40 or 1,000 opens")
def test_a_reader_beside_a_writer_sees_one_result(
    n: int, read: Read, generations: list[Path], memory_path: Path
) -> None:
    found = opens(n, read, generations, memory_path / "tiny")
    assert set(found) == {"generation 0", "generation 1"}, found


def test_what_is_replaced_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    target, turns = tmp_path / "result", iter(["new", "newer"])
    make(target, "old")

    def read() -> tuple[bytes, bytes]:
        first = storage.read_bytes(target, "a.txt")
        for text in turns:
            make(target, text)
            break
        return first, storage.read_bytes(target, "figures/b.txt")

    assert read() == (b"old", b"new")
    turns = iter(["newest"])
    assert storage.read_unchanged(target, read) == (b"newest", b"newest")


def test_damage_is_found_at_once_and_a_hectic_writer_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, n = tmp_path / "result", count()
    make(target)
    (target / "a.txt").write_text("bad")

    def read() -> bytes:
        next(n)
        return storage.read_bytes(target, "a.txt")

    with pytest.raises(DataFileError, match="is damaged"):
        storage.read_unchanged(target, read)
    assert next(n) == 1
    monkeypatch.setattr(manifest, "_PATIENCE", 0.05)
    shutil.rmtree(target)
    with pytest.raises(DataFileError, match="replaced faster than it can be read"):
        storage.read_unchanged(target, lambda: make(target, str(next(n))))


def test_what_was_opened_before_is_not_mixed_with_what_came_since(
    generations: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(generations[0], folder)
    result, twin = Result.open(folder / "pf0"), TwinExperiment.load(folder / "data/xyz")
    kept = result.tables["results.csv"]
    for name in ("pf0", "data/xyz"):
        shutil.rmtree(folder / name)
        shutil.copytree(generations[1] / name, folder / name)
    assert result.trajectories.equals(Result.open(generations[0] / "pf0").trajectories)
    assert kept != Result.open(folder / "pf0").tables["results.csv"]
    for late in (lambda: result.dataset(DIAGNOSTICS), lambda: twin.test):
        with pytest.raises(DataFileError, match="another result than when it was open"):
            late()
