"""Encoders that move what they are given, and the comparison of formats with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.inference import EncoderFunction
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings
from learning_samples import samples

WINDOW = 4
BATCHES = (0, 1, 7, 4096)
BOUND = 1e-5  # climatological standard deviations; of memories, which have no unit

# Spread of the last layer's weights by the operator's largest power: with more the
# iterations of a network that nobody trained run away where h is steep.
_HEAD_STD = {1: 0.3, 2: 0.3, 3: 0.03, 4: 0.05}


def moving_encoder(
    model: str,
    operator: str,
    memory: str = "window",
    *,
    window: int = WINDOW,
    n_iterations: int = 2,
    **more: Any,
) -> Encoder:
    """Return an encoder that nobody trained, yet that corrects backgrounds."""
    data = samples(operator, 200, window=window)
    settings = EncoderSettings(
        model, operator, window, 12, n_iterations, memory, **more
    )
    built = build_encoder(settings, Normaliser.fit(data, operator))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        built.head.outer.weight.normal_(std=_HEAD_STD[built.largest_power])
    return built.eval()


def inputs(built: Encoder, n: int, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return float32 windows of the kind it was made for, and a memory in use."""
    data = samples(built.settings.operator, n, seed=3, window=window)
    memory = np.random.default_rng(4).uniform(-1.0, 1.0, (n, built.hidden_size))
    arrays = (data.background, data.obs_window, memory)
    first, second, third = (torch.from_numpy(array).float() for array in arrays)
    return first, second, third


def check_parity(built: Encoder, *functions: EncoderFunction) -> None:
    """Check that functions of arrays give the analyses and memories of eager."""
    scale = built.state_std.numpy()
    for n in BATCHES:
        tensors = inputs(built, n, functions[0].window)
        arrays = [tensor.double().numpy() for tensor in tensors]
        with torch.no_grad():
            analysis, later = (tensor.numpy() for tensor in built(*tensors))
        for function in functions:
            found, kept = function.step(*arrays)
            assert found.dtype == np.float64
            assert found.shape == (n, 3)
            assert kept.shape == (n, built.hidden_size)
            assert (np.abs(found - analysis) < BOUND * scale).all()
            assert (np.abs(kept - later) < BOUND).all()
