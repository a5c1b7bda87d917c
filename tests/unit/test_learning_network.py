"""Compiled encoders and chains give the values and gradients of torch's graph."""

from __future__ import annotations

import dataclasses
import gc
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from l63fast._kernels import network_kernels
from l63fast.errors import DivergenceError
from l63fast.learning import cycles as cycles_module
from l63fast.learning.cycles import CycledBatches
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.network import compiled
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import ChainSettings, EncoderSettings
from l63fast.learning.uncertainty import crps
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinSettings

pytestmark = pytest.mark.skipif(
    not network_kernels(), reason="networks are not compiled here"
)

PLAIN = {"window": 4, "hidden": 21}
KINDS = [
    EncoderSettings("mlp", "xy", **PLAIN),
    EncoderSettings("gru", "x", **PLAIN),
    EncoderSettings("lstm", "xyz", **PLAIN),
    EncoderSettings("gru", "x2", **PLAIN),
    EncoderSettings("gru", "xyz", window=1, hidden=64, memory="carried"),
    EncoderSettings("lstm", "xy", window=2, hidden=16, memory="carried"),
    EncoderSettings("lstm", "x2", window=1, hidden=21, memory="carried"),
    EncoderSettings("gru", "x2z", window=1, hidden=16, memory="carried"),
    EncoderSettings("gru", "xy2", window=1, hidden=16, memory="carried"),
]
UNCERTAIN = [
    dataclasses.replace(KINDS[4], uncertainty="gaussian"),
    dataclasses.replace(KINDS[5], uncertainty="mixture"),
    dataclasses.replace(KINDS[6], uncertainty="mixture"),
    dataclasses.replace(KINDS[1], uncertainty="gaussian"),
]
EQUIVARIANT = [dataclasses.replace(KINDS[i], equivariant=True) for i in (4, 5, 8)]
EQUIVARIANT.append(dataclasses.replace(EQUIVARIANT[1], gaps=True))


def named(settings: EncoderSettings) -> str:
    more = "equivariant" if settings.equivariant else settings.uncertainty
    return f"{settings.model}-{settings.operator}-{more}{'-gaps' * settings.gaps}"


def encoder(settings: EncoderSettings) -> Encoder:
    scales = Normaliser.identity(settings.operator)
    if settings.gaps:  # the time since the last observation
        more = {"obs_mean": np.zeros(3), "obs_std": np.ones(3)}
        scales = dataclasses.replace(scales, **more)
    scales = dataclasses.replace(
        scales,
        state_mean=np.array([0.0, 0.0, 23.5]),
        state_std=np.array([8.0, 9.0, 8.6]),
    )
    built = build_encoder(settings, scales).train()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return built


def gradients(analyse, built: Encoder, given: list[Tensor]) -> list[Tensor]:
    """Return analysis and hidden state, and the gradients of a sum of both."""
    analysis, later, *more = analyse(*given)
    weights = torch.linspace(-1.0, 1.0, analysis.numel()).view_as(analysis)
    loss = (analysis * weights).sum() + later.square().sum()
    for mixture in more:
        loss = loss + mixture.square().sum().log()
    wanted = [*built.parameters(), given[0]]
    wanted += [given[2]] if built.carries else []
    found = torch.autograd.grad(loss, wanted, retain_graph=True)
    again = torch.autograd.grad(loss, wanted)
    assert all(map(torch.equal, found, again))
    return [*(part.detach() for part in (analysis, later, *more)), *found]


def close(ours: list[Tensor], theirs: list[Tensor], limit: float) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        scale = other.abs().max().item() if other.numel() else 0.0
        torch.testing.assert_close(mine, other, rtol=0.0, atol=limit * scale)


@pytest.mark.parametrize(
    "settings",
    [*KINDS, *UNCERTAIN, *EQUIVARIANT],
    ids=named,
)
@pytest.mark.parametrize("n", [1, 37])
def test_values_and_gradients_are_torchs(settings: EncoderSettings, n: int) -> None:
    built = encoder(settings)
    draw = partial(torch.randn, generator=torch.manual_seed(1))
    given = [
        (8.0 * draw(n, 3) + built.state_mean).requires_grad_(),
        8.0 * draw(n, settings.window, settings.observation_size),
        draw(n, built.hidden_size).requires_grad_(),
    ]
    fast = compiled(built, n)
    assert fast is not None
    close(gradients(fast, built, given), gradients(built, built, given), 5e-6)


@pytest.mark.parametrize("settings", EQUIVARIANT, ids=named)
def test_mirror_images_give_mirror_images(settings: EncoderSettings) -> None:
    mirror = torch.tensor([-1.0, -1.0, 1.0])

    def both(built: Encoder) -> tuple[list[Tensor], list[Tensor]]:
        draw = partial(torch.randn, generator=torch.manual_seed(1))
        states = 8.0 * draw(20, 3)
        seen = 8.0 * draw(20, settings.window, settings.observation_size)
        signs = torch.tensor([*ObservationOperator(settings.operator).mirror_signs, 1])
        signs = signs[: settings.observation_size]
        memory, turn = draw(20, built.hidden_size), torch.ones(built.hidden_size)
        n_parts = 2 if settings.model == "lstm" else 1
        for part in turn.chunk(n_parts):
            part[len(part) - len(part) // 2 :] = -1.0
        analysis, later = built(states, seen, memory)
        found = built(states * mirror, seen * signs, memory * turn)
        return [analysis * mirror, later * turn], list(found)

    torch.testing.assert_close(*both(encoder(settings)), rtol=0.0, atol=0.0)
    other = encoder(dataclasses.replace(settings, equivariant=False))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(*both(other), rtol=0.01, atol=0.01)


def test_two_updates_at_a_time_do_not_mix() -> None:
    built = encoder(KINDS[1])
    window, hidden = torch.ones(5, 4, 1), built.initial_hidden(5)
    losses = []
    for shift in (0.0, 3.0):
        with torch.no_grad():
            built.head.outer.weight.add_(shift)
        fast = compiled(built, 5)
        assert fast is not None
        losses.append(fast(torch.ones(5, 3), window, hidden)[0].square().sum())
    first = torch.autograd.grad(losses[0], built.head.outer.bias)[0]
    with torch.no_grad():
        built.head.outer.weight.sub_(3.0)
    loss = built(torch.ones(5, 3), window, hidden)[0].square().sum()
    torch.testing.assert_close(
        first, torch.autograd.grad(loss, built.head.outer.bias)[0]
    )


def test_others_are_left_to_torch() -> None:
    several = dataclasses.replace(KINDS[1], n_iterations=2)
    assert compiled(encoder(several), 4) is None
    assert compiled(encoder(KINDS[1]).double(), 4) is None
    assert compiled(encoder(KINDS[1]), 0) is None


def chain(settings: EncoderSettings, monkeypatch, *, fast: bool, n_cycles=3, **more):
    """Return what one update of a chain gives, and its gradients."""
    built = encoder(settings)
    if not fast:
        monkeypatch.setattr(cycles_module, "compiled", lambda *given: None)
    options = {"updates": 1, "unroll": n_cycles, "first_unroll": n_cycles} | more
    few = {"n_train": 1, "n_val": 1, "n_test": 1, "missing": 0.3 * settings.gaps}
    twin = TwinSettings(settings.operator, sigma=1.0, **few)
    source = CycledBatches(
        built, ChainSettings(**options), twin, n=40, n_epochs=1, seed=0, n_threads=1
    )
    source._reach = source._reach * 0.3  # some estimates are lost
    ((analyses, batch),) = source.epoch(0, built)
    loss = analyses.square().mean()
    if built.settings.is_uncertain:
        loss = loss + 0.1 * crps(analyses, batch.truth).mean()
        analyses = analyses[:, 0, 1:4]
    if batch.background.requires_grad:
        loss = loss + 0.3 * (analyses - batch.background).square().mean()
    found = torch.autograd.grad(loss, list(built.parameters()))
    monkeypatch.undo()
    states = source.progress()
    kept = [analyses.detach(), batch.background.detach()]
    return [*kept, states["estimate"], states["hidden"], *found], batch


@pytest.mark.parametrize("through", [0.0, 1.0])
@pytest.mark.parametrize(
    "settings",
    [KINDS[0], *KINDS[3:], *UNCERTAIN[:3], *EQUIVARIANT],
    ids=named,
)
def test_a_chain_is_the_loop_over_its_cycles(settings, through, monkeypatch) -> None:
    more = {"through_model": through}
    ours, batch = chain(settings, monkeypatch, fast=True, **more)
    theirs, plain = chain(settings, monkeypatch, fast=False, **more)
    close(ours, theirs, 1e-5)
    assert batch.background.requires_grad == plain.background.requires_grad
    torch.testing.assert_close(
        batch.obs_window, plain.obs_window, rtol=0.0, atol=0.0, equal_nan=True
    )


def test_in_this_chain_estimates_are_lost(monkeypatch) -> None:
    found, batch = chain(KINDS[4], monkeypatch, fast=True)
    away = (found[2] - batch.truth[-40:]).abs().max(1).values
    assert 0 < int((away < 1e-4).sum()) < 20


def test_most_estimates_lost_is_an_error(monkeypatch) -> None:
    built = encoder(KINDS[4])
    with torch.no_grad():
        built.head.outer.bias.add_(1e4)
    twin = TwinSettings("xyz", n_train=1, n_val=1, n_test=1)
    settings = ChainSettings(updates=1, unroll=2, first_unroll=2)
    source = CycledBatches(built, settings, twin, n=8, n_epochs=1, seed=0, n_threads=1)
    with pytest.raises(DivergenceError, match="8 of 8 estimates are far"):
        next(source.epoch(0, built))


def test_the_memory_of_an_update_is_free_after_it_without_the_collector() -> None:
    built = encoder(KINDS[4])
    given = torch.ones(8, 3), torch.ones(8, 1, 3), built.initial_hidden(8)
    before = gc.isenabled()
    gc.disable()
    try:
        places = set()
        for _ in range(3):
            fast = compiled(built, 8)
            assert fast is not None
            places.add(fast._values.data_ptr())
            fast(*given)[0].sum().backward()
            del fast
    finally:
        if before:
            gc.enable()
    assert len(places) == 1
