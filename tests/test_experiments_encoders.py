"""Encoders as methods of cycled experiments: trained, cycled, exported, resumed."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cycled_samples import rows_of, tiny_cycled
from experiment_samples import contents
from l63fast.errors import ConfigurationError
from l63fast.experiments.cycled import cell as cell_module
from l63fast.experiments.cycled.cell import problem_of
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.runner import run_experiment
from l63fast.learning import cycled_training
from l63fast.learning.checkpoint import CHECKPOINT
from l63fast.learning.export import load_encoder
from l63fast.learning.scheme import NeuralAnalysis
from l63fast.twin import TwinExperiment
from l63fast.verification import rms

TRAINING = {
    "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.003},
    "cycles": {"updates": 2, "unroll": 3, "first_unroll": 2},
}
GRU = {"scheme": "encoder", "hidden": 4, **TRAINING}
MLP = {**GRU, "model": "mlp", "memory": "window", "window": 3}


@pytest.fixture(autouse=True)
def weights_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from l63fast.learning import export

    monkeypatch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})


def encoders(**methods: dict[str, Any]) -> Any:
    return tiny_cycled("oi", "enkf", "pf", methods=methods)


def test_an_encoder_is_trained_cycled_and_exported(tmp_path: Path) -> None:
    outcome = run_experiment(encoders(gru=GRU, mlp=MLP), tmp_path)
    assert outcome.failures == {}
    twin = TwinExperiment.load(tmp_path / "tiny" / "data" / "xyz")
    truth = twin.test.truth_at_observations[:, 5:]
    rows = rows_of(outcome.results)
    for result in outcome.results:
        folder = tmp_path / "tiny" / result.settings.key
        problem = problem_of(result.settings, twin)
        scheme = NeuralAnalysis(load_encoder(folder), **problem.model)
        cycled = problem.run(scheme, "test")
        assert result.metrics["scores"]["rms"] == rms(cycled.analysis, truth)
        assert result.metrics["training"]["epochs"] == 2
        assert result.metrics["training"]["updates"] == 4
        epochs = list(csv.DictReader(io.StringIO((folder / "history.csv").read_text())))
        assert [epoch["epoch"] for epoch in epochs] == ["1", "2"]
        assert rows[result.settings.key].training_seconds > 0.0
        assert np.isnan(rows[result.settings.key].spread_ratio)
    labels = [result.metrics["label"] for result in outcome.results]
    assert labels == ["GRU, carried", "MLP, L=3"]


def test_a_stopped_training_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = encoders(gru=GRU)
    run_experiment(experiment, tmp_path / "whole")
    seen: list[bool] = []
    train = cycled_training.train_cycled

    def watched(*settings: Any, directory: Path, resume: bool, **how: Any) -> Any:
        seen.append(resume and (directory / CHECKPOINT).exists())
        return train(*settings, directory=directory, resume=resume, **how)

    def stopped(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cycled_training, "train_cycled", watched)
    with monkeypatch.context() as patch:
        patch.setattr(cell_module, "_metrics", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(experiment, tmp_path / "again")
    run_experiment(experiment, tmp_path / "again", resume=True)
    assert seen == [False, True]
    stopped_and_not = []
    for name in ("whole", "again"):
        result = CycledResult.open(tmp_path / name / "tiny" / "gru")
        stopped_and_not.append(rows_of([result])["gru"].resumed)
    assert stopped_and_not == [0.0, 1.0]
    whole, again = (tmp_path / name / "tiny" / "gru" for name in ("whole", "again"))
    assert contents(again) == contents(whole)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({**MLP, "memory": "carried"}, "memory: expected 'window' for model 'mlp'"),
        ({**GRU, "model": "rnn"}, "model: expected one of mlp, gru, lstm"),
        ({**GRU, "training": {"epochs": 0}}, "epochs: expected at least 1"),
        ({**GRU, "cycles": {"unrol": 3}}, "cycles.unrol: unknown key; did you mean"),
    ],
)
def test_settings_that_make_no_sense(method: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        encoders(it=method)


def test_the_table_of_an_encoder_is_read_back() -> None:
    [cell] = encoders(mlp=MLP).cells()
    table = cell.to_tables()["method"]
    assert table["scheme"] == "encoder"
    assert table["cycles"]["unroll"] == 3
    assert encoders(mlp=table).cells() == [cell]
