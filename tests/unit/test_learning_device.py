"""Training on a GPU: what is asked of it, all in its memory, and the same as here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from l63fast.errors import BackendError, L63Error
from l63fast.learning import cycled_training, training
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.settings import (
    DISTRIBUTION_LOSSES,
    ENCODER_NAMES,
    LOSS_NAMES,
    ChainSettings,
    EncoderSettings,
    TrainSettings,
)
from l63fast.learning.training import TrainResult, train
from l63fast.twin import TwinExperiment, TwinSettings
from learning_samples import samples
from stand_in_device import DEVICE, StandIn

RECIPE: dict[str, Any] = {"epochs": 1, "batch_size": 32, "jitter": 0.5}
MUON: dict[str, Any] = {"optimiser": "muon", "averaging": 0.9, "loss": "distance"}
CHAINS = ChainSettings(updates=2, unroll=3, first_unroll=2, through_model=0.0)
HAS_GPU = torch.cuda.is_available()


def fixed(operator: str, model: str = "gru", **recipe: Any) -> TrainResult:
    """Train on a small dataset."""
    data = samples(operator, 64, window=3)
    m = data.obs_dim
    loss = recipe.get("loss")
    first, is_of_mixture = loss == "var3d_window", loss in DISTRIBUTION_LOSSES
    return train(
        EncoderSettings(
            model,
            operator,
            window=3,
            hidden=8,
            analysis_at="first" if first else "last",
            uncertainty="mixture" if is_of_mixture else "none",
        ),
        TrainSettings(**{**RECIPE, **recipe}),
        data,
        data,
        B=np.eye(3),
        R=np.eye(m),
        model=training.DifferentiableForecast(5) if first else None,
    )


def cycles(operator: str, model: str = "gru", **recipe: Any) -> tuple[Any, ...]:
    """Return the settings and the twin of a few short cycles."""
    twin = TwinExperiment.generate(
        TwinSettings(
            operator, n_train=2, n_val=2, n_test=1, n_steps=80, steps_per_cycle=2
        )
    )
    memory = "window" if model == "mlp" else "carried"
    settings = EncoderSettings(
        model, operator, window=1, hidden=8, n_iterations=1, memory=memory
    )
    chosen = TrainSettings(**{**RECIPE, "jitter": 0.0, **recipe})
    return settings, chosen, CHAINS, twin


def cycled(*names: str, **recipe: Any) -> TrainResult:
    """Train in them."""
    return train_cycled(*cycles(*names, **recipe), B=np.eye(3))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Training computes on the stand-in, where "cuda" is asked for."""

    def device(settings: TrainSettings) -> torch.device:
        return DEVICE if settings.device == "cuda" else torch.device("cpu")

    for module in (training, cycled_training):
        monkeypatch.setattr(module, "torch_device", device)
    # Fused and many at once they know a GPU but not the stand-in.
    adam, clip = torch.optim.Adam, torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.optim, "Adam", lambda p, lr, fused: adam(p, lr=lr))
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda p, most, foreach: clip(p, most)
    )
    return StandIn()


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("operator", ["xy", "x2"])
def test_all_of_a_training_on_samples_is_on_the_device(
    operator: str, loss: str, stand_in: StandIn
) -> None:
    with stand_in:
        result = fixed(operator, loss=loss, device="cuda")
    assert stand_in.n_calls > 300
    assert result.encoder.state_mean.device.type == "cpu"


@pytest.mark.parametrize("model", ENCODER_NAMES)
@pytest.mark.parametrize("operator", ["xy", "x2"])
def test_all_of_a_training_in_cycles_is_on_the_device(
    operator: str, model: str, stand_in: StandIn
) -> None:
    with stand_in:
        result = cycled(operator, model, **MUON, device="cuda")
    assert stand_in.n_calls > 1000
    assert result.encoder.state_mean.device.type == "cpu"


@pytest.mark.filterwarnings("ignore:for .*. copying from a non-meta parameter")
def test_what_a_checkpoint_holds_goes_back_to_the_device(stand_in: StandIn) -> None:
    recipe = {**MUON, "loss": "var3d", "epochs": 2, "device": "cuda"}
    settings = (*cycles("xy", **recipe), np.eye(3), None, None)
    with stand_in:
        run = cycled_training._begin(*settings)
        run.epoch()
        read = tree_map_only(Tensor, Tensor.cpu, run.progress())
        again = cycled_training._begin(*settings)
        again.restore(read)
        again.epoch()
    assert all(p.device == DEVICE for p in again.encoder.parameters())


@pytest.mark.parametrize(("device", "n_gpus"), [("cuda", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(
    device: str, n_gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    for trained in (fixed, cycled):
        with pytest.raises(BackendError, match=rf"device: expected .* got '{device}'"):
            trained("xy", device=device)


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cpu:0", "gpu", 1])
def test_a_device_has_a_name(device: Any) -> None:
    with pytest.raises(L63Error, match="device: expected one of cpu, cuda, got"):
        TrainSettings(device=device)


@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
@pytest.mark.parametrize("recipe", [{}, MUON])
@pytest.mark.parametrize("trained", [fixed, cycled])
def test_a_gpu_trains_as_the_cpu_does(trained: Any, recipe: dict[str, Any]) -> None:
    here, there = (trained("xy", **recipe, device=d) for d in ("cpu", "cuda:0"))
    for name in ("train_loss", "val_loss", "val_rmse_pooled_a"):
        assert there.history[0][name] == pytest.approx(here.history[0][name], rel=1e-3)
