"""Every method in both protocols: one form of results; the optimum resumes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_samples import (
    TINY_GRU,
    contents,
    tiny_cycled,
    tiny_windows,
    weights_only,
)
from l63fast.errors import DataFileError
from l63fast.experiments.figures import draw_figures
from l63fast.experiments.methods import METHODS, optimum
from l63fast.experiments.protocols import PROTOCOLS
from l63fast.experiments.reevaluate import reevaluate, verdict_on_3dvar
from l63fast.experiments.results import PARAMETERS, Result, results_of
from l63fast.experiments.run_cell import run_cell
from l63fast.experiments.scoring import scores
from l63fast.twin import TwinExperiment

TINIEST: dict[str, dict[str, Any]] = {
    "4dvar": {"b_scale": 1.0},
    "extkf": {"inflation": 1.0},
    "enkf": {"n_members": 5, "inflation": 1.05},
    "pf": {"n_particles": 30, "regularisation": 1.5},
    "enkf-known": {"n_members": 5, "inflation": 1.05},
    "pf-known": {"n_particles": 30, "regularisation": 1.5},
    "enkf-joint": {"n_members": 8, "walk": 0.05},
    "pf-joint": {"n_particles": 30, "walk": 0.05},
    "optimum": {"library": 8192, "n_particles": 50, "max_particles": 50},
    "encoder": TINY_GRU,
}
STARTS_FIRST = ["4dvar", "enkf", "enkf-joint", "extkf", "ienks", "pf", "pf-joint"]


@pytest.fixture(autouse=True, scope="module")
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


@dataclass(frozen=True)
class Every:
    """A finished cell of every method on the same data."""

    protocol: str
    data: Path
    results: dict[str, Result]


@pytest.fixture(scope="module", params=PROTOCOLS)
def every(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Every:
    root = tmp_path_factory.mktemp(request.param)
    in_windows = request.param == "windows"
    names = [
        name
        for name, method in METHODS.items()
        if not (in_windows and hasattr(method, "needs_cycles"))
    ]
    methods = {name: {"scheme": name, **TINIEST.get(name, {})} for name in names}
    tiny = tiny_windows if in_windows else tiny_cycled
    cells = tiny("gru", methods=methods).only(*names).cells()
    TwinExperiment.generate(cells[0].data).save(root / "data")
    for cell in cells:
        run_cell(cell, root / "data", root / cell.key, keep_states=True)
    results = {cell.key: Result.open(root / cell.key) for cell in cells}
    assert [result.settings for result in results.values()] == cells
    return Every(request.param, root / "data", results)


def shape(content: Any) -> Any:
    """Return the keys of a nested dict, but for those of what a method may lack."""
    return {k: shape(v) for k, v in content.items()} if isinstance(content, dict) else 0


def test_every_method_writes_the_same_files_and_metrics(every: Every) -> None:
    common = {
        *("config.toml", "metrics.json", "results.csv", "diagnostics.nc"),
        *("estimates.nc", "timing.json"),
    }
    more = {"encoder": {"model.json", "model.safetensors", "history.csv"}}
    reference = every.results["background"]
    for key, result in every.results.items():
        assert set(result.manifest.files) == common | more.get(key, set()), key
        assert list(result.metrics) == list(reference.metrics), key
        for part in ("scores", "status", "data", "versions"):
            found, expected = result.metrics[part], reference.metrics[part]
            assert shape(found) == shape(expected), (key, part)
        assert shape(result.timing) == shape(reference.timing), key
        found, usual = list(result.trajectories), list(reference.trajectories)
        more_columns = PARAMETERS if key.endswith("joint") else ()
        assert sorted(found) == sorted([*usual, *more_columns]), key
        assert result.metrics["role"] == METHODS[key].role
    facts = ("convergence", "training", "spread", "ranks", "effective_size")
    found = {
        name: [k for k, r in every.results.items() if r.metrics[name] is not None]
        for name in facts
    }
    assert found["convergence"] == ["optimum"]
    assert found["training"] == ["encoder"]
    assert {"extkf", "enkf", "pf", "optimum", "4dvar"} <= set(found["spread"])
    ensembles = {"enkf", "ienks", "enkf-joint"}
    particles = {"pf", "optimum", "pf-joint"}
    if every.protocol == "cycles":
        ensembles |= {"enkf-known"}
        particles |= {"pf-known"}
    assert set(found["ranks"]) == ensembles
    assert set(found["effective_size"]) == particles


def test_the_scores_are_those_of_the_stored_states(every: Every) -> None:
    for key, result in every.results.items():
        states, scored = result.estimates, result.metrics["scores"]
        error = (states["analysis"] - states["truth"]).to_numpy()
        rmse = np.sqrt((error**2).mean(axis=2)).mean(axis=1)
        rows = result.trajectories
        assert rows["rmse_a"].to_numpy() == pytest.approx(rmse, rel=1e-12), key
        assert scored["rmse_a"] == pytest.approx(rmse.mean(), rel=1e-12), key
        pooled = np.sqrt((error**2).mean())
        assert scored["rmse_pooled_a"] == pytest.approx(pooled, rel=1e-12), key
        assert np.sqrt(rows["mse_a"].mean()) == pytest.approx(pooled, rel=1e-12), key
        for name in ("rmse_a", "rmse_pooled_a"):
            low, high = scored["ci95"][name]
            assert low <= scored[name] <= high, key
        background = (states["background"] - states["truth"]).to_numpy()
        mean = np.sqrt((background**2).mean(axis=2)).mean()
        assert rows["rmse_f"].mean() == pytest.approx(mean, rel=1e-12), key
        n = result.metrics["n_trajectories"], result.metrics["n_times"]
        assert error.shape[:2] == n
        assert sum(result.metrics["status"].values()) == error[..., 0].size


def test_stored_states_describe_themselves(every: Every) -> None:
    split = TwinExperiment.load(every.data).test
    always = {"truth", "background", "analysis", "observations", "status"}
    for key, result in every.results.items():
        found, data = result.estimates, result.settings.data
        assert set(found.data_vars) - {"spread"} == always, key
        assert ("spread" in found) == (result.metrics["spread"] is not None), key
        assert all(found[name].attrs["long_name"] for name in found.data_vars)
        stated = {
            name: found.attrs[name]
            for name in ("seed", "dt", "sigma", "operator", "steps_per_cycle", "split")
        }
        assert stated == {
            "seed": data.seed,
            "dt": data.dt,
            "sigma": data.sigma,
            "operator": data.operator,
            "steps_per_cycle": data.steps_per_cycle,
            "split": "test",
        }
        version = importlib.metadata.version("l63fast")
        assert found.attrs["source"] == f"l63fast {version}"
        assert str(result.metrics["label"]) in found.attrs["title"]
        # Where the times say that it is, the truth of the data is.
        cycles = np.rint(found["time"] / (data.dt * data.steps_per_cycle)).astype(int)
        at = cycles.to_numpy() - 1
        truth = split.truth_at_observations[: result.metrics["n_trajectories"], at]
        assert np.array_equal(found["truth"], truth), key
        observed = split.observations[: len(truth), at]
        assert np.array_equal(found["observations"], observed), key


def test_an_encoder_alone_is_evaluated_again(every: Every) -> None:
    board, sentence = reevaluate(every.results["encoder"].directory)
    assert "to the last digit" in sentence
    assert "tuned 3D-Var: " in verdict_on_3dvar(board)  # whatever its key is
    with pytest.raises(DataFileError, match="of an encoder, got one of enkf"):
        reevaluate(every.results["enkf"].directory)


@pytest.mark.parametrize("every", ["cycles"], indirect=True)
def test_figures_are_of_what_there_is(every: Every) -> None:
    names = {path.stem for path in draw_figures(every.results["enkf"].directory)}
    assert {"panels", "error_against_time", "animation"} <= names
    assert not {"training", "tuning"} & names


def test_only_who_begins_as_the_optimum_does_is_bounded_by_it(every: Every) -> None:
    first = STARTS_FIRST if every.protocol == "windows" else []
    starts = {key: result.metrics["start"] for key, result in every.results.items()}
    assert sorted(key for key, at in starts.items() if at == "first") == first
    board = scores(results_of(list(every.results.values())), n_bootstrap=20)
    rows = board.set_index("method")
    assert rows["role"]["optimum"] == "optimum", "it must not be beaten here"
    beside = rows["ratio_to_optimum"].notna()
    assert sorted(rows.index[~beside]) == sorted([*first, "optimum"])


class Stopped(Exception):
    """What Ctrl-C is."""


class Listener:
    """Keeps what is said, and stops the run at one of the lines."""

    def __init__(self, last: int | None = None) -> None:
        self.lines: list[str] = []
        self.last = last

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) == self.last:
            raise Stopped


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.promise("N7", "a stopped optimum: equal sha256, no stage twice")
def test_a_stopped_optimum_goes_on_where_it_was(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: dict[str, Any] = {"scheme": "optimum"}
    if protocol == "windows":
        monkeypatch.setattr(optimum, "_NOTE_EVERY", 32)
        table |= {"library": 8192}
        experiment = tiny_windows(methods={"it": table}, data={"n_test": 24})
    else:
        table |= {"n_particles": 20, "max_particles": 80, "tolerance": 1e-9}
        experiment = tiny_cycled(methods={"it": table})
    [cell] = experiment.only("it").cells()
    TwinExperiment.generate(cell.data).save(tmp_path / "data")

    def run(name: str, say: Listener, *, resume: bool = False) -> None:
        run_cell(cell, tmp_path / "data", tmp_path / name, resume=resume, say=say)

    whole, before, after = Listener(), Listener(2), Listener()
    run("whole", whole)
    with pytest.raises(Stopped):
        run("stopped", before)
    assert not (tmp_path / "stopped").exists()
    run("stopped", after, resume=True)
    assert len(whole.lines) > 2 == len(before.lines)
    assert before.lines + after.lines == whole.lines
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
