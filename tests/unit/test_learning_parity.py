"""Every format of every encoder and operator, against the encoder itself."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder_parity import BOUND, WINDOW, check_parity, inputs, moving_encoder
from l63fast.learning import export, programs
from l63fast.learning.export import encoder_from, load_encoder, save_model
from l63fast.learning.inference import EncoderFunction

MODELS = (
    *(("mlp", "window"), ("gru", "window"), ("lstm", "window")),
    *(("gru", "carried"), ("lstm", "carried")),
)

every_encoder = pytest.mark.parametrize(("model", "memory"), MODELS)
every_operator = pytest.mark.parametrize(
    "operator",
    [
        *("x", "xy", "x2", "x2z"),
        *(pytest.param(o, marks=pytest.mark.slow) for o in ("xyz", "xz", "y3", "z4")),
    ],
)


@every_encoder
@every_operator
def test_weights_and_torchscript_analyse_as_the_encoder(
    model: str, memory: str, operator: str
) -> None:
    built = moving_encoder(model, operator, memory)
    weights = encoder_from(export._weights(built), built.settings, "weights")
    program = programs.torchscript_from(programs.torchscript_bytes(built))
    size = built.hidden_size
    check_parity(
        built,
        EncoderFunction.of(weights),
        EncoderFunction(program, built.settings, hidden_size=size),
    )
    if model != "mlp" and memory == "window":
        longer = dataclasses.replace(built.settings, window=2 * WINDOW + 1)
        check_parity(built, EncoderFunction(program, longer))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "gru"])
@pytest.mark.parametrize("operator", ["xy", "x2"])
def test_every_format_knows_the_legacy_iteration(
    model: str, operator: str, tmp_path: Path
) -> None:
    built = moving_encoder(model, operator, iteration="legacy")
    save_model(built, tmp_path, {}, formats=("pt2", "torchscript"))
    for kind in ("safetensors", "torchscript", "pt2"):
        found = load_encoder(tmp_path, format=kind, trust=True)
        assert found.settings.iteration == "legacy"
        check_parity(built, found)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["pt2", "onnx"])
@every_encoder
@every_operator
def test_traced_programs_analyse_as_the_encoder(
    model: str, memory: str, operator: str, format: str, tmp_path: Path
) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    built = moving_encoder(model, operator, memory)
    save_model(built, tmp_path, {}, formats=(format,))
    check_parity(built, load_encoder(tmp_path, format=format, trust=True))


@every_encoder
@pytest.mark.parametrize("operator", ["x2", "x2z", "y3", "z4"])
def test_the_bound_is_above_rounding_and_below_what_encoders_do(
    model: str, memory: str, operator: str
) -> None:
    # An encoder whose iterations run away amplifies its own rounding beyond any bound.
    built = moving_encoder(model, operator, memory)
    for tensors in (inputs(built, 4096, WINDOW), export.examples(built, 4096)):
        with torch.no_grad():
            analysis, _ = built(*tensors)
            exact, _ = copy.deepcopy(built).double()(*(t.double() for t in tensors))
        scale = built.state_std.numpy()
        rounding = np.abs(analysis.numpy() - exact.numpy()) / scale
        moved = np.abs((analysis - tensors[0]).numpy()) / scale
        assert rounding.max() < 0.3 * BOUND
        assert (np.median(moved, axis=0) > 10 * BOUND).all()
