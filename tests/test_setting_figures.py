"""Figures of an experiment against windows and iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiment_samples import TINY
from l63fast.experiments import setting_figures as module
from l63fast.experiments.encoder_experiment import encoders_from_tables
from l63fast.experiments.result import Result
from l63fast.experiments.runner import run_experiment
from l63fast.experiments.setting_figures import setting_figures
from l63fast.learning import export
from l63fast.plotting import MethodScore


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    root = tmp_path_factory.mktemp("results")
    base = {**TINY, "model": {"hidden": 8}, "training": {"epochs": 1}}
    axes = {"models": ["mlp"], "windows": [2, 4], "n_iterations": [1, 2]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})
        experiment = encoders_from_tables(
            "tiny", {**base, "experiment": axes}, source="a test"
        )
        run_experiment(experiment, root)
    return [Result.open(root / "tiny" / cell.name) for cell in experiment.encoders()]


def test_each_setting_has_its_figure_and_every_score_its_place(
    results: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def drawn(panels: Any, axis: str, *, label: str) -> str:
        asked[axis] = panels
        return axis

    monkeypatch.setattr(module.plotting, "scores_across", drawn)
    assert dict(setting_figures(results)) == {
        "by_window": "window",
        "by_n_iterations": "n_iterations",
    }
    scores = {
        (r.settings.model.window, r.settings.model.n_iterations): r.metrics["scores"]
        for r in results
    }

    def point(states: str, window: int, n_iterations: int) -> MethodScore:
        found = scores[window, n_iterations][states]
        return MethodScore(found["pool"], tuple(found["ci95"]["pool"]))

    [(place, lines)] = asked["window"].items()
    assert place == ("x, y observed", "")
    assert set(lines) == {"3D-Var", "MLP, K=1", "MLP, K=2"}
    assert lines["MLP, K=2"] == {n: point("analysis", n, 2) for n in (2, 4)}
    [lines] = asked["n_iterations"].values()
    assert lines["MLP, L=4"] == {n: point("analysis", 4, n) for n in (1, 2)}
    assert set(lines["3D-Var"].values()) == {point("3D-Var", 4, 1)}


def test_one_window_needs_no_figure(results: list[Result]) -> None:
    some = [r for r in results if r.settings.model.window == 4]
    assert [name for name, _ in setting_figures(some)] == ["by_n_iterations"]


def test_the_figures_are_in_the_summary(results: list[Result]) -> None:
    summary: Path = results[0].directory.parent / "summary"
    assert {"by_window.png", "by_window.svg", "by_n_iterations.png"} <= {
        path.name for path in summary.iterdir()
    }
