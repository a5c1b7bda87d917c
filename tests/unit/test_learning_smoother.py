"""The smoother of an encoder: what it may read, what it gains, and its files."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from l63fast.assimilation.cycling import CycleResult, run_cycles
from l63fast.errors import ArgumentValueError
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.encoders import build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.learning.training import TrainResult, train
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment
from learning_samples import CYCLES, GRU, LSTM, MLP, TWIN, samples

LAG = 2
SMOOTHED = dataclasses.replace(GRU, lag=LAG)
RECIPE = TrainSettings(epochs=2, batch_size=16, averaging=0.9, optimiser="muon")
# Enough to learn something, in a few seconds.
LONGER = TrainSettings(
    loss="distance",
    epochs=4,
    batch_size=32,
    learning_rate=4e-3,
    averaging=0.95,
    optimiser="muon",
)


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(dataclasses.replace(TWIN, n_test=3))


@pytest.fixture(scope="module")
def trained(twin: TwinExperiment) -> TrainResult:
    cycles = dataclasses.replace(CYCLES, updates=240, unroll=9)
    return train_cycled(SMOOTHED, LONGER, cycles, twin)


def run(twin: TwinExperiment, settings: EncoderSettings, **kw: Any) -> TrainResult:
    return train_cycled(settings, RECIPE, CYCLES, twin, **kw)


def smoothed(
    function: EncoderFunction, start: np.ndarray, seen: np.ndarray, n_steps: int = 10
) -> np.ndarray:
    """Return the smoothed states (n, n_cycles, 3) of each cycle, NaN at the end."""
    scheme = NeuralAnalysis(function)
    state, found = scheme.initial(start, np.random.default_rng(0)), []
    for k in range(scheme.window - 1, seen.shape[1]):
        state = scheme.forecast(state, n_steps)
        window = seen[:, k + 1 - scheme.window : k + 1]
        state, analysis = scheme.analyse(state, window)
        found.append(analysis.smoothed)
    lag = function.lag
    return np.stack([*found[lag:], *[np.full_like(found[0], np.nan)] * lag], axis=1)


def same(one: TrainResult, other: TrainResult) -> bool:
    given, expected = one.encoder.state_dict(), other.encoder.state_dict()
    return (
        (one.history, one.smoother) == (other.history, other.smoother)
        and given.keys() == expected.keys()
        and all(torch.equal(given[name], expected[name]) for name in expected)
    )


@pytest.mark.parametrize("settings", [GRU, LSTM, MLP], ids=lambda s: s.model)
def test_training_repeats_and_resumes_to_the_bit(
    settings: EncoderSettings, twin: TwinExperiment, tmp_path: Path
) -> None:
    settings = dataclasses.replace(settings, lag=LAG)
    whole = run(twin, settings)
    assert [row["epoch"] for row in whole.history + whole.smoother] == [1, 2, 1, 2]
    torch.manual_seed(99)
    assert same(run(twin, settings), whole)
    for stop in (1, 3):  # in the training of the filter, and of the smoother
        rows: list[dict[str, Any]] = []

        def interrupt(
            row: dict[str, Any], rows: list[Any] = rows, stop: int = stop
        ) -> None:
            rows.append(row)
            if len(rows) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(twin, settings, directory=tmp_path, report=interrupt)
        later: list[Any] = []
        resumed = run(
            twin, settings, directory=tmp_path, resume=True, report=later.append
        )
        assert same(resumed, whole)
        assert rows + later == whole.history + whole.smoother


def test_the_filter_is_the_same_with_a_smoother(twin: TwinExperiment) -> None:
    with_smoother, alone = run(twin, SMOOTHED), run(twin, GRU)
    assert with_smoother.history == alone.history
    assert with_smoother.best_epoch == alone.best_epoch
    assert alone.smoother == []
    weights = with_smoother.encoder.state_dict()
    for name, expected in alone.encoder.state_dict().items():
        assert torch.equal(weights.pop(name), expected), name
    assert all(name.startswith("smoother.") for name in weights)
    assert all(p.requires_grad for p in with_smoother.encoder.parameters())


def test_smoothed_states_are_nearer_to_the_truth(
    twin: TwinExperiment, trained: TrainResult
) -> None:
    first, last = trained.smoother[0], trained.smoother[-1]
    filtered = trained.history[trained.best_epoch - 1]
    assert last["val_loss"] < first["val_loss"] < filtered["val_loss"]
    assert last["val_rmse_s"] < 0.92 * filtered["val_rmse_a"]


def test_only_the_next_observations_are_read(trained: TrainResult) -> None:
    function = EncoderFunction.of(trained.encoder)
    rng = np.random.default_rng(1)
    start = rng.normal(size=(5, 3)) + np.array([1.0, 2.0, 20.0])
    seen = rng.normal(size=(5, 9, 2)) * 5.0
    before = smoothed(function, start, seen)
    changed = seen.copy()
    changed[:, 6] += 1.0
    moved = (smoothed(function, start, changed) != before).any(axis=(0, 2))
    # The last two states are NaN; no state sees an observation after LAG more.
    assert moved.tolist() == [False] * (6 - LAG) + [True] * (3 + LAG)


def test_states_do_not_depend_on_others_of_the_batch(trained: TrainResult) -> None:
    function = EncoderFunction.of(trained.encoder)
    rng = np.random.default_rng(2)
    start = rng.normal(size=(600, 3)) + np.array(
        [1.0, 2.0, 20.0]
    )  # more than one chunk
    seen = rng.normal(size=(600, 5, 2)) * 5.0
    together = smoothed(function, start, seen)[:, :-LAG]
    for i in (0, 511, 512, 599):
        alone = smoothed(function, start[i : i + 1], seen[i : i + 1])[0, :-LAG]
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-4)
    start[7] = np.nan
    lost = smoothed(function, start, seen)[:, :-LAG]
    assert np.isnan(lost[7]).all()
    others = np.arange(600) != 7
    np.testing.assert_allclose(lost[others], together[others], rtol=0, atol=1e-4)


def cycled(twin: TwinExperiment, function: EncoderFunction) -> CycleResult:
    scheme = NeuralAnalysis.for_twin(twin, encoder=function)
    return run_cycles(scheme, twin, initial=twin.test.initial_state)


def test_files_hold_the_smoother_and_programs_the_filter(
    twin: TwinExperiment, trained: TrainResult, tmp_path: Path
) -> None:
    save_model(trained.encoder, tmp_path, {}, formats=("torchscript",))
    expected = cycled(twin, EncoderFunction.of(trained.encoder))
    assert expected.smoother_lag == LAG
    assert expected.smoothed is not None
    assert np.isnan(expected.smoothed[:, -LAG:]).all()
    loaded = load_encoder(tmp_path)
    for function in (loaded, pickle.loads(pickle.dumps(loaded))):
        found = cycled(twin, function)
        np.testing.assert_array_equal(found.smoothed, expected.smoothed)
        np.testing.assert_array_equal(found.analysis, expected.analysis)
    program = load_encoder(tmp_path, format="torchscript", trust=True)
    found = cycled(twin, program)
    assert (program.lag, found.smoothed) == (0, None)
    np.testing.assert_allclose(found.analysis, expected.analysis, rtol=0, atol=1e-2)
    first = tmp_path / "model.safetensors"
    content = first.read_bytes()
    save_model(trained.encoder, tmp_path, {}, formats=())
    assert first.read_bytes() == content


def test_gaps_and_operators_that_see_no_sign_can_be_smoothed() -> None:
    data = dataclasses.replace(
        TWIN, operator="x2", missing=0.3, interval=(0.05, 0.15), save_every=1
    )
    twin = TwinExperiment.generate(data)
    settings = dataclasses.replace(SMOOTHED, operator="x2")
    encoder = run(twin, settings).encoder
    assert encoder.settings.gaps
    scheme = NeuralAnalysis.for_twin(twin, encoder=EncoderFunction.of(encoder))
    result = run_cycles(scheme, twin, "val", initial=twin.val.initial_state)
    assert result.smoothed is not None
    assert np.isfinite(result.smoothed[:, :-LAG]).all()
    # The mirror image is that of the analysis.
    product = (result.smoothed * result.analysis)[:, :-LAG, :2].sum(axis=-1)
    assert (product >= 0.0).all()


def test_an_operator_of_ones_own_can_be_smoothed(twin: TwinExperiment) -> None:
    own = ObservationOperator.custom(
        lambda states: states[..., :2], obs_dim=2, name="mine"
    )
    data = dataclasses.replace(TWIN, operator=own, n_steps=200)
    settings = dataclasses.replace(SMOOTHED, operator=own)
    result = run(TwinExperiment.generate(data), settings)
    assert np.isfinite(result.smoother[-1]["val_rmse_s"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"uncertainty": "gaussian"},
        {"model": "nets:Net"},
        {"memory": "window", "analysis_at": "first"},
        {"lag": -1},
    ],
)
def test_encoders_that_cannot_be_smoothed_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentValueError, match=r"^lag: expected"):
        dataclasses.replace(SMOOTHED, **wrong)


def test_losses_and_data_that_cannot_train_a_smoother_are_refused(
    twin: TwinExperiment,
) -> None:
    recipe = dataclasses.replace(RECIPE, loss="var3d")
    with pytest.raises(
        ArgumentValueError, match=r"^loss: expected 'mse' or 'distance'"
    ):
        train_cycled(SMOOTHED, recipe, CYCLES, twin)
    settings = dataclasses.replace(MLP, lag=LAG)
    data = samples("xy", 20)
    with pytest.raises(ArgumentValueError, match=r"^lag: expected 0 for a dataset"):
        train(settings, RECIPE, data, data)


def test_an_untrained_smoother_leaves_the_analyses() -> None:
    encoder = build_encoder(SMOOTHED, Normaliser.identity("xy"))
    encoder.head.outer.bias.data.fill_(0.25)
    function = EncoderFunction.of(encoder)
    seen, start = np.zeros((2, 4, 2)), np.ones((2, 3))
    result = smoothed(function, start, seen)
    scheme = NeuralAnalysis(function)
    state = scheme.forecast(scheme.initial(start, np.random.default_rng(0)), 10)
    _, analysis = scheme.analyse(state, seen[:, :1])
    np.testing.assert_allclose(result[:, 0], analysis.state, rtol=0, atol=1e-5)
