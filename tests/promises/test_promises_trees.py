"""Promise F4, by hypothesis: whatever lies there and whatever its manifest claims."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l63fast import storage
from l63fast.errors import DataFileError, L63Error
from storage_help import snapshot

NAMES = st.sampled_from(["a", "b", "c/d", "c/e", "c", "data.nc", "manifest.json"])
HOSTILE = st.sampled_from(
    ["../precious", "/etc/hostname", "c/../../precious", ".", "..", "link/precious", ""]
)
CONTENT = st.sampled_from([b"", b"ours", b"theirs"])
LINKS = st.sampled_from(["../precious", "../folder", "nowhere", "/etc", "."])
TREES = st.dictionaries(NAMES, st.one_of(CONTENT, LINKS, st.none()), max_size=5)
LISTED = st.dictionaries(st.one_of(NAMES, HOSTILE), CONTENT, max_size=5)


def plant(folder: Path, tree: dict[str, Any]) -> None:
    """Make files (bytes), links (text) and folders (None), where they do not clash."""
    folder.mkdir()
    for name, content in tree.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir()
            elif isinstance(content, str):
                path.symlink_to(content)
            else:
                with open(path, "xb") as file:
                    file.write(content)
        except OSError:  # a name that another already has
            continue


def list_in_manifest(folder: Path, listed: dict[str, bytes], how: str) -> None:
    """Write a manifest that claims these files, and is whole, or is not."""
    if how == "none" or os.path.lexists(folder / storage.MANIFEST):
        return
    records = {
        name: storage.FileRecord(len(content), sha256(content).hexdigest())
        for name, content in listed.items()
    }
    data = storage.Manifest("result", records).to_bytes()
    if how == "damaged":
        data = data.replace(b"0", b"1", 1)
    (folder / storage.MANIFEST).write_bytes(data)


def replace(target: Path) -> None:
    with storage.result_directory(target) as directory:
        (directory / "a").write_bytes(b"new")


def update(target: Path) -> None:
    with storage.update_directory(target) as directory:
        (directory / "new").write_bytes(b"new")


def resume(target: Path) -> None:
    with storage.result_directory(target) as directory:
        storage.partial_directory(target, resume=True)
        (directory / "a").write_bytes(b"new")


def is_ours(target: Path) -> bool:
    """Whether everything in a folder is listed in its manifest, which is ours."""
    try:
        listed = set(storage.read_manifest(target).files)
    except DataFileError:
        return False
    parents = {str(p) for name in listed for p in Path(name).parents}
    for path in target.rglob("*"):
        name = str(path.relative_to(target))
        if path.is_symlink() or name not in listed | parents | {storage.MANIFEST}:
            return False
    return True


def check(
    tree: dict[str, Any], listed: dict[str, bytes], how: str, work: Callable
) -> bool:
    """Do something to a folder; return whether it was replaced."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix="l63fast-test-", dir=memory))
    try:
        (root / "folder").mkdir()
        for path in (root / "precious", root / "folder" / "precious"):
            path.write_bytes(b"precious")
        target = root / "target"
        plant(target, tree)
        list_in_manifest(target, listed, how)
        ours = is_ours(target) or not os.listdir(target)
        before = snapshot(root)
        try:
            work(target)
        except L63Error:
            assert snapshot(root) == before, "a refusal that changed something"
            return False
        assert ours, "what was not ours was replaced"
        after = snapshot(root)
        inside = f"{target}/"
        for found in (before, after):
            for name in [name for name in found if name.startswith(inside)]:
                del found[name]
        assert after == before, "something outside the result was touched"
        return True
    finally:
        shutil.rmtree(root)


def search(n: int, work: Callable) -> tuple[int, int]:
    """Try so many trees and manifests; return how many were replaced and refused."""
    counts = {True: 0, False: 0}

    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        TREES,
        LISTED,
        st.sampled_from(["whole", "whole", "damaged", "none"]),
        st.booleans(),
    )
    def test(tree, listed, how, agrees):
        if agrees:  # so that many are ours
            tree = {k: v for k, v in tree.items() if isinstance(v, bytes)}
            tree.pop(storage.MANIFEST, None)
            listed = tree
        counts[check(tree, listed, how, work)] += 1

    test()
    return counts[True], counts[False]


@pytest.mark.parametrize("work", [replace, update, resume])
@pytest.mark.parametrize("n", [50, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.promise("F4", "1,000 random trees and manifests, hypothesis: 0 touched")
def test_nothing_outside_a_result_is_touched(n, work, record_property) -> None:
    replaced, refused = search(n, work)
    assert replaced + refused >= n
    assert refused > n / 10
    assert replaced > n / 10
    record_property("measured", f"{replaced} replaced, {refused} refused, 0 touched")


def test_a_careless_writer_would_be_caught() -> None:
    def careless(target: Path) -> None:
        shutil.rmtree(target)
        target.mkdir()

    with pytest.raises(AssertionError, match="not ours was replaced"):
        search(200, careless)
