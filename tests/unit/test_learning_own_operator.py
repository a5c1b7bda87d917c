"""An observation operator of the user's own in training, in files and in programs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import own_sensors
from l63fast.assimilation.agreement import Setup
from l63fast.errors import ArgumentValueError, ModelFileError
from l63fast.learning.card import CARD, FILES
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.export import load_encoder, load_weights, save_model
from l63fast.learning.inference import EncoderFunction
from l63fast.learning.losses import Batch, build_loss
from l63fast.learning.own_operator import observing
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.learning.training import train
from l63fast.lorenz63 import spin_up
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment
from learning_samples import CYCLES, GRU, MLP, TWIN, B, samples
from own_nets import Net

custom = ObservationOperator.custom
STATES = spin_up(30, seed=2)
SENSOR = custom(own_sensors.h, obs_dim=1, name="sensor")
BOTH = custom(own_sensors.for_both, obs_dim=1, name="both")
BRIEF = TrainSettings(epochs=2, batch_size=16)
COPIES = [("xy", own_sensors.xy), ("x2", own_sensors.x2)]


def of(operator: ObservationOperator, name: str, n: int = 100) -> AssimilationDataset:
    data = samples(name, n)
    return dataclasses.replace(data, made_for=Setup(operator=operator))


@pytest.mark.parametrize("operator", [SENSOR, BOTH, own_sensors.xy])
def test_value_and_gradient_are_those_of_numpy(operator: ObservationOperator) -> None:
    states = torch.tensor(STATES, dtype=torch.float32, requires_grad=True)
    value = observing(operator)(states)
    assert value.dtype == torch.float32
    np.testing.assert_allclose(value.detach(), operator(STATES), rtol=1e-5, atol=1e-5)
    jacobian = operator.jacobian(STATES)
    for i in range(operator.obs_dim):
        (found,) = torch.autograd.grad(value[:, i].sum(), states, retain_graph=True)
        np.testing.assert_allclose(found, jacobian[:, i], rtol=1e-4, atol=1e-4)


def test_tensors_are_given_to_an_h_that_takes_them_rightly() -> None:
    assert observing(BOTH) is own_sensors.for_both
    assert observing(SENSOR) is not own_sensors.h
    wrong = custom(own_sensors.detached, obs_dim=1, name="wrong")
    assert observing(wrong) is not own_sensors.detached
    named = ObservationOperator("xy")
    assert observing(named) is named


@pytest.mark.parametrize("loss", ["var3d", "mse"])
@pytest.mark.parametrize(("name", "own"), COPIES)
def test_losses_are_those_of_the_operator_that_it_copies(
    loss: str, name: str, own: ObservationOperator
) -> None:
    data, R = samples(name, 20), np.eye(own.obs_dim)
    arrays = (data.background, data.obs_window, data.truth)
    batch = Batch(*(torch.from_numpy(a.astype(np.float32)) for a in arrays))
    found = []
    for operator in (own, ObservationOperator(name)):
        analysis = (batch.background * 1.1).requires_grad_()
        cost = build_loss(loss, operator, B=B, R=R)(analysis, batch).sum()
        found.append(torch.autograd.grad(cost, analysis)[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-2)
    assert found[0].abs().max() > 0.1


@pytest.mark.parametrize(("name", "own"), COPIES)
@pytest.mark.parametrize("loss", ["mse", "var3d"])
def test_windows_teach_what_they_do_with_the_operator_that_it_copies(
    name: str, own: ObservationOperator, loss: str
) -> None:
    training = dataclasses.replace(BRIEF, loss=loss)
    named, copied = (
        train(
            dataclasses.replace(MLP, operator=h), training, data, data,
            B=B, R=np.eye(own.obs_dim),
        ).history[-1]
        for h, data in ((name, samples(name, 100)), (own, of(own, name)))
    )  # fmt: skip
    assert copied["val_loss"] == pytest.approx(named["val_loss"], rel=1e-5)


def test_cycles_teach_what_they_do_with_the_operator_that_it_copies() -> None:
    found = []
    for h in ("xy", own_sensors.xy):
        twin = TwinExperiment.generate(dataclasses.replace(TWIN, operator=h))
        settings = dataclasses.replace(GRU, operator=h)
        found.append(train_cycled(settings, BRIEF, CYCLES, twin).history[-1])
    assert found[1]["val_loss"] == pytest.approx(found[0]["val_loss"], rel=1e-4)


def test_samples_are_mirrored_where_the_signs_are_known() -> None:
    silent = custom(own_sensors.for_both, obs_dim=1, name="silent")
    data = of(silent, "x2")
    settings = dataclasses.replace(MLP, operator=silent)
    found = [
        train(settings, dataclasses.replace(BRIEF, mirror=m), data, data).history
        for m in (False, True)
    ]
    assert found[0] == found[1]


def test_a_file_is_read_with_the_function_of_the_caller_alone(tmp_path: Path) -> None:
    data = of(SENSOR, "x")
    settings = dataclasses.replace(MLP, operator=SENSOR)
    encoder = train(settings, BRIEF, data, data).encoder
    card = save_model(encoder, tmp_path, {})
    assert card["encoder"]["operator"] == SENSOR.to_table()
    assert set(card["files"]) == {"safetensors"}
    said = "sensor cannot be written as torchscript: TypeError: a program cannot"
    assert card["notes"][-1].startswith(said)
    with pytest.raises(ModelFileError, match=r"sensor cannot be written as pt2: "):
        save_model(encoder, tmp_path, {}, formats=["pt2"])
    save_model(encoder, tmp_path, {})
    given = np.ones((4, 3)), np.ones((4, 2, 1))
    expected = EncoderFunction.of(encoder)(*given)
    with pytest.raises(
        ModelFileError, match=r"operator sensor: .*\(path, operator=h\)"
    ):
        load_encoder(tmp_path)
    for function in (SENSOR, own_sensors.h):
        loaded = load_encoder(tmp_path, operator=function)
        np.testing.assert_array_equal(loaded(*given), expected)
        assert loaded.operator == SENSOR
    with pytest.raises(ModelFileError, match="expected the source of sensor as it was"):
        load_encoder(tmp_path, operator=own_sensors.for_both)
    content = json.loads((tmp_path / CARD).read_text())
    content["encoder"]["operator"]["obs_dim"] = "one"
    (tmp_path / CARD).write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match=r"encoder: operator.obs_dim: expected"):
        load_encoder(tmp_path, operator=SENSOR)


def test_a_function_for_an_encoder_of_a_name_is_refused(tmp_path: Path) -> None:
    data = samples("x", 50)
    encoder = train(dataclasses.replace(MLP, operator="x"), BRIEF, data, data).encoder
    save_model(encoder, tmp_path, {}, formats=["safetensors"])
    with pytest.raises(ModelFileError, match="operator: expected x to be"):
        load_encoder(tmp_path, operator=own_sensors.h)


def test_programs_of_an_own_model_hold_no_h_and_work(tmp_path: Path) -> None:
    data = of(own_sensors.x2, "x2")
    settings = EncoderSettings(Net, own_sensors.x2, 2, 4)  # type: ignore[arg-type]
    encoder = train(settings, BRIEF, data, data).encoder
    card = save_model(encoder, tmp_path, {}, formats=["torchscript"])
    assert set(card["files"]) == {"safetensors", "torchscript"}
    assert FILES["torchscript"] in {path.name for path in tmp_path.iterdir()}
    given = np.ones((4, 3)), np.ones((4, 2, 1))
    expected = load_encoder(tmp_path, model=Net)(*given)
    found = load_encoder(tmp_path, format="torchscript", trust=True)(*given)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    loaded, _ = load_weights(tmp_path, model=Net)
    with pytest.raises(ArgumentValueError, match="operator: expected one with its fun"):
        loaded.made_for.operator(STATES)  # type: ignore[misc]


def test_a_function_of_ones_own_is_cycled() -> None:
    def program(background: Any, obs_window: Any, hidden: Any) -> Any:
        return background, hidden

    function = EncoderFunction.own(program, SENSOR)
    assert function.operator == SENSOR
    np.testing.assert_allclose(function(STATES, np.ones((30, 1, 1))), STATES, rtol=1e-6)
