"""What the tests of storage share: results, snapshots, child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import l63fast
from l63fast import storage

CRASHES = Path(__file__).with_name("storage_crash_script.py")
PACKAGE = str(Path(l63fast.__file__).parents[1])


def python(*arguments: str, **options: object) -> subprocess.Popen[str]:
    paths = [PACKAGE, os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def crash(what: str, how: str, root: Path) -> dict:
    child = python(str(CRASHES), what, how, str(root / "crashes"))
    output, _ = child.communicate(timeout=500)
    assert child.returncode == 0
    return json.loads(output)


def make(path: Path, text: str = "old", kind: str = "result") -> None:
    with storage.result_directory(path, kind=kind) as directory:
        (directory / "a.txt").write_text(text)
        (directory / "figures").mkdir()
        (directory / "figures" / "b.txt").write_text(text)


def snapshot(root: Path) -> dict[str, tuple]:
    """Return everything below a directory: kind, mode and content of each entry."""
    found = {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(folder) / name
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            found[str(path)] = (status.st_mode, content)
    return found
