"""Training checkpoints: written whole or not at all, checked before they are used."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, Final

import torch

from l63fast.errors import ModelFileError
from l63fast.storage import read_file, write_bytes

__all__ = ["CHECKPOINT", "read_checkpoint", "write_checkpoint"]

CHECKPOINT: Final = "checkpoint.pt"
_VERSION: Final = 3
_ANEW: Final = "; without resume the training starts anew"


def write_checkpoint(
    directory: Path, identity: dict[str, Any], progress: dict[str, Any]
) -> None:
    """Replace the checkpoint in a directory.

    Parameters
    ----------
    directory : Path
    identity : dict
        What a run must have in common with this one to go on from here.
    progress : dict
        Weights, optimiser and records: plain Python values and tensors only.
    """
    buffer = io.BytesIO()
    whole = {"version": _VERSION, "identity": identity, "progress": progress}
    torch.save(whole, buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    write_bytes(directory / CHECKPOINT, digest + b"\n" + payload)


def read_checkpoint(directory: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the progress of the checkpoint in a directory, None if there is none.

    Raises
    ------
    ModelFileError
        If it is damaged, or of another run: every difference is named.
    """
    path = directory / CHECKPOINT
    if not path.exists():
        return None
    digest, _, payload = read_file(path).partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise ModelFileError(f"{path}: the checkpoint is damaged{_ANEW}")
    try:
        whole = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        version = whole["version"]
    except Exception as error:  # its hash is right, and yet it is none of ours
        raise ModelFileError(
            f"{path}: is not a checkpoint of l63fast{_ANEW}"
        ) from error
    if version != _VERSION:
        raise ModelFileError(
            f"{path}: expected checkpoint version {_VERSION}, got {version}{_ANEW}"
        )
    theirs = whole["identity"]
    differences = [
        f"{name} {theirs.get(name)!r}, not {identity.get(name)!r}"
        for name in sorted({*theirs, *identity})
        if theirs.get(name) != identity.get(name)
    ]
    if differences:
        raise ModelFileError(
            f"{path}: the checkpoint is of another run: {'; '.join(differences)}{_ANEW}"
        )
    progress: dict[str, Any] = whole["progress"]
    return progress
