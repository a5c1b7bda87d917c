"""The inputs of the C++ programs: what is in them, and what is refused."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import numpy as np
import pytest

from l63fast.assimilation.kalman import OptimalInterpolation
from l63fast.assimilation.program_files import write_analyse_inputs, write_cycle_inputs
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentTypeError, ArgumentValueError, ResultError
from l63fast.storage import read_dataset
from l63fast.twin import TwinExperiment, TwinSettings

SETTINGS = TwinSettings(
    "x2z", n_train=5, n_val=1, n_test=3, n_steps=60, spin_up_time=1.0, Q=0.1
)


@dataclasses.dataclass(frozen=True)
class Windowed(ThreeDVar):
    """A scheme that needs two observations, as an encoder might."""

    @property
    def window(self) -> int:
        return 2


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(SETTINGS)


def scheme(kind: type[ThreeDVar], twin: TwinExperiment, **changed: float) -> ThreeDVar:
    return kind("x2z", B=np.eye(3), R=twin.R, **changed)


def test_the_draws_are_those_of_the_twin(twin: TwinExperiment, tmp_path: Path) -> None:
    path = tmp_path / "inputs.nc"
    warm_up = scheme(ThreeDVar, twin, max_iter=7)
    write_cycle_inputs(
        path, scheme(Windowed, twin), twin, n_cycles=3, burn_in=2, warm_up=warm_up
    )
    found = read_dataset(path)
    test = twin.test
    truth, seen = test.truth_at_observations[:, :5], test.observations[:, :5]
    assert np.array_equal(found["initial_truth"], test.initial_state)
    perfect = twin.operator(truth)
    assert np.array_equal(perfect + found["observation_noise"].to_numpy(), seen)
    assert found["model_error"].shape == (3, 5, 3)
    assert found["initial_background"].shape == (3, 3)
    assert found["warm_up_B"].shape == (3, 3)
    numbers = {k: found.attrs[k] for k in ("first_cycle", "warm_up_max_iter", "dt")}
    assert numbers == {"first_cycle": 2, "warm_up_max_iter": 7, "dt": 0.01}
    assert found.attrs["warm_up_n_starts"] == 2
    assert found.attrs["operator"] == "x2z"


def test_what_the_program_could_not_do_is_refused(
    twin: TwinExperiment, tmp_path: Path
) -> None:
    path = tmp_path / "inputs.nc"
    one, two = scheme(ThreeDVar, twin), scheme(Windowed, twin)
    with pytest.raises(ArgumentValueError, match=r"scheme: expected dt 0\.01 as in"):
        write_cycle_inputs(path, scheme(ThreeDVar, twin, dt=0.02), twin)
    with pytest.raises(ArgumentValueError, match="warm_up: expected a scheme"):
        write_cycle_inputs(path, two, twin)
    other = OptimalInterpolation("x2z", twin.climatology, twin.R)
    with pytest.raises(ArgumentValueError, match="warm_up: expected a ThreeDVar"):
        write_cycle_inputs(path, two, twin, warm_up=other)  # type: ignore[arg-type]
    xyz = ThreeDVar("xyz", B=np.eye(3), R=np.eye(3))
    with pytest.raises(ArgumentValueError, match="warm_up: expected operator 'x2z'"):
        write_cycle_inputs(path, two, twin, warm_up=xyz)
    with pytest.raises(ArgumentValueError, match="n_cycles: expected"):
        write_cycle_inputs(path, one, twin, n_cycles=7)
    mine = TwinExperiment.from_arrays(
        np.concatenate([twin.split(n).truth for n in ("train", "val", "test")]),
        np.concatenate([twin.split(n).observations for n in ("train", "val", "test")]),
        **{"operator": "x2z", "sigma": 1.0, "dt": 0.01, "steps_per_cycle": 10},
        **{"n_train": 5, "n_val": 1, "n_test": 3},
    )
    with pytest.raises(ArgumentValueError, match="twin: expected a generated"):
        write_cycle_inputs(path, one, mine)
    assert not path.exists()


def test_single_analyses_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "inputs.nc"
    good, window = np.ones((4, 3)), np.ones((4, 2, 1))
    for background, seen in ((good[:, :2], window), (good, window[:3]), (good, good)):
        with pytest.raises(ArgumentValueError, match="background"):
            write_analyse_inputs(path, background, seen)
    with pytest.raises(ArgumentTypeError, match="background"):
        write_analyse_inputs(path, good.astype(int), window)
    with pytest.raises(ArgumentValueError, match="obs_window: expected finite"):
        write_analyse_inputs(path, good, window * np.nan)
    assert not path.exists()


def test_a_full_disk_leaves_the_old_inputs(tmp_path: Path) -> None:
    path = tmp_path / "inputs.nc"
    write_analyse_inputs(path, np.ones((4, 3)), np.ones((4, 2, 1)))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ResultError, match="cannot"):
            write_analyse_inputs(path, np.ones((40_000, 3)), np.ones((40_000, 2, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["inputs.nc"]
