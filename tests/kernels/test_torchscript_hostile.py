"""The C++ programs on models that are hostile, damaged or of another kind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from builds import tool
from crafted_netcdf import (
    CRAFTED,
    CYCLE_NUMBERS,
    cycle_variables,
    write_crafted,
    write_crafted_cycle,
)
from encoder_programs import Programs, built_programs
from hostile_models import (
    PROGRAMS,
    hostile_pt2,
    hostile_torchscript,
    pickled,
    plant,
    saved_pickle,
)
from l63fast.assimilation.program_files import write_analyse_inputs
from l63fast.learning.card import CARD, FILES
from l63fast.learning.programs import pt2_bytes
from l63fast.storage import result_directory
from learning_samples import samples
from program_models import GRU, program_encoder, refused, saved, written_inputs


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gru")
    saved(GRU, folder)
    return folder


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "model"))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return written_inputs(tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.promise("M2", "C++: refused before a byte is interpreted")
def test_hostile_programs_are_not_opened(
    programs: Programs, model: Path, inputs: Path, name: str
) -> None:
    trace = model / "trace"
    plant(model, "torchscript", hostile_torchscript(name, trace))
    for program in ("analyse", "cycle"):
        assert "--trust" in refused(programs, model, inputs, code=2, program=program)
    wrong = refused(programs, model, inputs, "--sha256", "ab" * 32)
    assert "expected sha256 abab" in wrong
    assert not trace.exists()
    if name.startswith("Writes"):  # that the fixture is hostile indeed
        out = inputs.with_name("out.nc")
        programs.run("analyse", model, inputs, out, "--trust")
        assert trace.exists()
    if name == "AllocatesTerabytes":
        said = refused(programs, model, inputs, "--trust")
        assert "is not a TorchScript program" in said


def other_harm(name: str, trace: Path) -> bytes:
    """Return what strikes in Python, to be put where C++ expects TorchScript."""
    if name == "pickle":
        return pickled(trace)
    if name == "saved pickle":
        return saved_pickle(trace)
    return hostile_pt2(pt2_bytes(program_encoder(GRU)), trace)


@pytest.mark.parametrize("name", ["pickle", "saved pickle", "pt2"])
@pytest.mark.promise("M2", "C++: pickles and .pt2 strike not even if trusted")
def test_what_is_no_torchscript_does_nothing_even_if_trusted(
    programs: Programs, model: Path, inputs: Path, name: str
) -> None:
    trace = model / "trace"
    plant(model, "torchscript", other_harm(name, trace))
    assert "--trust" in refused(programs, model, inputs, code=2)
    said = refused(programs, model, inputs, "--trust")
    assert "is not a TorchScript program" in said
    assert not trace.exists()


@pytest.mark.promise("M2", "C++: refused before a byte is interpreted")
def test_a_hostile_folder_with_a_consistent_manifest_is_not_opened(
    programs: Programs, model: Path, inputs: Path, tmp_path: Path
) -> None:
    trace, folder = tmp_path / "trace", tmp_path / "looks-good"
    with result_directory(folder, kind="model") as working:
        for path in model.iterdir():
            shutil.copy(path, working / path.name)
        plant(working, "torchscript", hostile_torchscript("WritesAtLoad", trace))
    for program in ("analyse", "cycle"):
        refused(programs, folder, inputs, code=2, program=program)
        refused(programs, folder, inputs, "--sha256", "ab" * 32, program=program)
    assert not trace.exists()


@pytest.mark.parametrize("size", [0, 1, 55, 56, 64, 1000])
@pytest.mark.promise("I13", "an exception, never terminate")
def test_bytes_that_are_no_program_are_errors_and_hashed_right(
    programs: Programs, model: Path, inputs: Path, size: int
) -> None:
    data = bytes(i * 7 % 256 for i in range(size))
    found = plant(model, "torchscript", data)
    said = refused(programs, model, inputs, "--sha256", "0" * 64)
    assert f"got {hashlib.sha256(data).hexdigest()}" in said
    said = refused(programs, model, inputs, "--sha256", found.upper())
    assert "is not a TorchScript program" in said


@pytest.mark.promise("I13", "an exception, never terminate")
def test_files_that_are_no_files_are_errors(
    programs: Programs, model: Path, inputs: Path
) -> None:
    path = model / FILES["torchscript"]
    path.unlink()
    assert "cannot be read" in refused(programs, model, inputs, "--trust")
    path.mkdir()
    assert "expected a file" in refused(programs, model, inputs, "--trust")
    path.rmdir()
    os.mkfifo(path)
    assert "expected a file" in refused(programs, model, inputs, "--trust")
    said = refused(programs, model / "nowhere", inputs, "--trust")
    assert "model.json: cannot be read" in said


@pytest.mark.promise("C1", "C++: a card and a program of 1 TB are not read")
def test_files_too_large_are_not_read(
    programs: Programs, model: Path, inputs: Path
) -> None:
    for name in (FILES["torchscript"], CARD):
        os.truncate(model / name, 2**40)
        said = refused(programs, model, inputs, "--trust")
        assert f"{name}: expected at most" in said
        assert "got 1099511627776" in said


IN_EVERY_RUN = ("product wraps", "terabytes", "an endless loop", "first_cycle is huge")


@pytest.mark.parametrize("name", IN_EVERY_RUN)
@pytest.mark.promise("C1", "C++ cycle: netCDF of 13 KB with 4 x (2^62 + 1) values")
def test_crafted_inputs_are_errors(
    programs: Programs, exported: Path, tmp_path: Path, name: str
) -> None:
    expected = write_crafted_cycle(tmp_path / "in.nc", name)
    inputs = tmp_path / "in.nc"
    assert expected in refused(programs, exported, inputs, "--trust", program="cycle")


@pytest.fixture(scope="module")
def checked_programs(
    core_prefix: Path, tmp_path_factory: pytest.TempPathFactory
) -> Programs:
    """Return the programs with what finds errors of memory."""
    tool("g++")
    return built_programs(
        tmp_path_factory.mktemp("checked"),
        core_prefix,
        CMAKE_BUILD_TYPE="Debug",
        CMAKE_CXX_FLAGS="-O0 -fsanitize=address,undefined "
        "-fno-sanitize-recover=undefined",
    )


@pytest.mark.slow
@pytest.mark.promise("C1", "C++ cycle under ASan and UBSan: 13 crafted netCDF files")
def test_crafted_inputs_give_no_report(
    checked_programs: Programs,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")
    inputs, out = tmp_path / "in.nc", tmp_path / "out.nc"
    for name in CRAFTED:
        expected = write_crafted_cycle(inputs, name)
        said = refused(checked_programs, exported, inputs, "--trust", program="cycle")
        assert expected in said, (name, said)
    write_crafted(inputs, cycle_variables(), **CYCLE_NUMBERS)
    done = checked_programs.run("cycle", exported, inputs, out, "--trust")
    assert done.returncode == 0, done.stderr


def test_a_changed_program_is_not_that_of_its_card(
    programs: Programs, model: Path, inputs: Path
) -> None:
    path = model / FILES["torchscript"]
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    said = refused(programs, model, inputs, "--trust")
    assert "is not the file of its model card" in said


GOOD = '"schema": 1, "hidden_size": 0, "training": {}, "encoder": {"operator": "xy", '


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a value at byte 0"),
        ("[1]", "schema: is missing"),
        ("[" * 100_000, "expected fewer nested values"),
        ('{"schema": 1} x', "expected the end at byte 14"),
        ('{"schema": 1, "schema": 1}', "expected a new key"),
        ('{"schema": 1e999}', "expected a value"),
        ('{"schema": "\\u00zz"}', "expected four digits"),
        ('{"schema": "x', "expected the end of a string"),
        ('{"schema": 2}', "schema: expected a whole number from 1 to 1"),
        ("{" + GOOD + '"window": 1e9}, "files": {"torchscript": 1}}', "window: exp"),
        ("{" + GOOD + '"window": 2.5}, "files": {"torchscript": 1}}', "window: exp"),
        ("{" + GOOD + '"window": 2}, "files": {}}', "lists no TorchScript program"),
        ("{" + GOOD + '"window": 2}, "files": {"torchscript": 1}}', "sha256: is mis"),
        (
            "{" + GOOD.replace('"xy"', '"yx"') + '"window": 2}, "files": '
            '{"torchscript": {"sha256": ""}}}',
            "operator: expected a name",
        ),
    ],
)
def test_cards_that_make_no_sense_are_errors(
    programs: Programs, model: Path, inputs: Path, text: str, expected: str
) -> None:
    (model / CARD).write_text(text)
    said = refused(programs, model, inputs, "--trust")
    assert f"{CARD}: " in said
    assert expected in said


def test_an_encoder_that_looks_ahead_is_not_cycled(
    programs: Programs, model: Path, inputs: Path
) -> None:
    card = json.loads((model / CARD).read_text())
    card["encoder"]["analysis_at"] = "first"
    (model / CARD).write_text(json.dumps(card))
    said = refused(programs, model, inputs, "--trust", program="cycle")
    assert "sees later observations" in said


def test_a_program_of_another_shape_is_an_error(
    programs: Programs, model: Path, inputs: Path
) -> None:
    card = json.loads((model / CARD).read_text())
    card["encoder"]["operator"] = "xyz"
    (model / CARD).write_text(json.dumps(card))
    data = samples("xyz", 7)
    write_analyse_inputs(inputs, data.background, data.obs_window)
    said = refused(programs, model, inputs, "--trust")
    assert "the program failed" in said
