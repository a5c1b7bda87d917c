"""Measures the time of one analysis in every format, all in one run."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final

import numpy as np
import torch

from l63fast import _checks
from l63fast._timing import collector_off, one_core
from l63fast.assimilation.program_files import write_analyse_inputs
from l63fast.errors import BackendError, DataFileError
from l63fast.learning import programs
from l63fast.learning.card import FILES
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.export import examples, load_encoder, load_weights, save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.pinned import pinned
from l63fast.learning.settings import EncoderSettings

EAGER: Final = "eager"
CPP: Final = "C++ torchscript"
_LATENCY_CALLS: Final = 200
# The time is that of the difference, without the start of the program.
_CPP_WINDOWS: Final = (1000, 6000)


@dataclass(frozen=True)
class EncoderSpeed:
    """Sizes of a measurement.

    Attributes
    ----------
    batches : tuple of int
        Numbers of windows in one call.
    rounds : int
        Number of measurements of each; the medians are reported.
    """

    batches: tuple[int, ...] = (1, 16, 256, 4096, 100_000)
    rounds: int = 9

    @classmethod
    def of_scale(cls, scale: float) -> EncoderSpeed:
        """Return sizes for a share, above 0 and up to 1, of the full time."""
        scale = _checks.real("scale", scale, above=0.0, maximum=1.0)
        most = max(int(cls.batches[-1] * scale), cls.batches[2])
        batches = tuple(n for n in cls.batches[:-1] if n < most)
        return cls((*batches, most), max(round(cls.rounds * scale), 1))


@dataclass(frozen=True)
class EncoderTimes:
    """Times of an analysis: medians over the rounds, in seconds of processor time.

    Attributes
    ----------
    latency : float
        Time of the program for one window, from tensors to tensors.
    per_window : dict of int to float
        Time per window by batch size, of the function of NumPy arrays that
        `load_encoder` returns; for `eager` of one call of the module on the batch.
    """

    latency: float
    per_window: Mapping[int, float]


def encoder_to_time(result: Path | None) -> Encoder:
    """Return the encoder of a result; without one an untrained GRU-64, window 5."""
    if result is not None:
        return load_weights(result)[0]
    settings = EncoderSettings("gru", "xy", window=5, hidden=64)
    return build_encoder(settings, Normaliser.identity("xy")).eval()


def measure_encoder(
    encoder: Encoder, sizes: EncoderSpeed, analyse: Path | None = None
) -> dict[str, EncoderTimes]:
    """Return the times of an encoder in every format that is installed, on one core.

    Parameters
    ----------
    encoder : Encoder
    sizes : EncoderSpeed
    analyse : Path, optional
        Path of the C++ program `analyse`, to measure it too.
    """
    with tempfile.TemporaryDirectory() as folder, one_core(), pinned():
        model = Path(folder)
        formats = _written(encoder, model)
        batches = {n: _inputs(encoder, n) for n in sizes.batches}
        calls: dict[tuple[str, int], Callable[[], float]] = {}
        one = _tensors(encoder, _inputs(encoder, 1))
        for kind in (EAGER, *formats):
            program = _program(encoder, model, kind)
            calls[kind, 0] = _repeated(partial(program, *one), _LATENCY_CALLS)
            for n, arrays in batches.items():
                whole = _whole(encoder, model, kind, arrays)
                calls[kind, n] = _repeated(whole, max(_LATENCY_CALLS // n, 1), n)
        if analyse is not None:
            calls[CPP, 0] = _cpp(encoder, model, analyse)
        seconds = _medians(calls, sizes.rounds)
    kinds = dict.fromkeys(kind for kind, _ in calls)
    return {
        kind: EncoderTimes(
            seconds[kind, 0],
            {n: seconds[kind, n] for n in batches if (kind, n) in seconds},
        )
        for kind in kinds
    }


def _written(encoder: Encoder, folder: Path) -> list[str]:
    formats: tuple[str, ...] = tuple(FILES)
    try:
        save_model(encoder, folder, {}, formats=formats)
    except BackendError:  # ONNX is an extra
        formats = tuple(kind for kind in FILES if kind != "onnx")
        save_model(encoder, folder, {}, formats=formats)
    return list(formats)


def _inputs(encoder: Encoder, n: int) -> tuple[np.ndarray, np.ndarray]:
    background, obs_window, _ = examples(encoder, n)
    return background.double().numpy(), obs_window.double().numpy()


def _tensors(
    encoder: Encoder, arrays: tuple[np.ndarray, np.ndarray]
) -> list[torch.Tensor]:
    tensors = [torch.from_numpy(array).float() for array in arrays]
    return [*tensors, encoder.initial_hidden(len(tensors[0]))]


def _program(encoder: Encoder, model: Path, kind: str) -> Callable[..., Any]:
    program: Any = encoder
    if kind in programs.READ:
        program = programs.READ[kind]((model / FILES[kind]).read_bytes())

    def call(*tensors: torch.Tensor) -> Any:
        with torch.no_grad():
            return program(*tensors)

    return call


def _whole(
    encoder: Encoder, model: Path, kind: str, arrays: tuple[np.ndarray, np.ndarray]
) -> Callable[[], Any]:
    if kind == EAGER:
        program, tensors = _program(encoder, model, kind), _tensors(encoder, arrays)
        return lambda: program(*tensors)
    function = load_encoder(model, format=kind, trust=True)
    return lambda: function(*arrays)


def _repeated(
    call: Callable[[], Any], times: int, n_windows: int = 1
) -> Callable[[], float]:
    """Return a function that gives the seconds of one window."""

    def probe() -> float:
        for _ in range(times if times > 1 else 0):
            call()  # not measured: fills the caches after the last large batch
        start = process_time()  # one thread; other programs disturb it less
        for _ in range(times):
            call()
        return (process_time() - start) / (times * n_windows)

    return probe


def _cpp(encoder: Encoder, model: Path, analyse: Path) -> Callable[[], float]:
    command = [str(analyse), str(model), "inputs", str(model / "outputs.nc")]
    command += ["--trust", "--threads", "1", "--chunk", "1"]
    for n in _CPP_WINDOWS:
        write_analyse_inputs(model / f"{n}.nc", *_inputs(encoder, n))

    def seconds(n: int) -> float:
        command[2] = str(model / f"{n}.nc")
        done = subprocess.run(command, capture_output=True, text=True)
        printed = re.search(r"([\d.e+-]+) s of the processor", done.stdout)
        if printed is None:
            raise DataFileError(f"{analyse}: expected times, got {done.stderr.strip()}")
        return float(printed[1])

    few, many = _CPP_WINDOWS
    return lambda: (seconds(many) - seconds(few)) / (many - few)


def _medians(
    calls: Mapping[tuple[str, int], Callable[[], float]], rounds: int
) -> dict[tuple[str, int], float]:
    for call in calls.values():
        call()  # compiles, and loads what it needs
    # By size: calls that are compared run directly after each other, and a small batch
    # does not follow a large one, which leaves the caches full of its own data.
    order = sorted(calls, key=lambda key: key[1])
    measured: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    with collector_off():
        for _ in range(rounds):
            for key in order:
                measured[key].append(calls[key]())
    return {key: median(times) for key, times in measured.items()}
