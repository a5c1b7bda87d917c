"""Bad input that was once answered by a crash, a hang or an error of no meaning."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from experiment_samples import tiny_cycled
from l63fast import _checks, storage
from l63fast.errors import (
    ArgumentValueError,
    ConfigurationError,
    DataFileError,
    ModelFileError,
)
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.settings_file import read_tables
from l63fast.twin import TwinSettings

SIZES = ("--train", "3", "--val", "2", "--test", "2", "--n_steps", "40")
HALF = "a\ud800"  # half a surrogate pair: no file system stores it
BYTE = "a\udcff"  # how Python shows a byte that is not UTF-8


@pytest.mark.promise("I05", "integers beyond floats, a sigma whose square is infinite")
@pytest.mark.parametrize("name", ["dt", "sigma", "spin_up_time"])
def test_numbers_beyond_floats_are_refused(name: str) -> None:
    with pytest.raises(ArgumentValueError, match=f"{name}: expected a finite number"):
        TwinSettings(**{name: 10**400})
    with pytest.raises(ArgumentValueError, match="sigma: expected at most"):
        TwinSettings(sigma=1e308)


@pytest.mark.promise("I05", "integers that Python refuses to write")
def test_an_integer_too_long_to_write_is_refused() -> None:
    with pytest.raises(ArgumentValueError, match=r"n: expected at most .* very large"):
        _checks.count("n", 10**5000)


@pytest.mark.promise("I20", "hostile manifests: infinite sizes, names of no file")
@pytest.mark.parametrize("name", ["a\0b", HALF, "x" * 300, "a\nb"])
def test_a_manifest_lists_only_names_that_a_file_can_have(tmp_path, name) -> None:
    record = storage.FileRecord(0, "0" * 64)
    data = storage.Manifest("result", {name: record}).to_bytes()
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(DataFileError, match="which is not a valid name"):
        storage.verify_directory(tmp_path)


@pytest.mark.promise("I20", "hostile manifests: infinite sizes, names of no file")
@pytest.mark.parametrize("size", ["Infinity", "NaN", "1e999", "-1", "[]"])
def test_a_manifest_of_no_size_is_refused(tmp_path, size) -> None:
    files = f'{{"a": {{"size": {size}, "sha256": "{"0" * 64}"}}}}'
    text = f'{{"schema": 1, "kind": "result", "files": {files}}}'
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataFileError):
        storage.verify_directory(tmp_path)


@pytest.mark.promise("I15", "half characters and bytes that are not UTF-8")
@pytest.mark.parametrize("name", [HALF, BYTE])
def test_a_path_is_utf_8(tmp_path, name) -> None:
    for read in (storage.read_file, storage.verify_directory):
        with pytest.raises(ArgumentValueError, match="UTF-8"):
            read(tmp_path / name)
    with (
        pytest.raises(ArgumentValueError, match="UTF-8"),
        storage.result_directory(tmp_path / name),
    ):
        pytest.fail("the name was accepted")
    assert os.listdir(tmp_path) == []


@pytest.mark.promise("I17", "a FIFO and /dev/zero are refused at once")
def test_a_configuration_is_a_regular_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "a FIFO"), ("/dev/zero", "a device")):
        with pytest.raises(ConfigurationError, match=f"expected a file, got {kind}"):
            read_tables(path)


@pytest.mark.promise("I17", "endless brackets and numbers are a sentence")
@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000])
def test_a_configuration_without_end_is_refused(tmp_path, text) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"c\.toml: not valid TOML"):
        read_tables(tmp_path / "c.toml")


_DEEP = {
    "keys": ".".join("a" * 5000) + " = 1",
    "header": "[methods." + ".".join("a" * 5000) + "]",
    "lists": "[data]\nR = " + "[" * 100 + "]" * 100,
    "tables": "x = " + "{a=" * 100 + "1" + "}" * 100,
}


@pytest.mark.promise("I17", "nesting without end is a sentence, however it is written")
@pytest.mark.parametrize("text", _DEEP.values(), ids=list(_DEEP))
def test_a_configuration_nested_without_end_is_refused(tmp_path, text) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(
        ConfigurationError, match=r"c\.toml: .* nested more than 16 deep"
    ):
        read_tables(tmp_path / "c.toml")


@pytest.mark.promise("I17", "10^6 cells: counted and refused, none made")
def test_a_matrix_of_a_million_cells_is_counted_and_refused(monkeypatch) -> None:
    experiment = tiny_cycled("oi", "pf", "enkf", methods={"3dvar": {"scheme": "3dvar"}})
    three = {"seed": range(3), "sigma": [0.5, 1.0], "interval": [5]}
    varied = experiment.vary(**{name: list(v) for name, v in three.items()})
    assert varied.n_cells == len(varied.cells()) == 6
    monkeypatch.setattr(Experiment, "cells", lambda self: pytest.fail("cells are made"))
    hundred = [k + 1 for k in range(100)]
    with pytest.raises(ConfigurationError, match=r"at most 20000 cells .* got 1000000"):
        experiment.vary(seed=hundred, sigma=hundred, interval=hundred)


@pytest.mark.promise("I17", "--dry_run simulates and trains nothing, makes no folder")
@pytest.mark.parametrize(
    "words",
    [
        ("experiment", "quick", "--tune_only"),
        ("experiment", "encoders", "--keep_states"),
        ("train", "--model", "gru"),
        ("train", "--recipe", "cycled-gru"),
        ("simulate", "--shards", "3"),
    ],
    ids=lambda words: "-".join(words),
)
def test_a_dry_run_does_nothing(words, l63fast, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    forbidden = Mock(side_effect=AssertionError("work was done"))
    monkeypatch.setattr("l63fast.twin.TwinExperiment.generate", forbidden)
    monkeypatch.setattr("l63fast.experiments.runner.run_cell", forbidden)
    monkeypatch.setattr("l63fast.twin.shards.write_shard", forbidden)
    run = l63fast(*words, "--dry_run")
    assert run.code == 0, run.err
    assert "would" in run.out or "dry run" in run.out
    assert list(tmp_path.iterdir()) == []


def command(folder: Path, *words: str, **environment: str):
    """Run `l63fast` in a process of its own, with nothing but these variables added."""
    code = "from l63fast.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.promise("I16", "a folder of spaces and umlauts on an ASCII terminal")
@pytest.mark.promise("I02", "11 variables of nonsense change nothing")
def test_nonsense_in_the_environment_and_unicode_in_a_path(tmp_path) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "COLUMNS")
    names += ("L63FAST_INSTRUCTION_SET", "L63FAST_PROGRESS", "TERM", "TZ", "HOME")
    nonsense = dict.fromkeys((*names, "LC_ALL", "TMPDIR"), "/nonsense")
    folder = "dät ä/ü"
    words = ("simulate", *SIZES, "--data", folder)
    done = command(tmp_path, *words, PYTHONIOENCODING="ascii", **nonsense)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert storage.verify_directory(tmp_path / folder)


@pytest.mark.promise("I15", "by the command line: exit 2, one sentence, nothing made")
@pytest.mark.parametrize("name", ["x" * 300, "a\nb", BYTE])
def test_bad_names_on_the_command_line(tmp_path, monkeypatch, capsys, name) -> None:
    from cli_runs import make_command

    monkeypatch.chdir(tmp_path)
    run = make_command(monkeypatch, capsys)("simulate", *SIZES, "--data", name)
    assert run.code == 2
    assert "Traceback" not in run.err
    assert os.listdir(tmp_path) == []


@pytest.mark.promise("I20", "a hostile checkpoint whose hash is right")
@pytest.mark.parametrize("payload", [b"", b"PK", b"\x80\x02cos\nsystem\n."])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, payload) -> None:
    from l63fast.learning.loop import CHECKPOINT, read_checkpoint

    digest = hashlib.sha256(payload).hexdigest().encode()
    (tmp_path / CHECKPOINT).write_bytes(digest + b"\n" + payload)
    with pytest.raises(ModelFileError, match=r"is not a checkpoint .* starts anew"):
        read_checkpoint(tmp_path, {})


@pytest.mark.promise("I20", "a checkpoint of an older version is refused by it")
def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch) -> None:
    from l63fast.learning import loop

    monkeypatch.setattr(loop, "_VERSION", loop._VERSION - 1)
    loop.write_checkpoint(tmp_path, {"a": 1}, {})
    monkeypatch.undo()
    expected = rf"version {loop._VERSION}, got {loop._VERSION - 1}; without"
    with pytest.raises(ModelFileError, match=expected):
        loop.read_checkpoint(tmp_path, {"a": 1})
