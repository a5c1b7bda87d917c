"""Encoders in files: writing them in several formats, and reading them safely."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as safetensors_from
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from l63fast import _checks, _random
from l63fast._user_code import short_name
from l63fast.assimilation.agreement import Setup
from l63fast.errors import BackendError, DataFileError, L63Error, ModelFileError
from l63fast.learning import programs
from l63fast.learning.card import (
    CARD,
    FILES,
    WRITTEN,
    check_coordinates,
    describe,
    made_for_in,
    settings_in,
)
from l63fast.learning.encoders import Encoder, EncoderOfOwnOperator, build_encoder
from l63fast.learning.inference import EncoderFunction
from l63fast.learning.normaliser import Normaliser, nearer_image
from l63fast.learning.own_model import OwnModel
from l63fast.learning.pinned import pinned
from l63fast.learning.programs import Analyse
from l63fast.learning.settings import EncoderSettings
from l63fast.observation import as_operator
from l63fast.storage import (
    LARGEST_TEXT,
    MANIFEST,
    read_bytes,
    read_file,
    read_unchanged,
    write_bytes,
    write_json,
    writing_errors,
)

MAX_PARITY_ERROR: Final = 1e-5
_BATCHES: Final = (1, 7, 513)
# Scalar product of (x, y) of background and analysis below which rounding decides
# which mirror image is nearer.
_UNDECIDED: Final = 0.01


@pinned()
def save_model(
    encoder: Encoder,
    directory: str | Path,
    card: dict[str, Any],
    *,
    formats: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write an encoder in several formats and return its model card.

    Parameters
    ----------
    encoder : Encoder
    directory : str or Path
        Made if it does not exist; files of the same names are replaced.
    card : dict
        JSON values for the card's "training": hashes of the data, the settings.
    formats : sequence of str, optional
        "torchscript", "pt2", "onnx"; "safetensors" is always written. By default
        torchscript. If Python or a model of the user's own does not admit it, the
        card's notes say why.

    Raises
    ------
    ResultError
        If the directory cannot be made, or a file not be written.
    ModelFileError
        If a file, read back from disk, gives other analyses than the encoder, or if a
        model of the user's own cannot be written in one of the formats given.
    """
    directory, own = Path(directory), encoder.own
    encoder.eval()
    content = describe(encoder, card)
    has_own_h = isinstance(encoder, EncoderOfOwnOperator)
    own_name = as_operator(encoder.settings.operator).name * has_own_h
    own_name = own.name if own else own_name
    kinds = _checked(WRITTEN if formats is None else formats)
    with writing_errors("make the directory", directory):
        directory.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        path = directory / FILES[kind]
        if kind == "torchscript" and formats is None and not programs.HAS_SCRIPTS:
            content["notes"].append(programs.NO_SCRIPTS)
            continue
        try:
            if has_own_h and kind != "safetensors":
                raise TypeError("a program cannot contain an h of the user's own")
            content["files"][kind] = _written(kind, encoder, path)
        except Exception as error:  # whatever torch raises for a user's own module
            if not own_name or kind == "safetensors" or isinstance(error, BackendError):
                raise
            path.unlink(missing_ok=True)
            why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            message = f"{own_name} cannot be written as {kind}: {why}"
            if formats is not None:
                raise ModelFileError(message) from error
            content["notes"].append(message)
    write_json(directory / CARD, content)
    return content


def _written(kind: str, encoder: Encoder, path: Path) -> dict[str, Any]:
    """Write a file, compare it with the encoder, and return its entry of the card."""
    data = _WRITE[kind](encoder if kind == "safetensors" else _filter(encoder))
    write_bytes(path, data)
    error = parity_error(encoder, _reloaded(kind, read_file(path), encoder))
    if not error <= MAX_PARITY_ERROR:
        raise ModelFileError(
            f"{path}: expected the analyses of the encoder to within "
            f"{MAX_PARITY_ERROR:g} standard deviations, got {error:.3g}"
        )
    return {
        "name": FILES[kind],
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "parity_error": error,
    }


def _filter(encoder: Encoder) -> Encoder:
    """Return an encoder without its smoother, which programs do not contain."""
    if encoder.smoother is not None:
        encoder = copy.deepcopy(encoder)
        encoder.smoother = None
    return encoder


def _checked(formats: Sequence[str]) -> list[str]:
    """Return the formats in the order of the table, without repetition."""
    wanted = {_checks.choice("formats", kind, FILES) for kind in formats}
    return [kind for kind in _WRITE if kind in wanted | {"safetensors"}]


@pinned()
def parity_error(encoder: Encoder, program: Analyse) -> float:
    """Return the largest difference between analyses, in units of `state_std`.

    Batches of several sizes are compared, drawn with the scales of the training data.
    Hidden states are not compared: they have no unit, and those of trained encoders
    differed by 1e-4. Instead two analyses are made in a row, the second by encoder and
    program each with its own hidden state.
    """
    scale = encoder.state_std.numpy()
    worst = 0.0
    for n in _BATCHES:
        background, obs_window, hidden = examples(encoder, n)
        program_hidden = hidden
        for _ in range(2 if encoder.hidden_size else 1):
            with torch.inference_mode():
                expected, hidden, *mixtures = encoder(background, obs_window, hidden)
                analysis, program_hidden, *others = program(
                    background, obs_window, program_hidden
                )
            difference = _difference(encoder, background, analysis, expected) / scale
            worst = float(np.maximum(worst, difference.max()))  # keeps a NaN
            for ours, theirs in zip(mixtures, others, strict=True):
                factors = (ours - theirs)[..., 4:].unflatten(-1, (3, 3))
                # The covariance does not depend on the sign of a row.
                apart = factors.abs().numpy() if not encoder.folds else 0.0
                worst = float(np.maximum(worst, np.max(apart / scale[:, None])))
    return worst


def _difference(
    encoder: Encoder, background: Tensor, analysis: Tensor, expected: Tensor
) -> np.ndarray:
    """Return |analysis - expected| (n, 3), the sign left out where rounding decides it.

    In folded coordinates the background alone decides which mirror image is the
    analysis. Where it is equally far from both, the last bit decides.
    """
    if encoder.folds:
        agreement = (expected * background)[:, :2].sum(1, keepdim=True)
        is_undecided = agreement.abs() < _UNDECIDED
        nearer = nearer_image(analysis, expected)
        analysis = torch.where(is_undecided, nearer, analysis)
    difference: np.ndarray = (analysis - expected).abs().numpy()
    return difference


@pinned()
def examples(encoder: Encoder, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return n backgrounds, windows and hidden states as in the training data."""
    window = encoder.settings.window
    sizes = [3, window * len(encoder.obs_mean)]
    draws = _random.standard_normals(0, "training", "test", n, (sum(sizes),))
    normals = torch.from_numpy(draws.astype(np.float32))
    state, seen = torch.split(normals, sizes, dim=1)
    drawn = encoder.state_mean + encoder.state_std * state
    # Unrelated numbers choose the mirror image: each of the two, with chance 1/2.
    background = encoder.state(drawn, state.roll(1, 1))
    seen = seen.reshape(n, window, -1)
    obs_window = encoder.obs_mean + encoder.obs_std * seen
    latest = obs_window[:, -1, : encoder.obs_dim]
    # The last observation belongs to the background: for innovations much larger than
    # in training the iterations may diverge, and every rounding error grows with them.
    if isinstance(encoder, EncoderOfOwnOperator) or encoder.powers.numel():
        innovation = encoder.innovation_std * seen[:, -1, : encoder.obs_dim]
        latest[:] = encoder.observe(background) + innovation
    if encoder.gaps:
        missing = seen.roll(1, 2)[:, :, : encoder.obs_dim] > 0.5
        obs_window[:, :, : encoder.obs_dim][missing] = torch.nan
        obs_window[:, :, -1].abs_()
    return background, obs_window, encoder.initial_hidden(n)


def _weights(encoder: Encoder) -> bytes:
    tensors = {k: v.contiguous() for k, v in encoder.state_dict().items()}
    data: bytes = safetensors_bytes(tensors)
    return data


def _reloaded(kind: str, data: bytes, encoder: Encoder) -> Analyse:
    if kind == "safetensors":
        return encoder_from(data, encoder.settings, FILES[kind], encoder.own)
    return programs.READ[kind](data)


_WRITE: Final[dict[str, Callable[[Encoder], bytes]]] = {
    "safetensors": _weights,
    **programs.WRITE,
}


@pinned()
def load_encoder(
    path: str | Path,
    *,
    format: str = "safetensors",
    sha256: str | None = None,
    trust: bool = False,
    model: Callable[..., Any] | None = None,
    operator: Callable[..., Any] | None = None,
) -> EncoderFunction:
    """Return an exported encoder as a function of NumPy arrays.

    Parameters
    ----------
    path : str or Path
        The directory with the model card and the model files.
    format : str
        "safetensors" runs nothing from the file. "torchscript" and "pt2" are programs
        that can do anything when loaded; an "onnx" file can use all memory and time,
        and needs the extra `onnx`.
    sha256 : str, optional
        The expected hash of the model file, from a source you trust; required for
        programs unless `trust`.
    trust : bool
        Load a program without knowing its hash. (The hash in the model card shows only
        that the file is unchanged, not who made it.) With `model`: accept a class whose
        source has changed since the training.
    model : class or function, optional
        The class that was trained, for a model of your own and the format safetensors.
        Names in files are never imported.
    operator : ObservationOperator or function h, optional
        The operator of the training, if it is one of your own.

    Raises
    ------
    ModelFileError
        If the model is not trusted, damaged, or not as its card says; or if it needs
        another `model` or `operator` than the one given.
    DataFileError
        If a file is missing or unreadable.
    MissingPackageError
        If the packages of the extra `onnx` are not installed.
    """
    _checks.choice("format", format, FILES)
    directory = _checks.path("path", path)
    if format != "safetensors" and sha256 is None and not trust:
        raise ModelFileError(
            f"{directory / FILES[format]}: a {format} file is a program and runs when "
            "loaded: give the sha256 you expect, or trust=True"
        )
    if format == "safetensors":
        given: dict[str, Any] = {"model": model, "operator": operator, "trust": trust}
        encoder, card = load_weights(directory, sha256=sha256, **given)
        return _function(encoder, encoder.settings, card, encoder.made_for)

    def read() -> tuple[Any, ...]:
        card = _card(directory)
        settings = _with_operator(directory, card, operator)
        made_for = made_for_in(card, settings, str(directory / CARD))
        data = _model_bytes(directory, format, card, sha256)
        return data, settings, card, made_for

    data, settings, card, made_for = read_unchanged(directory, read)
    try:
        program = programs.READ[format](data)
    except BackendError:
        raise
    except Exception as error:  # whatever a damaged program makes torch raise
        raise ModelFileError(
            f"{directory / FILES[format]}: is not a {format} program: {error}"
        ) from error
    return _function(program, settings, card, made_for)


@pinned()
def load_weights(
    path: str | Path,
    *,
    sha256: str | None = None,
    model: Callable[..., Any] | None = None,
    operator: Callable[..., Any] | None = None,
    trust: bool = False,
) -> tuple[Encoder, dict[str, Any]]:
    """Return the encoder as a torch module, from its weights, and its model card.

    Only the given `model` and `operator` are run, nothing from the file.

    Raises
    ------
    ModelFileError, DataFileError
        As in `load_encoder`.
    """
    directory = _checks.path("path", path)
    read = partial(_encoder_of, directory, sha256, model, operator, trust)
    return read_unchanged(directory, read)


def _encoder_of(
    directory: Path,
    sha256: str | None,
    model: Callable[..., Any] | None,
    operator: Callable[..., Any] | None,
    trust: bool,
) -> tuple[Encoder, dict[str, Any]]:
    card = _card(directory)
    settings = _with_operator(directory, card, operator)
    named = as_operator(settings.operator)
    if named.is_own and not settings.is_own and named.function is named:
        raise ModelFileError(
            f"{directory}: is an encoder for the user's own operator {named.name}: "
            "expected its function, as in load_encoder(path, operator=h), got none "
            "(names in files are never imported)"
        )
    check_coordinates(card, settings, str(directory / CARD))
    own = _own(directory, settings, card, model, trust)
    data = _model_bytes(directory, "safetensors", card, sha256)
    encoder = encoder_from(data, settings, str(directory / FILES["safetensors"]), own)
    if encoder.hidden_size != card["hidden_size"]:
        raise ModelFileError(
            f"{directory / CARD}: hidden_size: expected {encoder.hidden_size}, as the "
            f"encoder has it, got {card['hidden_size']}"
        )
    encoder.data_hash = card["normaliser_hash"]
    encoder.made_for = made_for_in(card, settings, str(directory / CARD))
    return encoder, card


def _with_operator(
    directory: Path, card: dict[str, Any], given: Callable[..., Any] | None
) -> EncoderSettings:
    """Return the settings in a card, with the operator that the caller gave."""
    settings = settings_in(card, str(directory / CARD))
    if given is None:
        return settings
    try:
        operator = as_operator(settings.operator).with_function(given)
    except L63Error as error:
        raise ModelFileError(f"{directory}: {error}") from error
    return replace(settings, operator=operator)


def _own(
    directory: Path,
    settings: EncoderSettings,
    card: dict[str, Any],
    model: Callable[..., Any] | None,
    trust: bool,
) -> OwnModel | None:
    """Return the caller's own model, None for a model of the package."""
    name, expected = settings.model, card["training"].get("source_sha256")
    if model is None:
        if not settings.is_own:
            return None
        raise ModelFileError(
            f"{directory}: is the user's own model {name}: expected its class, as in "
            f"load_encoder(path, model={short_name(name)}), got none "
            "(names in files are never imported)"
        )
    given = OwnModel.of(model)
    if not settings.is_own or (given.source_sha256 != expected and not trust):
        raise ModelFileError(
            f"{directory}: model: expected {name} as it was trained, with source "
            f"sha256 {expected}, got {given.name} with {given.source_sha256}; "
            "trust=True accepts a class whose source has changed"
        )
    return given


def _function(
    program: programs.Analyse,
    settings: EncoderSettings,
    card: dict[str, Any],
    made_for: Setup,
) -> EncoderFunction:
    return EncoderFunction(
        program, settings, hidden_size=card["hidden_size"], made_for=made_for, card=card
    )


def _card(directory: Path) -> dict[str, Any]:
    if not (directory / CARD).exists():
        raise DataFileError(
            f"{directory}: has no {CARD}; expected the folder of a trained encoder, "
            "such as results/gru_xy"
        )
    try:
        card = json.loads(_file(directory, CARD, most=LARGEST_TEXT))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{directory / CARD}: is not valid JSON: {error}"
        ) from None
    if not isinstance(card, dict):
        raise ModelFileError(f"{directory / CARD}: expected a table")
    return card


def _model_bytes(
    directory: Path, format: str, card: dict[str, Any], sha256: str | None
) -> bytes:
    path = directory / FILES[format]
    if format not in card["files"]:
        raise ModelFileError(f"{path}: the model card lists no {format} file")
    data = _file(directory, FILES[format])
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise ModelFileError(f"{path}: expected sha256 {sha256}, got {found}")
    if found != card["files"][format]["sha256"]:
        raise ModelFileError(
            f"{path}: is not the file of its model card (sha256 {found})"
        )
    return data


def _file(directory: Path, name: str, *, most: int | None = None) -> bytes:
    if (directory / MANIFEST).exists():
        return read_bytes(directory, name)
    return read_file(directory / name, most=most)


@pinned()
def encoder_from(
    data: bytes, settings: EncoderSettings, source: str, own: OwnModel | None = None
) -> Encoder:
    """Return the encoder with the weights in safetensors bytes.

    Raises
    ------
    ModelFileError
        If they are not safetensors, or tensors are missing, unknown, misshapen, of
        another dtype or not finite.
    """
    if data.startswith(b"PK"):
        raise ModelFileError(
            f"{source}: expected safetensors, got a zip archive (as pickles and "
            "programs of torch are); it was not opened"
        )
    try:
        tensors: dict[str, Tensor] = safetensors_from(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelFileError(f"{source}: is not valid safetensors: {error}") from None
    identity = Normaliser.identity(settings.operator, gaps=settings.gaps)
    expected = build_encoder(settings, identity, own=own)
    _check_tensors(tensors, expected.state_dict(), source)
    expected.load_state_dict(tensors)
    return expected.eval()


def _check_tensors(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], source: str
) -> None:
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        raise ModelFileError(
            f"{source}: missing tensors {sorted(missing)}, unknown {sorted(extra)}"
        )
    for name, wanted in expected.items():
        given = tensors[name]
        if given.shape != wanted.shape or given.dtype != wanted.dtype:
            raise ModelFileError(
                f"{source}: {name}: expected {wanted.dtype} {tuple(wanted.shape)}, "
                f"got {given.dtype} {tuple(given.shape)}"
            )
        if not torch.isfinite(given).all():
            raise ModelFileError(f"{source}: {name}: expected finite values")
