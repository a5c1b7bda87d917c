"""Training in cycles: chains that run on, gradients that reach where they should."""

import dataclasses
import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from l63fast.errors import ArgumentValueError, ModelFileError, TrainingDiverged
from l63fast.learning.chains import TruthChains
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.cycles import CycledBatches
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import CycleSettings, EncoderSettings, TrainSettings
from l63fast.learning.training import TrainResult
from l63fast.lorenz63 import forecast, simulate
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment, TwinSettings

TWIN = TwinSettings(
    "xy", n_train=1, n_val=20, n_test=1, n_steps=400, spin_up_time=2.0, save_every=10
)
GRU = EncoderSettings("gru", "xy", window=1, hidden=8, n_iterations=1, memory="carried")
LSTM = dataclasses.replace(GRU, model="lstm")
MLP = EncoderSettings("mlp", "xy", window=2, hidden=8, n_iterations=1)
RECIPE = TrainSettings(
    epochs=3,
    batch_size=16,
    learning_rate=3e-3,
    averaging=0.9,
    warm_restarts=1,
    optimiser="muon",
)
CYCLES = CycleSettings(updates=5, unroll=4, first_unroll=2, through_model=0.4)


def source(
    encoder: Encoder, cycles: CycleSettings = CYCLES, twin: TwinSettings = TWIN
) -> CycledBatches:
    return CycledBatches(encoder, cycles, twin, n=16, n_epochs=3, seed=0, n_threads=1)


def encoder(settings: EncoderSettings) -> Encoder:
    built = build_encoder(settings, Normaliser.identity("xy"))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        built.head.outer.weight.normal_(std=0.02)
    return built


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(TWIN)


def run(
    twin: TwinExperiment,
    settings: EncoderSettings = GRU,
    recipe: TrainSettings = RECIPE,
    cycles: CycleSettings = CYCLES,
    **kw: Any,
) -> TrainResult:
    return train_cycled(settings, recipe, cycles, twin, **kw)


def digest(result: TrainResult) -> str:
    sha = hashlib.sha256(repr(result.history).encode())
    for name, value in result.encoder.state_dict().items():
        sha.update(name.encode() + value.numpy().tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize("settings", [GRU, LSTM, MLP], ids=lambda s: s.model)
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


@pytest.mark.parametrize("settings", [GRU, MLP], ids=lambda s: s.model)
def test_each_background_is_the_forecast_of_the_last_analysis(
    settings: EncoderSettings,
) -> None:
    cycles = dataclasses.replace(CYCLES, restarts=0.0)
    batches = source(encoder(settings), cycles).epoch(0, encoder(settings))
    last: np.ndarray | None = None
    windows: list[torch.Tensor] = []
    for _ in range(5):
        analysis, batch = next(batches)
        analyses = analysis.detach().double().numpy().reshape(-1, 16, 3)
        backgrounds = batch.background.numpy().reshape(-1, 16, 3)
        if last is not None:
            assert np.array_equal(forecast(last, 10).astype(np.float32), backgrounds[0])
        for k in range(1, len(analyses)):
            later = forecast(analyses[k - 1], 10).astype(np.float32)
            assert np.array_equal(later, backgrounds[k])
        last = analyses[-1]
        windows += batch.obs_window.reshape(-1, 16, *batch.obs_window.shape[1:])
    for before, after in pairwise(windows):
        assert torch.equal(before[:, 1:], after[:, :-1])


def test_the_unroll_grows_and_then_gradients_pass_through_the_model() -> None:
    built = encoder(GRU)
    lengths, passed = [], []
    batches = source(built)
    for epoch in range(3):
        for analysis, batch in batches.epoch(epoch, built):
            lengths.append(len(analysis) // 16)
            passed.append(batch.background.requires_grad)
    assert lengths == [2, 2, 3, 3, 4, *[4] * 10]
    assert passed == [False] * 6 + [True] * 9


def test_trajectories_begin_anew_near_their_truth_and_without_memory() -> None:
    built = encoder(GRU)
    cycles = dataclasses.replace(CYCLES, restarts=1.0, start_sigma=0.0)
    memories: list[torch.Tensor] = []
    built.reader.register_forward_pre_hook(lambda _, given: memories.append(given[1]))
    for update, (analysis, batch) in enumerate(source(built, cycles).epoch(0, built)):
        assert torch.allclose(batch.background[:16], batch.truth[:16], atol=1e-4)
        assert not torch.allclose(batch.background[16:], batch.truth[16:], atol=1e-4)
        first = memories[-(len(analysis) // 16)]
        assert (first == 0.0).all(), update
        assert (memories[-1] != 0.0).any()


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_so_many_begin_anew_as_were_asked_for(rate: float) -> None:
    built = encoder(GRU)
    cycles = CycleSettings(updates=1000, unroll=1, first_unroll=1, restarts=rate)
    batches = source(built, cycles)
    n_begun = 0
    for update in range(1000):
        before = batches._estimate.clone()
        batches._begin_anew(update)
        n_begun += int((batches._estimate != before).all(1).sum())
    expected = 1000 * 16 * rate
    assert abs(n_begun - 16 - expected) < 5.0 * np.sqrt(expected)


def test_truths_run_on_and_are_observed_with_the_right_noise() -> None:
    settings = dataclasses.replace(TWIN, operator="xz", sigma=0.5)
    chains = TruthChains(settings, 500, seed=3, n_threads=1)
    start = chains.truth.copy()
    first, second = chains.advance(3, 0), chains.advance(2, 1)
    truth = np.concatenate([first.truth, second.truth]).swapaxes(0, 1)
    assert np.array_equal(truth, simulate(start, 50, save_every=10)[:, 1:])
    noise = first.observations - ObservationOperator("xz")(first.truth)
    assert noise.shape == (3, 500, 2)
    assert abs(noise.std() - 0.5) < 0.03
    assert abs(np.corrcoef(noise.reshape(-1, 2).T)[0, 1]) < 0.1
    again = TruthChains(settings, 500, seed=3, n_threads=1).advance(3, 0)
    assert np.array_equal(again.observations, first.observations)


def test_model_error_is_in_the_truth() -> None:
    settings = dataclasses.replace(TWIN, Q=0.25)
    chains = TruthChains(settings, 2000, seed=3, n_threads=1)
    start = chains.truth.copy()
    course = chains.advance(2, 0)
    for before, after in ((start, course.truth[0]), tuple(course.truth)):
        error = after - forecast(before, 10)
        assert np.allclose(np.cov(error.T), 0.25 * np.eye(3), atol=0.03)


def test_training_in_cycles_improves_the_analyses(twin: TwinExperiment) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=6, batch_size=64, averaging=0.95)
    cycles = dataclasses.replace(CYCLES, updates=40)
    result = run(twin, recipe=recipe, cycles=cycles)
    first, last = result.history[0], result.history[-1]
    assert last["val_rms"] < min(0.7, first["val_rms"])  # of 3D-Var: 0.57
    assert last["val_rms"] < last["val_rmse"]
    assert last["val_loss"] == pytest.approx(3.0 * last["val_rmse"] ** 2, rel=1e-4)


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


def test_a_lost_estimate_stops_training(
    twin: TwinExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysed, calls = Encoder.forward, 0

    def astray(self: Encoder, *given: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        analysis, hidden = analysed(self, *given)
        return (analysis + 1e6 if calls == 60 else analysis), hidden

    monkeypatch.setattr(Encoder, "forward", astray)
    with pytest.raises(TrainingDiverged, match=r"epoch 2, step \d; last good .*\.pt"):
        run(twin, directory=tmp_path)


def test_a_gradient_that_is_not_finite_stops_training(
    twin: TwinExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l63fast.learning import dynamics

    monkeypatch.setattr(dynamics, "adjoint", lambda s, g, n, **kw: g * np.inf)
    with pytest.raises(TrainingDiverged, match="the gradient became non-finite"):
        run(twin)


def test_an_encoder_of_another_operator_is_refused(twin: TwinExperiment) -> None:
    with pytest.raises(ArgumentValueError, match="operator: expected that of the twin"):
        run(twin, dataclasses.replace(GRU, operator="x"))


def test_no_two_draws_have_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from l63fast import _random

    keys: list[tuple[Any, ...]] = []
    drawn = _random.standard_normals

    def watched(*args: Any, draw: int, **kw: Any) -> np.ndarray:
        keys.append((*args[:3], draw))
        return drawn(*args, draw=draw, **kw)

    monkeypatch.setattr(_random, "standard_normals", watched)
    built = encoder(GRU)
    batches = source(built)
    for epoch in range(3):
        for _ in batches.epoch(epoch, built):
            pass
    assert len(keys) == 1 + 2 * 15
    assert len(set(keys)) == len(keys)
    scales = (0, "training", "train", 0)
    assert scales not in keys
