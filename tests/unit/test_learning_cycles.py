"""Chains that run on while the encoder learns; gradients reach where they should."""

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from l63fast import _random
from l63fast.learning import cycles as cycles_module
from l63fast.learning.cycles import CycledBatches, limit_gradient
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import ChainSettings, EncoderSettings
from l63fast.lorenz63 import Lorenz63, forecast
from l63fast.twin import ForecastModel, TwinSettings
from learning_samples import CYCLES, GRU, MLP, TWIN


def source(
    encoder: Encoder,
    cycles: ChainSettings = CYCLES,
    twin: TwinSettings = TWIN,
    **more: Any,
) -> CycledBatches:
    counts: dict[str, Any] = {"n": 16, "n_epochs": 3, "seed": 0, "n_threads": 1}
    return CycledBatches(encoder, cycles, twin, **counts, **more)


def encoder(settings: EncoderSettings) -> Encoder:
    scales = dataclasses.replace(
        Normaliser.identity("xy"),
        state_mean=np.array([0.0, 0.0, 23.5]),
        state_std=np.array([8.0, 9.0, 8.6]),
    )
    built = build_encoder(settings, scales)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        built.head.outer.weight.normal_(std=0.02)
    return built


@pytest.mark.parametrize("taylor", [None, 2])
@pytest.mark.parametrize("settings", [GRU, MLP], ids=lambda s: s.model)
def test_each_background_is_the_forecast_of_the_last_analysis(
    settings: EncoderSettings, taylor: int | None
) -> None:
    cycles, model = dataclasses.replace(CYCLES, restarts=0.0), Lorenz63(taylor=taylor)
    made = source(encoder(settings), cycles, model=ForecastModel(model))
    batches = made.epoch(0, encoder(settings))
    last: np.ndarray | None = None
    windows: list[torch.Tensor] = []
    for _ in range(5):
        analysis, batch = next(batches)
        analyses = analysis.detach().double().numpy().reshape(-1, 16, 3)
        backgrounds = batch.background.numpy().reshape(-1, 16, 3)
        if last is not None:
            later = forecast(last, 10, parameters=model).astype(np.float32)
            assert np.array_equal(later, backgrounds[0])
        for k in range(1, len(analyses)):
            later = forecast(analyses[k - 1], 10, parameters=model).astype(np.float32)
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


def test_trajectories_restart_near_their_truth_and_without_memory(monkeypatch) -> None:
    monkeypatch.setattr(cycles_module, "compiled", lambda *given: None)
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
def test_so_many_restart_as_were_asked_for(rate: float) -> None:
    built = encoder(GRU)
    cycles = ChainSettings(updates=1000, unroll=1, first_unroll=1, restarts=rate)
    batches = source(built, cycles)
    n_begun = 0
    for update in range(1000):
        before = batches._estimate.clone()
        batches._restart(update)
        n_begun += int((batches._estimate != before).all(1).sum())
    expected = 1000 * 16 * rate
    assert abs(n_begun - 16 - expected) < 5.0 * np.sqrt(expected)


def test_no_two_draws_have_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_no_trajectory_outshouts_the_others() -> None:
    values = torch.randn(9, 3, generator=torch.manual_seed(0)).requires_grad_()
    loudness = torch.tensor([1.0] * 8 + [1e6])[:, None]
    passed = limit_gradient(values)
    assert torch.equal(passed, values)
    (passed * loudness).sum().backward()
    assert values.grad is not None
    size = values.grad.norm(dim=1)
    assert torch.allclose(size[:8], torch.full((8,), 3.0**0.5))
    assert torch.allclose(size[8], 8.0 * size[0])
    assert torch.allclose(values.grad[8] / size[8], torch.full((3,), 3.0**-0.5))


def test_silence_of_most_silences_no_one() -> None:
    values = torch.zeros(5, 3, requires_grad=True)
    limit_gradient(values)[0].sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad[0], torch.ones(3))
    empty = torch.zeros(4, 0, requires_grad=True)
    limit_gradient(empty).sum().backward()


def test_what_is_far_away_is_far_in_the_coordinates_of_the_encoder() -> None:
    scales = dataclasses.replace(
        Normaliser.identity("x2"),
        state_mean=np.array([0.0, 9.0, 23.5]),
        state_std=np.array([4.0, 4.0, 8.6]),
    )
    built = build_encoder(dataclasses.replace(GRU, operator="x2"), scales)
    batches = source(built, twin=dataclasses.replace(TWIN, operator="x2"))
    # On both wings, folded alike; far out, where the second coordinate is -34.
    states = torch.tensor(
        [[12.0, 17.0, 30.0], [-12.0, -17.0, 30.0], [24.0, -24.0, 30.0]]
    )
    lost = batches._lost(states.double())
    assert lost is not None
    assert lost.tolist() == [False, False, True]
    assert batches._lost(states[:2].double()) is None
