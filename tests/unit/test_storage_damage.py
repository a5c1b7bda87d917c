"""Promise F2: damage is found and named."""

from __future__ import annotations

import random

import pytest

from l63fast import storage
from l63fast.errors import DataFileError
from storage_help import make


@pytest.mark.parametrize("n", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.promise("F2", "1,000 flips and truncations by default, 10,000 slow: all")
def test_every_flipped_bit_and_truncation_is_found(memory_path, n):
    make(memory_path / "x", "some text")
    storage.verify_directory(memory_path / "x")
    rng = random.Random(2)
    files = [p for p in (memory_path / "x").rglob("*") if p.is_file()]
    assert len(files) == 3
    missed, unnamed = [], 0
    for number in range(n):
        path = files[number % len(files)]
        good = path.read_bytes()
        bad = bytearray(good)
        if number % 5:
            bit = rng.randrange(8 * len(good))
            bad[bit // 8] ^= 1 << bit % 8
        else:
            del bad[rng.randrange(len(good)) :]
        path.write_bytes(bad)
        try:
            storage.verify_directory(memory_path / "x")
            missed.append((path, bytes(bad)))
        except DataFileError as error:
            unnamed += path.name not in str(error)
        path.write_bytes(good)
    assert missed == []
    assert unnamed == 0
    storage.verify_directory(memory_path / "x")


@pytest.mark.promise("I18", "a missing, extra file or manifest is named")
def test_missing_and_extra_files_are_named(tmp_path):
    make(tmp_path / "x")
    (tmp_path / "x" / "figures" / "stranger").write_text("")
    with pytest.raises(DataFileError, match="figures/stranger"):
        storage.verify_directory(tmp_path / "x")
    (tmp_path / "x" / "figures" / "stranger").unlink()
    (tmp_path / "x" / "a.txt").unlink()
    with pytest.raises(DataFileError, match=r"a\.txt"):
        storage.verify_directory(tmp_path / "x")
    (tmp_path / "x" / "manifest.json").unlink()
    with pytest.raises(DataFileError, match=r"manifest\.json"):
        storage.verify_directory(tmp_path / "x")


def test_read_bytes_returns_what_the_manifest_lists(tmp_path):
    make(tmp_path / "x")
    assert storage.read_bytes(tmp_path / "x", "figures/b.txt") == b"old"
    for name in ("../x/a.txt", "absent", "manifest.json", "/etc/passwd"):
        with pytest.raises(DataFileError, match="lists no file"):
            storage.read_bytes(tmp_path / "x", name)
    (tmp_path / "x" / "a.txt").write_text("odl")
    with pytest.raises(DataFileError, match="sha256"):
        storage.read_bytes(tmp_path / "x", "a.txt")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b'{"schema": 2}',
        b'{"schema": 1}',
        b'{"schema": 1, "kind": 1, "files": {"a": 3}}',
        b"[" * 10**5,
    ],
)
def test_a_manifest_of_nonsense_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DataFileError):
        storage.verify_directory(tmp_path)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a//b", "", "manifest.json"])
def test_a_manifest_cannot_point_outside(tmp_path, name):
    record = storage.FileRecord(0, "0" * 64)
    data = storage.Manifest("result", {name: record}).to_bytes()
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(DataFileError, match="which is not a valid name"):
        storage.read_manifest(tmp_path)


def test_a_name_is_that_of_a_file_or_of_a_folder(tmp_path):
    """A result that "was" both was replaced, and could then not be removed."""
    record = storage.FileRecord(0, "0" * 64)
    data = storage.Manifest("result", {"a": record, "a/b": record}).to_bytes()
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(DataFileError, match="'a' as a file and as a folder"):
        storage.read_manifest(tmp_path)
