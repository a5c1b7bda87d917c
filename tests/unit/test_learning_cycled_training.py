"""Training in cycles repeats to the bit, resumes exactly, and says when it is lost."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from l63fast.assimilation.cycling import CycleResult, run_cycles
from l63fast.errors import ArgumentValueError, ModelFileError, TrainingDiverged
from l63fast.learning import cycles
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.encoders import Encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.learning.settings import ChainSettings, EncoderSettings, TrainSettings
from l63fast.learning.training import TrainResult
from l63fast.lorenz63 import Lorenz63
from l63fast.twin import ForecastModel, TwinExperiment, TwinSettings
from learning_samples import CYCLES, GRU, LSTM, MLP, TWIN

RECIPE = TrainSettings(
    epochs=3,
    batch_size=16,
    learning_rate=3e-3,
    averaging=0.9,
    warm_restarts=1,
    optimiser="muon",
)


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(TWIN)


def run(
    twin: TwinExperiment,
    settings: EncoderSettings = GRU,
    recipe: TrainSettings = RECIPE,
    cycles: ChainSettings = CYCLES,
    **kw: Any,
) -> TrainResult:
    return train_cycled(settings, recipe, cycles, twin, **kw)


def digest(result: TrainResult) -> str:
    sha = hashlib.sha256(repr(result.history).encode())
    for name, value in result.encoder.state_dict().items():
        sha.update(name.encode() + value.numpy().tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize("settings", [GRU, LSTM, MLP], ids=lambda s: s.model)
@pytest.mark.promise("N7", "equal sha256 of training in cycles")
def test_cycles_repeat_and_resume_to_the_bit(
    settings: EncoderSettings, twin: TwinExperiment, tmp_path: Path
) -> None:
    whole = run(twin, settings)
    torch.manual_seed(99)
    assert digest(run(twin, settings)) == digest(whole)
    for stop in (1, 2):

        def interrupt(record: dict[str, Any], stop: int = stop) -> None:
            if record["epoch"] == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(twin, settings, directory=tmp_path, report=interrupt)
        resumed = run(twin, settings, directory=tmp_path, resume=True)
        assert digest(resumed) == digest(whole), stop
    other = dataclasses.replace(CYCLES, unroll=5)
    with pytest.raises(ModelFileError, match="another run: unroll 4, not 5"):
        run(twin, settings, cycles=other, directory=tmp_path, resume=True)


@pytest.mark.promise("L3", "training in cycles")
def test_training_does_not_read_the_test_split(twin: TwinExperiment) -> None:
    opened: list[str] = []
    watched = TwinExperiment(
        twin.settings,
        twin.R.copy(),
        twin.origin,
        twin.hashes,
        {
            name: lambda name=name: opened.append(name) or twin.split(name)
            for name in ("train", "val", "test")
        },
    )
    assert digest(run(watched)) == digest(run(twin))
    assert set(opened) == {"val"}


def test_training_in_cycles_improves_the_analyses(twin: TwinExperiment) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=6, batch_size=64, averaging=0.95)
    cycles = dataclasses.replace(CYCLES, updates=40)
    result = run(twin, recipe=recipe, cycles=cycles)
    first, last = result.history[0], result.history[-1]
    assert {"val_loss", "val_rmse_pooled_a", "val_rmse_a"} <= first.keys()
    assert "seconds" not in first  # it would differ from run to run
    assert last["val_rmse_a"] < min(0.7, first["val_rmse_a"])  # of 3D-Var: 0.57
    assert last["val_rmse_a"] < last["val_rmse_pooled_a"]
    assert last["val_loss"] == pytest.approx(
        3.0 * last["val_rmse_pooled_a"] ** 2, rel=1e-4
    )


def test_weights_are_averaged(twin: TwinExperiment) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1, warm_up=0.0)
    cycles = dataclasses.replace(CYCLES, updates=1)
    plain = dataclasses.replace(recipe, averaging=0.0)
    one = run(twin, recipe=recipe, cycles=cycles).encoder.state_dict()
    same = run(twin, recipe=plain, cycles=cycles).encoder.state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    averaged = run(twin).encoder.state_dict()
    latest = run(twin, recipe=dataclasses.replace(RECIPE, averaging=0.0))
    assert not torch.equal(
        averaged["head.outer.weight"],
        latest.encoder.state_dict()["head.outer.weight"],
    )


@pytest.mark.parametrize("n_lost", [3, 12])
def test_lost_estimates_begin_anew_unless_they_are_most(
    n_lost: int,
    twin: TwinExperiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    analysed, calls = Encoder.forward, 0

    def astray(self: Encoder, *given: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        analysis, hidden = analysed(self, *given)
        if calls == 60:  # in epoch 2
            far = (torch.arange(len(analysis)) < n_lost).float()[:, None]
            analysis = analysis + 1e6 * far
        return analysis, hidden

    monkeypatch.setattr(Encoder, "forward", astray)
    monkeypatch.setattr(cycles, "compiled", lambda *given: None)
    if n_lost == 3:
        assert np.isfinite(run(twin).history[-1]["val_loss"])
        return
    with pytest.raises(TrainingDiverged, match=r"epoch 2, step \d: 12 of 16 .*\.pt"):
        run(twin, directory=tmp_path)


def test_a_lost_validation_trajectory_counts_and_ends_nothing(
    twin: TwinExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(twin).history[0]
    estimate = EncoderFunction.estimate

    def astray(self: EncoderFunction, *given: Any) -> Any:
        found = estimate(self, *given)
        if len(found.analysis) == 20:
            found.analysis[3] = np.nan
        return found

    monkeypatch.setattr(EncoderFunction, "estimate", astray)
    lost = run(twin).history[0]
    assert lost["val_rmse_a"] != whole["val_rmse_a"]
    assert np.isfinite(
        [lost["val_rmse_a"], lost["val_rmse_pooled_a"], lost["val_loss"]]
    ).all()
    assert lost["train_loss"] == whole["train_loss"]


def test_a_gradient_that_is_not_finite_stops_training(
    twin: TwinExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l63fast.learning import dynamics

    monkeypatch.setattr(dynamics, "adjoint", lambda s, g, n, **kw: g * np.inf)
    monkeypatch.setattr(cycles, "compiled", lambda *given: None)
    with pytest.raises(TrainingDiverged, match=r"the gradient diverged .*non-finite"):
        run(twin)


def test_an_encoder_of_another_operator_is_refused(twin: TwinExperiment) -> None:
    with pytest.raises(ArgumentValueError, match="encoder_settings: expected operator"):
        run(twin, dataclasses.replace(GRU, operator="x"))


def test_a_twin_whose_noise_cannot_be_simulated_is_refused(
    twin: TwinExperiment,
) -> None:
    openers = {name: lambda: twin.val for name in twin.hashes}
    R = np.array([[1.0, 0.5], [0.5, 1.0]])
    other = TwinExperiment(twin.settings, R, "from arrays", twin.hashes, openers)
    with pytest.raises(ArgumentValueError, match="twin: expected R as in its settings"):
        run(other)


def test_a_memory_learns_the_parameters(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"n_train": 30, "n_val": 8, "n_test": 20, "n_steps": 1200}
    spread: Any = (0.0, 0.1, 0.0)
    varied = TwinSettings("xyz", sigma=0.3, parameters_spread=spread, **sizes)
    twin = TwinExperiment.generate(varied)
    settings = EncoderSettings(
        "gru", "xyz", window=1, hidden=16, memory="carried", estimates_parameters=True
    )
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=64, learning_rate=0.01)
    cycles = dataclasses.replace(CYCLES, updates=200, unroll=8)
    trained = train_cycled(settings, recipe, cycles, twin)

    def cycled(encoder: EncoderFunction) -> CycleResult:
        scheme = NeuralAnalysis.for_twin(twin, encoder=encoder)
        return run_cycles(scheme, twin, burn_in=60)

    result = cycled(EncoderFunction.of(trained.encoder))
    assert result.parameters is not None
    assert result.parameters_spread is not None
    error = result.parameters - twin.test.parameters[:, None]
    rms = np.sqrt((error**2).mean(axis=(0, 1)))
    # rho is uniform within 2.8 of 28; sigma and beta are known.
    assert rms[1] < 0.6 * 2.8 / np.sqrt(3.0)
    assert (rms[[0, 2]] < [0.5, 0.13]).all()
    claimed = np.sqrt((result.parameters_spread[..., 1] ** 2).mean())
    assert 0.5 < rms[1] / claimed < 2.0
    # A file of weights keeps them.
    save_model(trained.encoder, tmp_path, {}, formats=["safetensors"])
    again = cycled(load_encoder(tmp_path))
    np.testing.assert_array_equal(again.parameters, result.parameters)


def test_parameters_need_a_memory_and_data_where_they_vary(
    twin: TwinExperiment,
) -> None:
    settings = dataclasses.replace(GRU, estimates_parameters=True)
    assert settings.to_dict()["estimates_parameters"]
    assert "estimates_parameters" not in GRU.to_dict()
    with pytest.raises(ArgumentValueError, match="a parameters_spread above 0"):
        run(twin, settings)
    wrong: list[dict[str, Any]] = [{"memory": "window"}, {"uncertainty": "gaussian"}]
    for changed in wrong:
        with pytest.raises(ArgumentValueError, match="estimates_parameters: expected"):
            dataclasses.replace(settings, **changed)


def test_encoders_are_trained_with_the_model_that_they_forecast_with(
    twin: TwinExperiment,
) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1)
    plain = run(twin, recipe=recipe)
    by_model = {}
    for model in (ForecastModel(Lorenz63(13.0)), ForecastModel(dt=TWIN.dt / 2)):
        other = run(twin.with_model(model), recipe=recipe)
        made_for = other.encoder.made_for
        expected = model.arguments(TWIN)
        assert (made_for.dt, made_for.parameters) == tuple(expected.values())
        assert digest(other) != digest(plain)
        by_model[model] = other.history[-1]["val_rmse_a"]
    # Half the step is the same model, in twice as many steps.
    worse, same = by_model.values()
    assert same == pytest.approx(plain.history[-1]["val_rmse_a"], rel=0.02)
    assert worse != pytest.approx(plain.history[-1]["val_rmse_a"], rel=0.02)
