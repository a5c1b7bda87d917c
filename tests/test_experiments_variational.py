"""What analyses cost beside the minimum: a ratio, in metrics, tables and remarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cycled_samples import rows_of
from experiment_samples import tiny_cell
from l63fast.assimilation.three_d_var import three_d_var, variational_cost
from l63fast.experiments.config import ScoreSettings
from l63fast.experiments.encoder_experiment import EncoderExperiment
from l63fast.experiments.matrix import Axes
from l63fast.experiments.runner import run_experiment
from l63fast.experiments.variational import cost_beside_three_d_var
from l63fast.learning import export
from l63fast.observation import ObservationOperator

B, R = np.diag([2.0, 1.0, 3.0]), np.diag([0.5, 0.25])
XY = ObservationOperator("xy")


def estimates(rng: np.random.Generator) -> dict[str, np.ndarray]:
    background = rng.normal(size=(6, 5, 3))
    observations = rng.normal(size=(6, 5, 2))
    best = three_d_var(
        background.reshape(-1, 3), observations.reshape(-1, 2), XY, B=B, R=R
    )
    return {
        "background": background,
        "observations": observations,
        "3D-Var": best.state.reshape(background.shape),
    }


def test_nothing_costs_less_than_3d_var() -> None:
    rng = np.random.default_rng(0)
    found = estimates(rng)
    same = cost_beside_three_d_var(
        {**found, "analysis": found["3D-Var"]}, XY, ScoreSettings(), B=B, R=R
    )
    assert same["ratio"] == 1.0
    assert same["ci95"] == (1.0, 1.0)
    off = found["3D-Var"] + 0.1 * rng.normal(size=found["3D-Var"].shape)
    more = cost_beside_three_d_var(
        {**found, "analysis": off}, XY, ScoreSettings(), B=B, R=R
    )
    costs = [
        variational_cost(
            state, found["background"], found["observations"], XY, B=B, R=R
        ).mean()
        for state in (off, found["3D-Var"])
    ]
    assert [more["analysis"], more["3D-Var"]] == pytest.approx(costs)
    assert more["ratio"] == pytest.approx(costs[0] / costs[1])
    low, high = more["ci95"]
    assert 1.0 < low < more["ratio"] < high


def test_the_tables_of_var3d_say_how_near_its_minimum_encoders_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})
    axes = Axes(models=("mlp",), losses=("var3d", "mse"))
    outcome = run_experiment(EncoderExperiment("tiny", axes, tiny_cell()), tmp_path)
    by_loss = {r.settings.training.loss: r for r in outcome.results}
    assert "cost" not in by_loss["mse"].metrics
    ratio = by_loss["var3d"].metrics["cost"]["ratio"]
    assert ratio > 1.0
    rows = rows_of(outcome.results)
    assert rows["mlp-k3-var3d"].cost_ratio == pytest.approx(ratio)
    assert np.isnan(rows["mlp-k3-mse"].cost_ratio)
    assert outcome.report is not None
    text = (outcome.report / "tables" / "table.md").read_text()
    assert "| J / 3D-Var |" in text
    assert f"| {ratio:.4f} |" in text
