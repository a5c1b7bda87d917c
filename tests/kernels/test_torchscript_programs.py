"""The C++ programs on exported encoders: the numbers of Python, inputs and misuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builds import output, tool
from encoder_programs import SOURCE, Programs, built_programs
from l63fast.assimilation.cycling import CycleResult, run_cycles
from l63fast.assimilation.program_files import write_analyse_inputs, write_cycle_inputs
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.inference import NeuralAnalysis, NeuralState
from l63fast.learning.settings import EncoderSettings
from l63fast.storage import read_dataset
from l63fast.twin import TwinExperiment, TwinSettings
from learning_samples import samples
from program_models import GRU, program_encoder, refused, saved, written_inputs

CASES = {
    "carried": (EncoderSettings("gru", "xy", 1, 16, 1, "carried"), 0.0),
    "window": (EncoderSettings("mlp", "x2", 4, 16, 2), 0.0),
    "model-error": (EncoderSettings("lstm", "x2z", 3, 16, 2), 0.01),
}
N_CYCLES, BURN_IN = 12, 5


@dataclass(frozen=True)
class Experiment:
    """One cycled experiment, and what C++ needs to do it."""

    model: Path
    inputs: Path
    sha256: str
    twin: TwinExperiment
    scheme: NeuralAnalysis
    how: dict[str, Any]

    def following(self, backgrounds: np.ndarray) -> CycleResult:
        """Return cycles that continue with these backgrounds (n, n_cycles, 3).

        Chaos cannot grow differences of rounding from one cycle to the next.
        """
        not_given = BURN_IN - (self.scheme.window - 1)
        given = chain(repeat(None, not_given), backgrounds.swapaxes(0, 1))
        scheme = Following(self.scheme.encoder, self.scheme.dt, given=given)
        return run_cycles(scheme, self.twin, **self.how)


@dataclass(frozen=True, eq=False)
class Following(NeuralAnalysis):
    given: Iterator[np.ndarray | None] = field(default_factory=partial(repeat, None))

    def forecast(self, state: NeuralState, n_steps: int) -> NeuralState:
        state, given = super().forecast(state, n_steps), next(self.given)
        if given is None:
            return state
        assert np.abs(state.estimate - given).max() < 2e-4
        return NeuralState(given, state.hidden)


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
    return Experiment(folder / "model", inputs, sha256, twin, scheme, how)


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
    analysis = found["analysis"].to_numpy()
    followed = experiment.following(found["background"].to_numpy())
    error = np.abs(analysis - followed.analysis)
    assert error.max() < 2e-4  # float32 rounding
    assert np.median(error) < 2e-5
    rmse = np.sqrt(((analysis - truth[:, BURN_IN:]) ** 2).mean(axis=-1)).mean(axis=-1)
    assert np.allclose(found["rmse_a"], rmse, rtol=1e-12)


@pytest.fixture(scope="module")
def gru(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gru")
    saved(GRU, folder)
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return written_inputs(tmp_path)


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


@pytest.mark.parametrize("uncertainty", ["gaussian", "mixture"])
def test_distributions_are_those_of_python(
    programs: Programs, tmp_path: Path, uncertainty: str
) -> None:
    saved(replace(GRU, uncertainty=uncertainty), tmp_path / "model")
    data = samples("xy", 600, seed=3)
    write_analyse_inputs(tmp_path / "in.nc", data.background, data.obs_window)
    words = (tmp_path / "model", tmp_path / "in.nc", tmp_path / "out.nc", "--trust")
    done = programs.run("analyse", *words)
    assert done.returncode == 0, done.stderr
    found = read_dataset(tmp_path / "out.nc")["mixture"].to_numpy()
    function = load_encoder(tmp_path / "model")
    expected = function.estimate(data.background, data.obs_window).components
    assert expected is not None
    wanted = expected.view(np.float64).reshape(found.shape)
    assert np.allclose(found, wanted, rtol=0, atol=5e-5)


def test_analyses_with_gaps_are_those_of_python(
    programs: Programs, tmp_path: Path
) -> None:
    settings = TwinSettings("xy", n_train=20, n_val=1, n_test=1, n_steps=300)
    twin = TwinExperiment.generate(
        replace(settings, missing=0.5, interval=(0.05, 0.2), steps_per_cycle=None)
    )
    truth = twin.train.truth_at_observations
    drawn = truth + np.random.default_rng(0).normal(size=truth.shape)
    data = AssimilationDataset.from_twin(twin, "train", drawn, window=2)
    encoder = program_encoder(replace(GRU, gaps=True), data)
    (tmp_path / "model").mkdir()
    save_model(encoder, tmp_path / "model", {}, formats=("torchscript",))
    words = (tmp_path / "model", tmp_path / "in.nc", tmp_path / "out.nc", "--trust")

    def found(obs_window: np.ndarray) -> np.ndarray:
        given = (data.background, obs_window)
        write_analyse_inputs(tmp_path / "in.nc", *given, missing="nan")
        done = programs.run("analyse", *words)
        assert done.returncode == 0, done.stderr
        return read_dataset(tmp_path / "out.nc")["analysis"].to_numpy()

    expected = load_encoder(tmp_path / "model")(data.background, data.obs_window)
    analysis, other = found(data.obs_window), data.obs_window.copy()
    assert np.allclose(analysis, expected, rtol=0, atol=5e-5)
    assert np.abs(analysis - data.background).max() > 0.01
    other.view(np.uint64)[np.isnan(other)] = 0xFFF8_0000_0000_0BAD
    assert found(other).tobytes() == analysis.tobytes()
    other[4, 1, 2] = np.nan  # a time
    write_analyse_inputs(tmp_path / "in.nc", data.background, other, missing="nan")
    done = programs.run("analyse", *words)
    assert "obs_window: expected finite values, got nan at sample 4" in done.stderr
    done = programs.run("cycle", *words)
    assert "reads observations with gaps, and a cycle has none" in done.stderr


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.promise("I12", "C++: NaN is an error")
def test_inputs_that_are_not_finite_are_errors(
    programs: Programs, gru: Path, inputs: Path, bad: float
) -> None:
    dataset = read_dataset(inputs)
    dataset["obs_window"][4, 1, 0] = bad
    dataset.to_netcdf(inputs)
    done = programs.run("analyse", gru, inputs, inputs.with_name("o.nc"), "--trust")
    assert done.returncode == 1
    assert "obs_window: expected finite values" in done.stderr
    assert "at sample 4" in done.stderr


def test_inputs_of_another_kind_are_errors(
    programs: Programs, gru: Path, inputs: Path, tmp_path: Path
) -> None:
    done = programs.run("cycle", gru, inputs, tmp_path / "o.nc", "--trust")
    assert (done.returncode, "operator" in done.stderr) == (1, True)
    data = samples("xy", 7, window=3)
    write_analyse_inputs(inputs, data.background, data.obs_window)
    done = programs.run("analyse", gru, inputs, tmp_path / "o.nc", "--trust")
    assert "obs_window: expected the shape 7 2 2" in done.stderr
    inputs.write_bytes(b"CDF")
    assert str(inputs) in refused(programs, gru, inputs, "--trust")
    inputs.unlink()
    assert "No such file" in refused(programs, gru, inputs, "--trust")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--trust", "--threads", "0"), "--threads: expected 1 to 1024, got '0'"),
        (("--trust", "--chunk", "many"), "--chunk: expected 1 to"),
        (("--trust", "more"), "expected MODEL INPUT OUTPUT"),
        (("--sha256",), "--sha256: expected a value"),
        (("--sha256", ""), "--sha256: expected a value"),
        (("--yes",), "--yes: is not an option"),
    ],
)
def test_misuse_is_explained(
    programs: Programs, gru: Path, inputs: Path, words: tuple[str, ...], expected: str
) -> None:
    said = refused(programs, gru, inputs, *words, code=2)
    assert expected in said
    assert "usage: " in said


@pytest.mark.promise("F3", "C++: the old file stays")
def test_a_full_disk_is_an_error_and_the_old_file_stays(
    programs: Programs, gru: Path, inputs: Path
) -> None:
    data = samples("xy", 20_000)
    write_analyse_inputs(inputs, data.background, data.obs_window)
    out = inputs.with_name("out.nc")
    out.write_bytes(b"old")
    words = (gru, inputs, out, "--trust")
    done = programs.run("analyse", *words, file_size=100_000)
    assert done.returncode == 1, done
    assert "cannot write" in done.stderr
    assert out.read_bytes() == b"old"
    assert {path.name for path in out.parent.iterdir()} == {"in.nc", "out.nc"}


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
