"""Text of somebody else's commands no terminal and turns no line around."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli_runs import make_command
from experiment_samples import tiny_cycled
from l63fast import storage
from l63fast.errors import DataFileError, L63Warning, LockedError, printable
from l63fast.experiments.results import Result, open_results
from l63fast.experiments.settings_file import dump_tables
from mutants import put
from storage_help import make

EVIL = "\x1b[2J\x9b31m\u202eevil\x07"
BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069]")
FOLDER = "tiny\x9b0;\u202e"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an experiment that has such text wherever a word can stand."""
    root = tmp_path_factory.mktemp("evil")
    tiny_cycled("enkf").run(root)
    folder = (root / "tiny").rename(root / FOLDER)
    tables = Result.open(folder / "oi").settings.to_tables()
    tables["cell"]["note"] = EVIL
    put(folder / "oi", "config.toml", dump_tables(tables).encode())
    for name in ("metrics.json", "timing.json"):
        content = json.loads((folder / "oi" / name).read_bytes())
        content |= {"label": f"OI{EVIL}", "machine": EVIL, "python": EVIL}
        content.get("versions", {})["numpy"] = EVIL
        content.get("versions", {})[EVIL] = EVIL
        put(folder / "oi", name, json.dumps(content).encode())
    shutil.copytree(folder / "oi", folder / f"oi{EVIL}")
    return folder


@pytest.mark.promise("C1", "ESC, C1 and U+202E: none in terminal, page, tables")
def test_a_report_shows_no_commands(evil, tmp_path, monkeypatch, capsys) -> None:
    from l63fast.experiments.report import page

    none: dict[str, Any] = dict.fromkeys(page._CHAPTERS, lambda summary: iter(()))
    monkeypatch.setattr(page, "_CHAPTERS", none)
    run = make_command(monkeypatch, capsys)("report", evil)
    assert run.code == 1
    assert "left out: oi\\x1b[2J" in run.err
    assert not BAD.search(run.out + run.err)
    files = [path for path in (evil / "report").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert not BAD.search(path.read_text("utf-8")), path.name
    assert "OI\\x1b[2J\\x9b31m\\u202eevil" in (evil / "report/report.html").read_text()
    frame = open_results(evil)
    assert set(frame["cell"]) == {"oi", "pf"}
    assert not BAD.search(frame.to_csv())


@pytest.mark.promise("C1", "a lock, a path and a name: none in an error or warning")
def test_errors_show_no_commands(tmp_path, monkeypatch, capsys) -> None:
    lock = tmp_path / ".x.l63fast-lock"
    lock.write_text(json.dumps({"pid": EVIL, "since": EVIL}))
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError) as refused:
            make(tmp_path / "x")
    with pytest.raises(DataFileError) as missing:
        storage.verify_directory(tmp_path / FOLDER)
    for error, sign in ((refused, "\\x1b"), (missing, "\\x9b")):
        assert sign in str(error.value)
        assert not BAD.search(str(error.value))
    (tmp_path / FOLDER).mkdir()
    make(tmp_path / FOLDER / "x")
    os.rename(tmp_path / FOLDER / "x", tmp_path / FOLDER / ".x.old")
    with pytest.warns(L63Warning, match=r"tiny\\x9b") as warned:
        make(tmp_path / FOLDER / "x")
    assert not BAD.search(str(warned[0].message))
    run = make_command(monkeypatch, capsys)
    for words in (("evaluate", "--result_dir", EVIL), ("report", tmp_path / FOLDER)):
        found = run(*words)
        assert found.code
        assert not BAD.search(found.out + found.err)


@pytest.mark.promise("I15", "ESC, C1 and U+202E in the name of a result")
@pytest.mark.parametrize("character", ["\x1b", "\x7f", "\x9b", "\u202e", "\u2066"])
def test_a_name_has_no_commands(tmp_path, character) -> None:
    with pytest.raises(ValueError, match="control characters"):
        make(tmp_path / f"a{character}b")


def test_what_is_printable_stays() -> None:
    plain = "é ü 中文 می\u200cخواهم 🏳️\u200d🌈 σ\u00a0=\u202f1\n\t"
    assert printable(plain) == plain
    assert printable("\ud800\r\0") == "\\ud800\\r\\x00"
