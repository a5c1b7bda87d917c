"""Writing a trained encoder in several formats, each read back and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from l63fast import _checks, _random
from l63fast.errors import ModelFileError
from l63fast.learning import programs
from l63fast.learning.card import CARD, FILES, WRITTEN, describe
from l63fast.learning.coordinates import facing
from l63fast.learning.encoders import Encoder
from l63fast.learning.loading import encoder_from, load_encoder
from l63fast.learning.pinned import pinned
from l63fast.learning.programs import Analyse
from l63fast.storage import read_file, write_bytes, write_json

__all__ = ["examples", "load_encoder", "save_model"]

MAX_PARITY_ERROR: Final = 1e-5
_BATCHES: Final = (1, 7, 513)
_OPEN: Final = 0.01  # of the product of (x, y) of background and analysis


@pinned()
def save_model(
    encoder: Encoder,
    directory: str | Path,
    card: dict[str, Any],
    *,
    formats: Sequence[str] = WRITTEN,
) -> dict[str, Any]:
    """Write an encoder in several formats and return its model card.

    Parameters
    ----------
    encoder : Encoder
    directory : str or Path
        An existing directory; files of the same names are replaced.
    card : dict
        JSON values for the card's "training": hashes of the data, the settings.
    formats : sequence of str
        Of `FILES`; safetensors, the truth, is written always.

    Raises
    ------
    ModelFileError
        If a file, reloaded from disk, does not analyse as the encoder does.
    """
    directory = Path(directory)
    encoder.eval()
    content = describe(encoder, card)
    for kind in _checked(formats):
        data = _WRITE[kind](encoder)
        path = directory / FILES[kind]
        write_bytes(path, data)
        error = parity_error(encoder, _read(kind, read_file(path), encoder))
        if not error <= MAX_PARITY_ERROR:
            raise ModelFileError(
                f"{path}: expected the analyses of the encoder to within "
                f"{MAX_PARITY_ERROR:g} standard deviations, got {error:.3g}"
            )
        content["files"][kind] = {
            "name": FILES[kind],
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "parity_error": error,
        }
    write_json(directory / CARD, content)
    return content


def _checked(formats: Sequence[str]) -> list[str]:
    """Return the formats in the order of the table, without repetition."""
    wanted = {_checks.choice("formats", kind, FILES) for kind in formats}
    return [kind for kind in _WRITE if kind in wanted | {"safetensors"}]


@pinned()
def parity_error(encoder: Encoder, program: Analyse) -> float:
    """Return the largest difference between analyses, in units of `state_std`.

    Compared are batches of several sizes, drawn with the scales of the training data.
    A memory has no unit, and trained encoders were seen to round it by 1e-4; what
    counts is the analysis made with it: of two in a row, each side with its own memory.
    """
    scale = encoder.state_std.numpy()
    worst = 0.0
    for n in _BATCHES:
        background, obs_window, ours = examples(encoder, n)
        theirs = ours
        for _ in range(2 if encoder.hidden_size else 1):
            with torch.inference_mode():
                expected, ours = encoder(background, obs_window, ours)
                found, theirs = program(background, obs_window, theirs)
            difference = _difference(encoder, background, found, expected) / scale
            worst = float(np.maximum(worst, difference.max()))  # a NaN stays
    return worst


def _difference(
    encoder: Encoder, background: Tensor, found: Tensor, expected: Tensor
) -> np.ndarray:
    """Return |found - expected|; of either mirror image where x_b is as far from both.

    There the last bit decides which of the two an encoder gives that tells them apart
    by x_b alone.
    """
    if encoder.folds:
        agreement = (expected * background)[:, :2].sum(1, keepdim=True)
        is_open = agreement.abs() < _OPEN
        found = torch.where(is_open, facing(found, expected), found)
    difference: np.ndarray = (found - expected).abs().numpy()
    return difference


@pinned()
def examples(encoder: Encoder, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return n backgrounds, windows and hidden states such as an encoder may meet."""
    window = encoder.settings.window
    sizes = [3, window * len(encoder.obs_mean)]
    draws = _random.standard_normals(0, "training", "test", n, (sum(sizes),))
    normals = torch.from_numpy(draws.astype(np.float32))
    state, seen = torch.split(normals, sizes, dim=1)
    drawn = encoder.state_mean + encoder.state_std * state
    background = encoder.state(drawn, state.roll(1, 1))  # either image, by chance
    seen = seen.reshape(n, window, -1)
    obs_window = encoder.obs_mean + encoder.obs_std * seen
    # The last one belongs to the background. Innovations that no training has seen can
    # make the iterations run away, and any rounding of the encoder itself with them.
    innovation = encoder.innovation_std * seen[:, -1]
    obs_window[:, -1] = encoder.observe(background) + innovation
    return background, obs_window, encoder.initial_hidden(n)


def _weights(encoder: Encoder) -> bytes:
    tensors = {k: v.contiguous() for k, v in encoder.state_dict().items()}
    data: bytes = safetensors_bytes(tensors)
    return data


def _read(kind: str, data: bytes, encoder: Encoder) -> Analyse:
    if kind == "safetensors":
        return encoder_from(data, encoder.settings, FILES[kind])
    return programs.READ[kind](data)


_WRITE: Final[dict[str, Callable[[Encoder], bytes]]] = {
    "safetensors": _weights,
    **programs.WRITE,
}
