"""Settings refuse nonsense; the names they know are those of the classes."""

import hashlib
import json
from typing import Any

import pytest

from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.experiments.methods import TrainedEncoder
from l63fast.learning.losses import LOSSES
from l63fast.learning.readers import ENCODERS
from l63fast.learning.settings import (
    ENCODER_NAMES,
    LOSS_NAMES,
    ChainSettings,
    EncoderSettings,
    TrainSettings,
)
from l63fast.learning.training import identity


@pytest.mark.parametrize(
    ("settings", "digest"),
    [
        ({}, "4036bc01caaf8f40"),
        ({"uncertainty": "gaussian"}, "8e0c5b1b36432cc4"),
        ({"memory": "carried", "estimates_parameters": True}, "23ddd94b441d42ed"),
        ({"memory": "carried", "lag": 4}, "48bda8cf73b5d8fa"),
        ({"gaps": True, "window": 1}, "0208fc4e94e16139"),
    ],
)
def test_cards_and_checkpoints_are_as_before_later_settings(settings, digest) -> None:
    encoder = EncoderSettings(**settings)
    key = identity(encoder, TrainSettings(), ChainSettings(), B=None, fresh=False)
    del key["torch"]
    text = json.dumps([encoder.to_dict(), key])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_an_encoder_analyses_once_unless_it_is_asked_for_more() -> None:
    assert EncoderSettings().n_iterations == TrainedEncoder().n_iterations == 1


def test_names_are_those_of_the_classes() -> None:
    assert tuple(ENCODERS) == ENCODER_NAMES
    assert tuple(LOSSES) == LOSS_NAMES


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (EncoderSettings, "model", "transformer"),
        (EncoderSettings, "operator", "yx"),
        (EncoderSettings, "window", 0),
        (EncoderSettings, "hidden", 10**9),
        (EncoderSettings, "n_iterations", 0),
        (EncoderSettings, "iteration", "feedback"),
        (TrainSettings, "loss", "mae"),
        (TrainSettings, "epochs", 0),
        (TrainSettings, "batch_size", -1),
        (TrainSettings, "learning_rate", 0.0),
        (TrainSettings, "learning_rate", float("nan")),
        (TrainSettings, "learning_rate", 1e3),
        (TrainSettings, "warm_up", 1.0),
        (TrainSettings, "clip", 0.0),
        (TrainSettings, "patience", 0),
        (TrainSettings, "seed", -1),
        (TrainSettings, "threads", 0),
        (TrainSettings, "warm_restarts", -1),
        (TrainSettings, "averaging", 1.0),
        (TrainSettings, "optimiser", "sgd"),
        (TrainSettings, "matrix_rate", 0.0),
        (ChainSettings, "updates", 0),
        (ChainSettings, "unroll", 0),
        (ChainSettings, "first_unroll", 17),
        (ChainSettings, "growth", 1.1),
        (ChainSettings, "through_model", -0.1),
        (ChainSettings, "restarts", float("nan")),
        (ChainSettings, "start_sigma", -1.0),
    ],
)
@pytest.mark.promise("I08", "a table of values")
def test_bad_values_are_refused_by_name(settings: Any, name: str, value: Any) -> None:
    with pytest.raises(ArgumentValueError, match=f"{name}: expected"):
        settings(**{name: value})


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (EncoderSettings, "hidden", 64.0),
        (EncoderSettings, "n_iterations", True),
        (EncoderSettings, "model", None),
        (TrainSettings, "epochs", "30"),
        (TrainSettings, "mirror", 1),
        (TrainSettings, "learning_rate", "0.01"),
    ],
)
@pytest.mark.promise("I08", "a table of types")
def test_bad_types_are_refused_by_name(settings: Any, name: str, value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=f"{name}: expected"):
        settings(**{name: value})
