"""Coordinates that mirror images share: there and back, continuous, never stuck."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from l63fast.errors import ModelFileError
from l63fast.learning import export, programs
from l63fast.learning.batches import as_batch
from l63fast.learning.card import CARD
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.export import load_encoder, parity_error, save_model
from l63fast.learning.losses import squared_error
from l63fast.learning.normaliser import Normaliser, fold, nearer_image, unfold
from l63fast.learning.settings import EncoderSettings
from learning_samples import samples

MIRROR = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)


def states(n: int = 2000) -> torch.Tensor:
    """Return states of the attractor, and some near and on the z axis."""
    near = torch.linspace(-1e-3, 1e-3, 41, dtype=torch.float64)
    axes = torch.stack([near, near.flip(0) ** 2, 25.0 + near], 1)
    return torch.cat([torch.from_numpy(samples("x", n).truth), axes])


def encoder(operator: str, memory: str = "window") -> Encoder:
    settings = EncoderSettings(
        "gru", operator, window=1, hidden=16, n_iterations=2, memory=memory
    )
    scales = Normaliser.fit(samples(operator, 200, window=1), operator)
    built = build_encoder(settings, scales, seed=1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        built.head.outer.weight.normal_(std=0.2)
    return built.eval()


def test_mirror_images_fold_to_the_same_and_unfold_to_one_of_the_two() -> None:
    given = states()
    folded = fold(given)
    assert torch.equal(fold(given * MIRROR), folded)
    assert torch.allclose(folded.norm(dim=1), given.norm(dim=1), atol=1e-6)
    found = unfold(folded)
    to_either = torch.minimum(
        (found - given).abs().amax(1), (found - given * MIRROR).abs().amax(1)
    )
    assert to_either.max() < 2e-6  # of the size of what keeps the root smooth
    assert torch.equal(
        nearer_image(found, given * MIRROR), nearer_image(found, given) * MIRROR
    )
    assert torch.allclose(nearer_image(found, given), given, atol=2e-6)


def test_they_meet_where_a_state_turns_into_its_mirror_image() -> None:
    angle = torch.linspace(0.0, 2.0 * torch.pi, 5001, dtype=torch.float64)
    around = torch.stack([angle.cos(), angle.sin(), 0.0 * angle], 1) * 7.0
    steps = fold(around).diff(dim=0).norm(dim=1)
    assert torch.allclose(steps, 2.0 * around.diff(dim=0).norm(dim=1), rtol=1e-6)
    half = fold(around[: 2500 + 1])  # half a turn leads to the mirror image
    assert torch.allclose(half[0], half[-1], atol=1e-9)


def test_derivatives_are_finite_on_the_axis_and_right_elsewhere() -> None:
    given = states(200).requires_grad_()
    nearer_image(unfold(fold(given) + 0.01), given.detach()).sum().backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad).all()
    away = torch.from_numpy(samples("x", 20).truth).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: unfold(fold(s)), away)


@pytest.mark.parametrize("memory", ["window", "carried"])
def test_an_encoder_treats_both_images_alike(memory: str) -> None:
    built = encoder("x2", memory)
    batch = as_batch(samples("x2", 50, window=1))
    sign = MIRROR.float()
    with torch.no_grad():
        start = built.initial_hidden(50)
        analysis, later = built(*batch[:2], start)
        mirrored, same = built(batch.background * sign, batch.obs_window, start)
    assert not torch.allclose(analysis, batch.background, atol=0.1)
    assert torch.equal(mirrored, analysis * sign)
    assert torch.equal(same, later)
    assert ((analysis * batch.background)[:, :2].sum(1) >= 0.0).all()


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.0, 3.0), (0.0, -3.0)])
def test_no_coordinate_is_stuck_where_another_changes_sides(
    place: tuple[float, float],
) -> None:
    at = torch.tensor([[*place, 25.0]], dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(unfold, at)[0, :, 0]
    assert torch.isfinite(slopes).all()
    assert (slopes[:2, :2].abs().amax(0) > 0.3).all()
    if place[1] > 0.0:
        step = torch.tensor([[1e-6, 0.0, 0.0]], dtype=torch.float64)
        central = (unfold(at + step) - unfold(at - step))[0] / 2e-6
        assert torch.allclose(slopes[:, 0], central, rtol=1e-5)


def test_an_encoder_without_a_background_learns_all_coordinates() -> None:
    built = encoder("x2").train()
    torch.nn.init.zeros_(built.head.outer.weight)
    batch = as_batch(samples("x2", 50, window=1))
    nothing = torch.zeros_like(batch.background)
    analysis, _ = built(nothing, batch.obs_window, built.initial_hidden(50))
    squared_error(analysis, batch.truth, mirror_aware=True).mean().backward()
    assert built.head.outer.weight.grad is not None
    assert (built.head.outer.weight.grad.abs().amax(1) > 0.0).all()


def test_an_operator_that_sees_the_sign_has_states_for_coordinates() -> None:
    built = encoder("xy")
    given = states(20).float()
    assert built.coordinates(given) is given
    assert built.state(given, -given) is given


def test_a_program_that_gives_the_other_image_is_found_when_exported() -> None:
    built = encoder("x2")
    program = programs.torchscript_from(programs.torchscript_bytes(built))
    assert parity_error(built, program) < 1e-5

    def turned(
        x: torch.Tensor, y: torch.Tensor, h: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        analysis, later = program(x, y, h)
        return analysis * MIRROR.float(), later

    assert parity_error(built, turned) > 1.0


@pytest.mark.parametrize(("width", "passes"), [(1e-3, True), (3.0, False)])
def test_the_last_bit_may_decide_between_the_images_and_no_more(
    width: float, passes: bool
) -> None:
    built = encoder("x2")

    def close(
        x: torch.Tensor, y: torch.Tensor, h: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        analysis, later = built(x, y, h)
        undecided = (analysis * x)[:, :2].sum(1, keepdim=True) < width
        return torch.where(undecided, analysis * MIRROR.float(), analysis), later

    assert (parity_error(built, close) < 1e-5) == passes


def test_exports_are_compared_on_both_sides() -> None:
    background, *_ = export.examples(encoder("x2"), 513)
    assert 0.4 < float((background[:, 0] < 0.0).float().mean()) < 0.6


@pytest.mark.parametrize("operator", ["x2", "xy"])
def test_a_card_from_before_folding_is_refused_where_that_matters(
    operator: str, tmp_path: Path
) -> None:
    built = encoder(operator)
    save_model(built, tmp_path, {})
    card = json.loads((tmp_path / CARD).read_text())
    assert card.pop("coordinates") == ("folded" if operator == "x2" else "states")
    (tmp_path / CARD).write_text(json.dumps(card))
    if operator == "xy":
        data = samples(operator, 6, window=1)
        found = load_encoder(tmp_path)(data.background, data.obs_window)
        assert np.isfinite(found).all()
        return
    with pytest.raises(ModelFileError, match=r"coordinates: expected 'folded'.*again"):
        load_encoder(tmp_path)
    load_encoder(tmp_path, format="torchscript", trust=True)  # knows its own
