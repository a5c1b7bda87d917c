"""The C++ programs on exported encoders: the numbers of Python, and its caution."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builds import output, tool
from encoder_programs import SOURCE, Programs, built_programs
from hostile_models import (
    PROGRAMS,
    hostile_pt2,
    hostile_torchscript,
    pickled,
    plant,
    saved_pickle,
)
from l63fast.assimilation.cycling import CycleResult, run_cycles
from l63fast.assimilation.program_files import write_analyse_inputs, write_cycle_inputs
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.learning.card import CARD, FILES
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.programs import pt2_bytes
from l63fast.learning.scheme import NeuralAnalysis
from l63fast.learning.settings import EncoderSettings
from l63fast.storage import read_dataset, result_directory
from l63fast.twin import TwinExperiment, TwinSettings
from learning_samples import samples

CASES = {
    "carried": (EncoderSettings("gru", "xy", 1, 16, 1, "carried"), 0.0),
    "window": (EncoderSettings("mlp", "x2", 4, 16, 2), 0.0),
    "model-error": (EncoderSettings("lstm", "x2z", 3, 16, 2), 0.01),
}
N_CYCLES, BURN_IN = 12, 5


def encoder(settings: EncoderSettings) -> Encoder:
    operator = settings.operator
    data = samples(operator, 200, window=settings.window)
    built = build_encoder(settings, Normaliser.fit(data, operator))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        built.head.outer.weight.normal_(std=0.05)
    return built


def saved(settings: EncoderSettings, folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    card = {"interval": 0.1}
    return save_model(encoder(settings), folder, card, formats=("torchscript",))


@dataclass(frozen=True)
class Experiment:
    """One cycled experiment, done in Python, and what C++ needs to do it."""

    model: Path
    inputs: Path
    sha256: str
    twin: TwinExperiment
    expected: CycleResult


@pytest.fixture(scope="module", params=CASES)
def experiment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Experiment:
    settings, Q = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    card = saved(settings, folder / "model")
    twin = TwinExperiment.generate(
        TwinSettings(
            settings.operator,
            **{"n_train": 20, "n_val": 1, "n_test": 7, "n_steps": 240, "Q": Q},
            save_every=5,
            spin_up_time=2.0,
        )
    )
    scheme = NeuralAnalysis(load_encoder(folder / "model"))
    how: dict[str, Any] = {"n_cycles": N_CYCLES, "burn_in": BURN_IN}
    if settings.window > 1:
        how["warm_up"] = ThreeDVar(settings.operator, B=np.eye(3), R=twin.R)
    inputs = folder / "inputs.nc"
    write_cycle_inputs(inputs, scheme, twin, **how)
    sha256 = card["files"]["torchscript"]["sha256"]
    expected = run_cycles(scheme, twin, **how)
    return Experiment(folder / "model", inputs, sha256, twin, expected)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_cycles_are_those_of_python(
    programs: Programs, experiment: Experiment, tmp_path: Path, n_threads: int
) -> None:
    out = tmp_path / "out put.nc"
    words = (experiment.model, experiment.inputs, out, "--sha256", experiment.sha256)
    done = programs.run("cycle", *words, "--threads", n_threads)
    assert done.returncode == 0, done.stderr
    assert "rmse.a" in done.stdout
    found, split = read_dataset(out), experiment.twin.test
    until = BURN_IN + N_CYCLES
    truth = split.truth_at_observations[:, :until]
    assert np.array_equal(found["truth"], truth)
    assert np.array_equal(found["observation"], split.observations[:, :until])
    for name in ("background", "analysis"):
        error = np.abs(found[name].to_numpy() - getattr(experiment.expected, name))
        assert error.max() < 1e-3  # float32 rounding, which chaos has made grow
        assert np.median(error) < 2e-5
    errors = experiment.expected.analysis - truth[:, BURN_IN:]
    rmse = np.sqrt((errors**2).mean(axis=-1)).mean(axis=-1)
    assert np.allclose(found["rmse_a"], rmse, atol=1e-4)


@pytest.fixture(scope="module")
def gru(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gru")
    saved(EncoderSettings("gru", "xy", 2, 16), folder)
    return folder


@pytest.fixture
def model(gru: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(gru, tmp_path / "model"))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    data = samples("xy", 7)
    write_analyse_inputs(tmp_path / "in.nc", data.background, data.obs_window)
    return tmp_path / "in.nc"


@pytest.mark.parametrize(
    ("n", "how"),
    [
        (0, ()),
        (1, ()),
        (7, ("--chunk", "1", "--threads", "1")),
        (1500, ("--chunk", "256")),
        (1500, ("--threads", "3")),
    ],
)
def test_analyses_are_those_of_python(
    programs: Programs, gru: Path, tmp_path: Path, n: int, how: tuple[str, ...]
) -> None:
    data = samples("xy", n, seed=3)
    write_analyse_inputs(tmp_path / "in.nc", data.background, data.obs_window)
    words = (gru, tmp_path / "in.nc", tmp_path / "out.nc", "--trust", *how)
    done = programs.run("analyse", *words)
    assert done.returncode == 0, done.stderr
    analysis = read_dataset(tmp_path / "out.nc")["analysis"]
    expected = load_encoder(gru)(data.background, data.obs_window)
    assert np.allclose(analysis, expected, rtol=0, atol=5e-5)


def refused(
    programs: Programs,
    model: Path,
    inputs: Path,
    *words: str,
    code: int = 1,
    program: str = "analyse",
) -> str:
    """Check that a program fails in good order and writes nothing; what it said."""
    out = inputs.with_name("out.nc")
    done = programs.run(program, model, inputs, out, *words)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ")
    assert not out.exists()
    return done.stderr


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
    return hostile_pt2(pt2_bytes(encoder(EncoderSettings("gru", "xy", 2, 8))), trace)


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


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.promise("I12", "C++: NaN is an error")
def test_inputs_that_are_not_finite_are_errors(
    programs: Programs, model: Path, inputs: Path, bad: float
) -> None:
    dataset = read_dataset(inputs)
    dataset["obs_window"][4, 1, 0] = bad
    dataset.to_netcdf(inputs)
    done = programs.run("analyse", model, inputs, inputs.with_name("o.nc"), "--trust")
    assert done.returncode == 1
    assert "obs_window: expected finite values" in done.stderr
    assert "at sample 4" in done.stderr


def test_inputs_of_another_kind_are_errors(
    programs: Programs, model: Path, inputs: Path, tmp_path: Path
) -> None:
    done = programs.run("cycle", model, inputs, tmp_path / "o.nc", "--trust")
    assert (done.returncode, "operator" in done.stderr) == (1, True)
    data = samples("xy", 7, window=3)
    write_analyse_inputs(inputs, data.background, data.obs_window)
    done = programs.run("analyse", model, inputs, tmp_path / "o.nc", "--trust")
    assert "obs_window: expected the shape 7 2 2" in done.stderr
    inputs.write_bytes(b"CDF")
    assert str(inputs) in refused(programs, model, inputs, "--trust")
    inputs.unlink()
    assert "No such file" in refused(programs, model, inputs, "--trust")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--trust", "--threads", "0"), "--threads: expected 1 to 1024, got '0'"),
        (("--trust", "--chunk", "many"), "--chunk: expected 1 to"),
        (("--trust", "more"), "expected MODEL INPUT OUTPUT"),
        (("--sha256",), "--sha256: expected a value"),
        (("--sha256", ""), "--sha256: expected a value"),
        (("--yes",), "--yes: is no option"),
    ],
)
def test_misuse_is_explained(
    programs: Programs, model: Path, inputs: Path, words: tuple[str, ...], expected: str
) -> None:
    said = refused(programs, model, inputs, *words, code=2)
    assert expected in said
    assert "usage: " in said


@pytest.mark.promise("F3", "C++: the old file stays")
def test_a_full_disk_is_an_error_and_the_old_file_stays(
    programs: Programs, model: Path, inputs: Path
) -> None:
    data = samples("xy", 20_000)
    write_analyse_inputs(inputs, data.background, data.obs_window)
    out = inputs.with_name("out.nc")
    out.write_bytes(b"old")
    words = (model, inputs, out, "--trust")
    done = programs.run("analyse", *words, file_size=100_000)
    assert done.returncode == 1, done
    assert "cannot write" in done.stderr
    assert out.read_bytes() == b"old"
    assert {path.name for path in out.parent.iterdir()} == {"model", "in.nc", "out.nc"}


def test_the_declarations_are_those_of_netcdf(tmp_path: Path) -> None:
    if not Path("/usr/include/netcdf.h").exists():
        pytest.skip("netcdf.h is not installed")
    both = tmp_path / "both.cpp"
    ours = SOURCE / "netcdf_c.h"
    theirs = "#include <netcdf.h>\n#include <netcdf_mem.h>\n"
    both.write_text(f'{theirs}#include "{ours}"\n')
    output(tool("c++"), "-fsyntax-only", "-Wall", "-Werror", both)


@pytest.mark.slow
def test_without_a_system_netcdf_the_wheel_serves(
    core_prefix: Path, gru: Path, inputs: Path, tmp_path: Path
) -> None:
    programs = built_programs(
        tmp_path / "build",
        core_prefix,
        L63FAST_WARNINGS_AS_ERRORS="ON",
        CMAKE_CXX_COMPILER=tool("c++"),
        CMAKE_FIND_USE_CMAKE_SYSTEM_PATH="OFF",
        CMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH="OFF",
    )
    cache = (programs.folder / "CMakeCache.txt").read_text()
    assert "netcdf4.libs/libnetcdf" in cache
    out = tmp_path / "out.nc"
    done = programs.run("analyse", gru, inputs, out, "--trust")
    assert done.returncode == 0, done.stderr
    assert read_dataset(out)["analysis"].shape == (7, 3)
