"""Cells in windows: which background a method is given; losses with a cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_samples import (
    TINY,
    contents,
    rows_of,
    tiny_cell,
    tiny_windows,
    weights_only,
)
from l63fast.assimilation.three_d_var import variational_cost
from l63fast.errors import ConfigurationError
from l63fast.experiments.methods import METHODS, encoders
from l63fast.experiments.protocols import Estimates, Problem
from l63fast.experiments.results import Result
from l63fast.experiments.run_cell import problem_of, run_cell
from l63fast.experiments.settings import Cell
from l63fast.learning.export import load_encoder
from l63fast.lorenz63 import forecast, propagator
from l63fast.twin import TwinExperiment
from l63fast.verification import rmse_pooled


@pytest.fixture(autouse=True, scope="module")
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


def gauss(**method: Any) -> Cell:
    """Return a cell whose backgrounds are drawn anew at each observation."""
    return tiny_cell(windows={"background": "gauss"}, method=method)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin") / "xy"
    TwinExperiment.generate(gauss().data).save(path)
    return path


@pytest.fixture(scope="module")
def problem(folder: Path) -> Problem:
    return problem_of(gauss(), TwinExperiment.load(folder))


def analysed(problem: Problem, scheme: str, **settings: Any) -> Estimates:
    return problem.run(METHODS[scheme](**settings).fit(problem), "test")


def ends_of(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return backgrounds at each window's first and last observation; observations."""
    drawn = problem.drawn("test")
    assert np.abs(drawn[:, 2:] - drawn[:, :-2]).min() > 0.0
    y = problem.twin.test.observations
    seen = np.stack([y[:, k : k - 2 or None] for k in range(3)], axis=2)
    return drawn[:, :-2], drawn[:, 2:], seen


def test_3d_var_is_given_the_background_at_the_last_observation(
    problem: Problem,
) -> None:
    first, last, _ = ends_of(problem)
    found = analysed(problem, "3dvar", b_scale=1.0)
    assert np.array_equal(found.background, last)
    away = np.abs(found.analysis - first).mean()
    assert np.abs(found.analysis - last).mean() < away


def test_4d_var_of_a_window_begins_with_the_background_at_its_first_observation(
    problem: Problem,
) -> None:
    first, last, seen = ends_of(problem)
    fitted = METHODS["4dvar"](b_scale=1.0).fit(problem)
    scheme: Any = fitted.scheme

    def cycled(background: np.ndarray) -> np.ndarray:
        """Return what the scheme makes of the window when it goes through it."""
        state = scheme.initial(background.reshape(-1, 3), np.random.default_rng())
        y = seen.reshape(-1, 3, 2)
        for k in range(3):
            if k:
                state = scheme.forecast(state, 10)
            state, analysis = scheme.analyse(state, y[:, : k + 1])
        return np.asarray(analysis.state.reshape(background.shape))

    found = problem.run(fitted, "test")
    np.testing.assert_allclose(found.analysis, cycled(first), atol=1e-9)
    assert np.abs(found.analysis - cycled(last)).max() > 0.1
    carried = forecast(first.reshape(-1, 3), 20).reshape(first.shape)
    np.testing.assert_array_equal(found.background, carried)


def test_filters_of_a_window_begin_with_the_background_at_its_first_observation(
    problem: Problem,
) -> None:
    """Planted: the Kalman filter written out, begun there and at the last."""
    H, R, B = np.eye(3)[:2], problem.twin.R, problem.backgrounds.B

    def kalman(background: np.ndarray, seen: np.ndarray) -> tuple[Any, Any]:
        x, P = background.reshape(-1, 3), np.tile(B, (seen[..., 0, 0].size, 1, 1))
        for k, y in enumerate(np.moveaxis(seen.reshape(-1, 3, 2), 1, 0)):
            if k:
                x, M = propagator(x, 10)
                P = M @ P @ np.swapaxes(M, 1, 2)
            gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + R)
            x = x + np.einsum("nij,nj->ni", gain, y - x @ H.T)
            P = P - gain @ H @ P
        spread = np.sqrt(np.diagonal(P, axis1=1, axis2=2))
        return x.reshape(background.shape), spread.reshape(background.shape)

    first, last, seen = ends_of(problem)
    wanted, spread = kalman(first, seen)
    other, _ = kalman(last, seen)
    found = analysed(problem, "extkf", inflation=1.0)
    np.testing.assert_allclose(found.analysis, wanted, atol=1e-6)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-6)
    many = {"n_members": 1000, "inflation": 1.0}
    off = np.abs(analysed(problem, "enkf", **many).analysis - wanted) / spread
    wrong = np.abs(other - wanted) / spread
    assert np.median(off) < 0.25 < 1.0 < np.median(wrong)


def window_loss(**training: Any) -> Cell:
    return gauss(training={"loss": "var3d_window", **training})


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    path = tmp_path_factory.mktemp("results") / "var3d_window"
    run_cell(window_loss(window_growth=0.5), folder, path, keep_states=True)
    return Result.open(path)


def test_the_time_of_the_analysis_follows_from_the_loss() -> None:
    def of(cell: Cell) -> str:
        return cell.method.settings("xy", cell.protocol).analysis_at  # type: ignore[attr-defined]

    assert of(gauss()) == "last"
    assert of(window_loss()) == "first"
    late = {"training": {"loss": "var3d_window"}, "analysis_at": "last"}
    with pytest.raises(ConfigurationError, match="analysis_at: expected 'first'"):
        gauss(**late)
    for vary in (
        {"loss": ["var3d", "var3d_window"]},
        {"regime": ["gauss:mse", "gauss:var3d_window"]},
    ):
        cells = tiny_windows("3dvar", vary=vary).cells()
        assert [of(cell) for cell in cells] == ["last", "first"]


def test_analyses_are_made_at_the_start_and_scored_at_the_end(
    finished: Result, problem: Problem
) -> None:
    found = finished.estimates
    samples = problem.samples("test", analysis_at="first")
    start = load_encoder(finished.directory)(samples.background, samples.obs_window)
    end = forecast(start, 20)
    assert np.array_equal(found["analysis"].to_numpy().reshape(-1, 3), end)
    background = forecast(samples.background, 20)
    assert np.array_equal(found["background"].to_numpy().reshape(-1, 3), background)
    assert finished.metrics["start"] == "first"
    # All else is that of other methods, at the same times.
    other = analysed(problem, "3dvar", b_scale=1.0)
    for name in ("truth", "observations"):
        assert np.array_equal(found[name], getattr(other, name)), name
    assert np.array_equal(found["time"], other.times)
    truth = problem.twin.test.truth_at_observations
    first = samples.truth.reshape(len(truth), -1, 3)
    assert np.array_equal(first, truth[:, : first.shape[1]])


def test_4d_var_which_is_its_goal_beats_3d_var(problem: Problem) -> None:
    three, four = (
        rmse_pooled(found.analysis, found.truth)
        for found in (analysed(problem, "3dvar"), analysed(problem, "4dvar"))
    )
    assert four < 0.9 * three


def test_fresh_samples_are_at_the_start_as_well(problem: Problem) -> None:
    def simulated(cell: Cell) -> Any:
        method: Any = cell.method
        settings = method.settings("xy", cell.protocol)
        return encoders._simulation(problem, 8, 0, settings)(0)

    fresh, at_end = simulated(window_loss()), simulated(gauss())
    assert np.array_equal(fresh.obs_window[:, ::-1], at_end.obs_window)
    assert not np.array_equal(fresh.truth, at_end.truth)


def test_a_rerun_with_the_cost_of_a_window_gives_the_same_bytes(
    finished: Result, folder: Path, tmp_path: Path
) -> None:
    run_cell(finished.settings, folder, tmp_path / "again", keep_states=True)
    assert contents(tmp_path / "again") == contents(finished.directory)


def test_nothing_costs_less_than_3d_var(problem: Problem) -> None:
    B, R = problem.window_covariance, problem.twin.R
    best = analysed(problem, "3dvar")
    same = encoders._cost(problem, best, {})["cost"]
    assert same["ratio"] == 1.0
    assert same["ci95"] == (1.0, 1.0)
    noise = 0.1 * np.random.default_rng(0).normal(size=best.analysis.shape)
    off = dataclasses.replace(best, analysis=best.analysis + noise)
    more = encoders._cost(problem, off, {})["cost"]
    given = (best.background, best.observations, problem.twin.operator)
    costs = [
        variational_cost(found.analysis, *given, B=B, R=R).mean()
        for found in (off, best)
    ]
    assert [more["analysis"], more["3dvar"]] == pytest.approx(costs)
    assert more["ratio"] == pytest.approx(costs[0] / costs[1])
    low, high = more["ci95"]
    assert 1.0 < low < more["ratio"] < high


def test_the_tables_of_var3d_say_how_near_its_minimum_encoders_come(
    tmp_path: Path,
) -> None:
    mlp = {"mlp": {**TINY["method"], "model": "mlp"}}
    losses = {"loss": ["var3d", "mse"]}
    tiny_windows("3dvar", "gru", methods=mlp, vary=losses).run(tmp_path)
    results = [
        Result.open(tmp_path / "tiny" / f"mlp-{loss}") for loss in losses["loss"]
    ]
    by_var3d, by_mse = (result.metrics["cost"] for result in results)
    assert by_mse is None
    ratio = by_var3d["ratio"]
    assert ratio > 1.0
    rows = rows_of(results)
    assert rows["mlp-var3d"].cost_ratio == pytest.approx(ratio)
    assert np.isnan(rows["mlp-mse"].cost_ratio)
    text = (tmp_path / "tiny" / "report" / "tables" / "table.md").read_text()
    assert "| J / 3D-Var |" in text
    assert f"| {ratio:.4f} |" in text
