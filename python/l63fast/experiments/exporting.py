"""Writes the encoder of a result again, in the formats that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l63fast.learning.export import save_model
from l63fast.learning.loading import load_weights
from l63fast.storage import result_directory

__all__ = ["export_model"]

KIND = "model"


def export_model(
    result: Path, directory: Path, formats: Sequence[str]
) -> dict[str, Any]:
    """Write a model directory from the weights of a result; return its card.

    Raises
    ------
    DataFileError, ModelFileError
        If the result has no model, or it is damaged.
    BackendError
        If a format needs a package that is not installed.
    ResultError, LockedError
        If the folder holds anything but an earlier export, or cannot be written.
    """
    encoder, card = load_weights(result)
    with result_directory(directory, kind=KIND) as folder:
        return save_model(encoder, folder, card["training"], formats=formats)
