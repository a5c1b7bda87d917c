"""Orthogonal steps: singular values of one size, gate by gate, and faster learning."""

import copy
import dataclasses

import pytest
import torch

from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.optimiser import Optimiser, orthogonalised
from l63fast.learning.settings import EncoderSettings, TrainSettings

MUON = TrainSettings(optimiser="muon", learning_rate=1e-3)
CASES = [("mlp", "window"), ("gru", "window"), ("lstm", "window")]
CASES += [("gru", "carried"), ("lstm", "carried")]


def encoder(model: str, memory: str) -> Encoder:
    settings = EncoderSettings(model, "xy", window=2, hidden=8, memory=memory)
    return build_encoder(settings, Normaliser.identity("xy"))


def gradients(built: Encoder, seed: int = 0) -> None:
    rng = torch.Generator().manual_seed(seed)
    for parameter in built.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=rng)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 5), (2, 4, 30)])
def test_singular_values_become_about_one_and_directions_stay(
    shape: tuple[int, int, int],
) -> None:
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(7.0 * given)
    singular = torch.linalg.svdvals(found)
    assert singular.max() < 1.3
    assert singular[:, 0].min() > 0.6
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    turned = left.mT @ found @ right.mT
    off_diagonal = turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 1e-4
    assert torch.isfinite(orthogonalised(torch.zeros(shape))).all()


@pytest.mark.parametrize(("model", "memory"), CASES)
def test_matrices_turn_gate_by_gate_and_the_rest_is_adams(
    model: str, memory: str
) -> None:
    built, plain = encoder(model, memory), encoder(model, memory)
    for other, settings in (
        (built, MUON),
        (plain, dataclasses.replace(MUON, optimiser="adam")),
    ):
        gradients(other)
        Optimiser(other, settings).step(1e-3)
    start = dict(encoder(model, memory).named_parameters())
    by_adam = dict(plain.named_parameters())
    for name, weight in built.named_parameters():
        if weight.ndim == 1 or name == "head.outer.weight":
            assert torch.equal(weight, by_adam[name]), name
            continue
        gates = {"gru": 3, "lstm": 4}.get(model, 1) if "cell" in name else 1
        moved = (weight - start[name]).detach().reshape(gates, -1, weight.shape[1])
        size = 6e-3 * max(1.0, moved.shape[1] / moved.shape[2]) ** 0.5
        singular = torch.linalg.svdvals(moved) / size
        assert singular.max() < 1.35, name
        assert singular[:, 0].min() > 0.6, name


def test_a_restored_optimiser_goes_on_as_the_first_would() -> None:
    first, second = encoder("gru", "carried"), encoder("gru", "carried")
    one, other = Optimiser(first, MUON), Optimiser(second, MUON)
    for seed in range(3):
        gradients(first, seed)
        one.step(1e-3)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for built, optimiser in ((first, one), (second, other)):
        gradients(built, 9)
        optimiser.step(1e-3)
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    one.zero_grad()
    assert all(parameter.grad is None for parameter in first.parameters())
