"""The model card: what one must know to use an encoder, as JSON that is checked."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from l63fast import _checks
from l63fast.assimilation.agreement import Setup
from l63fast.errors import ModelFileError
from l63fast.learning.encoders import Encoder, n_parameters
from l63fast.learning.settings import EncoderSettings
from l63fast.observation import as_operator
from l63fast.storage import content_errors

CARD: Final = "model.json"
FILES: Final = {
    "safetensors": "model.safetensors",
    "torchscript": "model.ts.pt",
    "pt2": "model.pt2",
    "onnx": "model.onnx",
}
WRITTEN: Final = ("safetensors", "torchscript")  # by default
SCHEMA: Final = 1
MAX_MEMORY: Final = 2**16  # largest hidden state, as in C++
_KEYS: Final = {
    "schema": int,
    "encoder": dict,
    "coordinates": str,
    "hidden_size": int,
    "inputs": dict,
    "outputs": dict,
    "n_parameters": int,
    "normaliser_hash": str,
    "training": dict,
    "versions": dict,
    "files": dict,
    "notes": list,
}
# Keys that older cards lack, with the values that those encoders have: of the settings
# all but the first five.
_ADDED_KEYS: Final = {"coordinates": "states"}
_ADDED_SINCE: Final = {
    f.name: f.default for f in dataclasses.fields(EncoderSettings)[5:]
}
_FILE_KEYS: Final = {"name": str, "size": int, "sha256": str, "parity_error": float}
_NOTES: Final = (
    "States are in the units of the Lorenz-63 variables, observations in those of "
    "h(x). Normalisation is inside the model. Numbers are float32.",
    "model.safetensors holds the weights and runs nothing when loaded. The other files "
    "are programs: load them only if you trust whoever gave them to you.",
    "The batch size is free in every format. The window length is fixed in model.pt2, "
    "in model.onnx, and in every format of an mlp or of a carried memory.",
    "parity_error is the largest difference to the encoder in eager mode after "
    "reloading, in standard deviations of the truth in the encoder's coordinates.",
)


def describe(encoder: Encoder, training: dict[str, Any]) -> dict[str, Any]:
    """Return the card of an encoder, with an empty list of files.

    Parameters
    ----------
    encoder : Encoder
    training : dict
        JSON values about the training: hashes of the data, settings. The setup of the
        data and the source hash of a user's own model are added.
    """
    settings, own = encoder.settings, encoder.own
    source = {} if own is None else {"source_sha256": own.source_sha256}
    operator = as_operator(settings.operator)
    observed = ", ".join(operator.labels)
    order = {
        "last": "the last observations of {}, the latest one last",
        "first": "the next observations of {}, backwards: that at analysis time last",
    }[settings.analysis_at]
    if settings.gaps:
        order += "; NaN where missing; then the time since the observation before it"
    mixture = {
        "shape": ["n", 1 if settings.uncertainty == "gaussian" else 2, 13],
        "is": "normal components: weight, mean, rows of A with the covariance A A^T",
    }
    return {
        "schema": SCHEMA,
        "encoder": settings.to_dict(),
        "coordinates": _coordinates(settings),
        "hidden_size": encoder.hidden_size,
        "inputs": {
            "background": {"shape": ["n", 3], "is": "x_b: x, y, z at analysis time"},
            "obs_window": {
                "shape": ["n", settings.window, settings.observation_size],
                "is": order.format(observed),
            },
            "hidden": {
                "shape": ["n", encoder.hidden_size],
                "is": "memory from the last analysis; zeros at the start",
            },
        },
        "outputs": {
            "analysis": {"shape": ["n", 3], "is": "x_a: x, y, z at analysis time"},
            "hidden": {
                "shape": ["n", encoder.hidden_size],
                "is": "memory for the next",
            },
            **({"mixture": mixture} if settings.is_uncertain else {}),
        },
        "n_parameters": n_parameters(encoder),
        "normaliser_hash": encoder.data_hash,
        "training": training | encoder.made_for.to_dict() | source,
        "versions": _versions(),
        "files": {},
        "notes": list(_NOTES),
    }


def settings_in(card: Any, source: str) -> EncoderSettings:
    """Return the encoder settings in a card, after a check of the whole card.

    Raises
    ------
    ModelFileError
        If the card is not of this schema, or a value is invalid.
    """
    if isinstance(card, dict):
        card = _ADDED_KEYS | card
    _check_keys(card, _KEYS, source)
    if card["schema"] != SCHEMA:
        raise ModelFileError(
            f"{source}: expected schema {SCHEMA}, got {card['schema']!r}"
        )
    for kind, entry in card["files"].items():
        _check_keys(entry, _FILE_KEYS, f"{source}: files.{kind}")
        if FILES.get(kind) != entry["name"]:
            raise ModelFileError(
                f"{source}: files.{kind}: expected {FILES.get(kind)!r}, "
                f"got {entry['name']!r}"
            )
    kinds = {f.name: type(f.default) for f in dataclasses.fields(EncoderSettings)}
    encoder = _ADDED_SINCE | card["encoder"]
    if isinstance(encoder.get("operator"), dict):  # an operator of the user's own
        kinds["operator"] = dict
    _check_keys(encoder, kinds, f"{source}: encoder")
    with content_errors(f"{source}: encoder", ModelFileError):
        _checks.count("hidden_size", card["hidden_size"], maximum=MAX_MEMORY)
        encoder["operator"] = as_operator(encoder["operator"])
        return EncoderSettings(**encoder)


def made_for_in(card: dict[str, Any], settings: EncoderSettings, source: str) -> Setup:
    """Return the setup that the encoder of a checked card was trained for.

    Raises
    ------
    ModelFileError
        If a value is invalid.
    """
    with content_errors(f"{source}: training", ModelFileError):
        return Setup.from_dict(card["training"], as_operator(settings.operator))


def check_coordinates(
    card: dict[str, Any], settings: EncoderSettings, source: str
) -> None:
    """Raise ModelFileError if the weights were trained in other coordinates.

    Encoders of older versions did not use folded coordinates. Programs (TorchScript,
    pt2, ONNX) are not checked: they contain their coordinates.
    """
    expected = _coordinates(settings)
    given = card.get("coordinates", _ADDED_KEYS["coordinates"])
    operator = as_operator(settings.operator).name
    if given != expected:
        raise ModelFileError(
            f"{source}: coordinates: expected {expected!r} for an encoder of "
            f"{operator!r}, got {given!r}; the weights are of an older l63fast: "
            "train the encoder again"
        )


def _coordinates(settings: EncoderSettings) -> str:
    return "folded" if settings.folds else "states"


def _check_keys(table: Any, kinds: Mapping[str, type], source: str) -> None:
    if not isinstance(table, dict):
        raise ModelFileError(f"{source}: expected a table, got {type(table).__name__}")
    if table.keys() != kinds.keys():
        missing = sorted(kinds.keys() - table.keys())
        extra = sorted(map(str, table.keys() - kinds.keys()))
        raise ModelFileError(f"{source}: missing keys {missing}, unknown keys {extra}")
    for name, kind in kinds.items():
        if type(table[name]) is not kind:
            raise ModelFileError(
                f"{source}: {name}: expected {kind.__name__}, "
                f"got {type(table[name]).__name__}"
            )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("l63fast", "torch", "numpy", "safetensors"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # a source tree that is not installed
            versions[package] = "unknown"
    return versions
