"""A carried memory: from cycle to cycle, through every export, hidden unless asked."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from l63fast.assimilation.cycling import run_cycles
from l63fast.errors import ArgumentValueError, ModelFileError
from l63fast.learning import programs
from l63fast.learning.batches import as_batch
from l63fast.learning.card import CARD
from l63fast.learning.encoders import (
    Encoder,
    build_encoder,
    matched_width,
    n_parameters,
)
from l63fast.learning.export import load_encoder, parity_error, save_model
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.readers import CARRIED
from l63fast.learning.settings import CARRIED_NAMES, EncoderSettings
from l63fast.learning.training import TrainSettings, train
from l63fast.lorenz63 import forecast
from l63fast.twin import TwinExperiment, TwinSettings
from learning_samples import samples

TENSORS = {"gru": 1, "lstm": 2}  # that an encoder remembers: h, or h and c


def encoder(model: str, operator: str = "xy", *, window: int = 1) -> Encoder:
    data = samples(operator, 200, window=window)
    settings = EncoderSettings(
        model, operator, window, hidden=16, n_iterations=2, memory="carried"
    )
    built = build_encoder(settings, Normaliser.fit(data, operator), seed=1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        built.head.outer.weight.normal_(std=0.2)
    return built.eval()


def test_the_names_are_those_of_the_classes() -> None:
    assert tuple(CARRIED) == CARRIED_NAMES
    with pytest.raises(ArgumentValueError, match="memory: expected 'window' for model"):
        EncoderSettings("mlp", memory="carried")
    with pytest.raises(ArgumentValueError, match="memory: expected one of"):
        EncoderSettings("gru", memory="long")
    with pytest.raises(ArgumentValueError, match="iteration: expected 'fixed_point'"):
        EncoderSettings("gru", memory="carried", iteration="legacy")


def test_the_carried_encoders_are_of_one_size() -> None:
    for window in (1, 4):
        gru, lstm = (n_parameters(encoder(m, window=window)) for m in CARRIED_NAMES)
        assert abs(gru - lstm) < 0.1 * gru


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("model", CARRIED_NAMES)
def test_the_analysis_follows_from_all_inputs_and_the_memory(
    model: str, window: int
) -> None:
    built = encoder(model, window=window)
    batch = as_batch(samples("xy", 20, window=window))
    start = built.initial_hidden(20)
    assert start.shape == (20, TENSORS[model] * matched_width(built.settings))
    with torch.no_grad():
        first, later = built(*batch[:2], start)
        again, _ = built(*batch[:2], later)
        moved, seen = built(batch.background + 1.0, batch.obs_window, start)
    assert later.shape == start.shape
    assert (later != 0.0).any(1).all()
    assert not torch.allclose(first, again, atol=1e-3)
    assert not torch.allclose(moved - 1.0, first, atol=1e-3)
    assert not torch.allclose(seen, later, atol=1e-3)


@pytest.mark.parametrize("model", CARRIED_NAMES)
def test_gradients_reach_back_through_the_memory(model: str) -> None:
    built = encoder(model)
    batch = as_batch(samples("xy", 5, window=1))
    observation = batch.obs_window.clone().requires_grad_()
    _, hidden = built(batch.background, observation, built.initial_hidden(5))
    analysis, _ = built(batch.background, batch.obs_window, hidden)
    analysis.sum().backward()
    assert observation.grad is not None
    assert (observation.grad != 0.0).any(2).all()


@pytest.mark.slow
@pytest.mark.parametrize("model", CARRIED_NAMES)
def test_every_format_carries_the_same_memory(model: str, tmp_path: Path) -> None:
    built = encoder(model, "x2z")
    card = save_model(built, tmp_path, {}, formats=("torchscript", "pt2"))
    assert card["encoder"]["memory"] == "carried"
    assert card["hidden_size"] == TENSORS[model] * matched_width(built.settings)
    data = samples("x2z", 6, window=1)
    eager = EncoderFunction.of(built)
    for format in ("safetensors", "torchscript", "pt2"):
        loaded = load_encoder(tmp_path, format=format, trust=True)
        hidden, expected = None, None
        for _ in range(3):
            ours, expected = eager.step(data.background, data.obs_window, expected)
            analysis, hidden = loaded.step(data.background, data.obs_window, hidden)
            assert np.allclose(analysis, ours, atol=1e-4)
            assert np.allclose(hidden, expected, atol=1e-5)
        first = loaded(data.background, data.obs_window)
        assert isinstance(first, np.ndarray)
        assert np.allclose(first, eager(data.background, data.obs_window), atol=1e-4)
        assert not np.allclose(first, analysis, atol=1e-4)


def test_a_program_that_forgets_is_found_when_exported() -> None:
    built = encoder("gru")
    program = programs.torchscript_from(programs.torchscript_bytes(built))
    assert parity_error(built, program) < 1e-5

    def forgets(
        x: torch.Tensor, y: torch.Tensor, h: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return program(x, y, h)[0], h

    assert parity_error(built, forgets) > 1e-3


def test_a_card_from_before_memories_is_of_a_stateless_encoder(tmp_path: Path) -> None:
    settings = EncoderSettings("gru", "xy", window=2, hidden=8)
    save_model(build_encoder(settings, Normaliser.identity("xy")), tmp_path, {})
    card = json.loads((tmp_path / CARD).read_text())
    del card["encoder"]["memory"]
    (tmp_path / CARD).write_text(json.dumps(card))
    assert load_encoder(tmp_path).settings == settings
    del card["encoder"]["window"]
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelFileError, match=r"missing keys \['window'\]"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("model", CARRIED_NAMES)
def test_cycles_carry_the_memory(model: str) -> None:
    twin = TwinExperiment.generate(
        TwinSettings(n_train=3, n_val=2, n_test=4, n_steps=50, spin_up_time=1.0)
    )
    function = EncoderFunction.of(encoder(model))
    result = run_cycles(NeuralAnalysis(function), twin, "test")
    assert result.first_cycle == 0
    state, hidden = np.tile(twin.climatology.mean, (4, 1)), None
    for cycle in range(5):
        state = forecast(state, twin.settings.steps_per_cycle)
        assert np.array_equal(result.background[:, cycle], state)
        seen = np.ascontiguousarray(twin.test.observations[:, cycle : cycle + 1])
        state, hidden = function.step(state, seen, hidden)
        assert np.array_equal(result.analysis[:, cycle], state)


def test_samples_without_a_past_cannot_teach_a_memory() -> None:
    data = samples("xy", 50, window=1)
    settings = EncoderSettings("gru", "xy", window=1, hidden=8, memory="carried")
    with pytest.raises(ArgumentValueError, match="memory: expected 'window'"):
        train(settings, TrainSettings(epochs=1), data, data)
