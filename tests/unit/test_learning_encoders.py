"""Encoders: one interface, one size, a fixed point that starts from the background."""

from typing import Any

import numpy as np
import pytest
import torch

from l63fast.learning.batches import as_batch
from l63fast.learning.encoders import (
    ENCODERS,
    Encoder,
    build_encoder,
    n_parameters,
)
from l63fast.learning.fixed_point import fixed_point_report
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import ENCODER_NAMES, EncoderSettings
from l63fast.observation import ObservationOperator
from learning_samples import samples

OPERATORS = ("x", "xy", "xyz", "x2", "xz", "x2z", "x3y2z4")


def encoder(
    model: str,
    operator: str = "xy",
    *,
    random: bool = True,
    n_iterations: int = 3,
    **more: Any,
) -> Encoder:
    """Return a small encoder, its last layer drawn where `random`."""
    data = samples(operator, 200, window=3)
    settings = EncoderSettings(model, operator, 3, 16, n_iterations, **more)
    built = build_encoder(settings, Normaliser.fit(data, operator), seed=1)
    if random:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            built.head.outer.weight.normal_(std=0.3)
    return built.eval()


@pytest.mark.parametrize("window", [1, 5, 10, 40])
@pytest.mark.parametrize("operator", ["x", "xy", "xyz"])
@pytest.mark.parametrize("hidden", [16, 64, 128])
def test_all_encoders_are_of_one_size(hidden: int, operator: str, window: int) -> None:
    sizes = [
        n_parameters(
            build_encoder(
                EncoderSettings(model, operator, window, hidden),
                Normaliser.identity(operator),
            )
        )
        for model in ENCODERS
    ]
    assert max(sizes) < 1.1 * min(sizes), sizes


@pytest.mark.parametrize("operator", OPERATORS)
def test_observes_as_the_operator_does(operator: str) -> None:
    states = torch.randn(50, 3)
    ours = encoder("mlp", operator).observe(states)
    assert torch.equal(ours, ObservationOperator(operator)(states))


@pytest.mark.parametrize("operator", ["xy", "x2"])
@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_training_starts_from_the_background(model: str, operator: str) -> None:
    batch = as_batch(samples(operator, 20, window=3))
    fresh = encoder(model, operator, random=False)
    hidden = fresh.initial_hidden(20)
    analysis, later = fresh(batch.background, batch.obs_window, hidden)
    rounding = 1e-6 if operator == "x2" else 0.0  # there and back
    assert torch.allclose(analysis, batch.background, rtol=rounding, atol=rounding)
    assert hidden.shape == later.shape == (20, 0)


@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_every_input_matters(model: str) -> None:
    batch = as_batch(samples("xy", 20, window=3))
    built = encoder(model)
    hidden = built.initial_hidden(20)
    analysis, _ = built(batch.background, batch.obs_window, hidden)
    for step in range(3):
        changed = batch.obs_window.clone()
        changed[:, step] += 1.0
        other, _ = built(batch.background, changed, hidden)
        assert (other != analysis).any(dim=1).all(), step
    moved, _ = built(batch.background + 1.0, batch.obs_window, hidden)
    assert not torch.allclose(moved - 1.0, analysis, atol=1e-3)


@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_the_analysis_is_the_last_iterate(model: str) -> None:
    batch = as_batch(samples("x2", 20, window=3))
    built = encoder(model, "x2")
    hidden = built.initial_hidden(20)
    with torch.no_grad():
        analysis, _ = built(batch.background, batch.obs_window, hidden)
        found = built.iterates(batch.background, batch.obs_window, hidden, 5)
        start = built.coordinates(batch.background)
        static, _ = built.read(start, batch.obs_window, hidden)
        delta = torch.zeros_like(start)
        for _ in range(3):
            delta = built.correct(start, batch.obs_window, static, delta)
    assert torch.equal(analysis, found[3])
    assert torch.equal(found[3], built.state(start + delta, batch.background))
    assert torch.equal(found[0], batch.background)


@pytest.mark.parametrize("operator", ["xy", "x2"])
@pytest.mark.parametrize("model", ENCODER_NAMES)
def test_legacy_iterations_take_each_analysis_for_a_background(
    model: str, operator: str
) -> None:
    background, obs_window, _ = as_batch(samples(operator, 20, window=3))
    legacy = encoder(model, operator, iteration="legacy")
    once = encoder(model, operator, n_iterations=1)
    hidden = legacy.initial_hidden(20)
    with torch.no_grad():
        analysis, _ = legacy(background, obs_window, hidden)
        found = legacy.iterates(background, obs_window, hidden, 4)
        expected, other = [background], encoder(model, operator)
        for _ in range(4):
            expected.append(once(expected[-1], obs_window, hidden)[0])
        fixed_point, _ = other(background, obs_window, hidden)
    assert torch.equal(analysis, found[3])
    assert torch.allclose(found, torch.stack(expected), rtol=1e-3, atol=1e-3)
    # The same weights, but x_b stays what it is.
    assert (analysis - fixed_point).abs().mean() > 0.01


@pytest.mark.parametrize("memory", ["window", "carried"])
def test_each_iteration_sees_the_innovation_of_its_own_state(memory: str) -> None:
    data = samples("x2", 20, window=3)
    batch = as_batch(data)
    built = encoder("gru", "x2", memory=memory)
    seen: list[torch.Tensor] = []
    built.head.register_forward_hook(lambda head, given, _: seen.append(given[2]))
    hidden = built.initial_hidden(20)
    with torch.no_grad():
        found = built.iterates(batch.background, batch.obs_window, hidden, 3)
    h = ObservationOperator("x2")
    assert len(seen) == 3
    for innovation, states in zip(seen, found[:-1], strict=True):
        expected = (batch.obs_window[:, -1] - h(states)) / built.innovation_std
        if memory == "carried":
            s, c = built.increment_std[0], built.innovation_std
            a = 2.0 * states[:, :1].abs() * s / c
            gain = a / (1.0 + a.square())  # K = B H / (H B H + R), in units of s and c
            expected = torch.cat([expected / (1.0 + a**2).sqrt(), gain * expected], 1)
        assert torch.allclose(innovation, expected, rtol=1e-4, atol=1e-5)


def test_what_a_carried_memory_reads_is_bounded_where_h_is_steep() -> None:
    built = encoder("gru", "x2", memory="carried")
    error = built.increment_std[0]
    truth = torch.linspace(-60.0, 60.0, 601)[:, None].repeat(1, 3)
    estimate = built.coordinates(truth + error)
    read = built.innovation(estimate, truth[:, None, :1].square())
    assert read.shape == (601, 2)
    assert read.abs().max() < 1.5  # an innovation as such is about 40 there


@pytest.mark.parametrize("operator", ["x", "x2", "xz3", "x2y2z4"])
def test_slopes_are_the_derivatives_of_h(operator: str) -> None:
    built = encoder("mlp", operator)
    states = samples("x", 9).truth
    found = built.slope(torch.from_numpy(states)).numpy()
    slopes = ObservationOperator(operator).jacobian_diagonal(states)
    assert np.allclose(found, slopes, rtol=1e-12)


def test_samples_do_not_see_each_other() -> None:
    batch = as_batch(samples("xy", 20, window=3))
    for model in ENCODERS:
        built = encoder(model)
        whole, _ = built(*batch[:2], built.initial_hidden(20))
        one, _ = built(*(v[7:8] for v in batch[:2]), built.initial_hidden(1))
        assert torch.allclose(one[0], whole[7], atol=1e-5)


def test_weights_depend_on_the_seed_alone() -> None:
    settings, scales = EncoderSettings(hidden=8), Normaliser.identity("xy")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = build_encoder(settings, scales, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    second = build_encoder(settings, scales, seed=5).state_dict()
    third = build_encoder(settings, scales, seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.inner.weight"], third["head.inner.weight"])


def test_fixed_point_report_follows_the_iterates() -> None:
    data = samples("xy", 1100, window=3)
    built = encoder("gru")
    report = fixed_point_report(built, data, n_iterations=4)
    batch = as_batch(data)
    with torch.no_grad():
        found = built.iterates(*batch[:2], built.initial_hidden(len(data)), 4).numpy()
    moved = np.sqrt((np.diff(found, axis=0) ** 2).sum(-1).mean(1))
    error = found - data.truth
    assert np.allclose(report.residual, moved, rtol=1e-4)
    assert np.allclose(report.contraction, moved[1:] / moved[:-1], rtol=1e-3)
    assert np.allclose(report.rmse, np.sqrt((error**2).mean((1, 2))), rtol=1e-4)
