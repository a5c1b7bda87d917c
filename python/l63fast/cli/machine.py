"""`l63fast doctor` checks the installation, `l63fast benchmark` measures the speed."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import numpy as np

from l63fast import _checks
from l63fast.cli import options
from l63fast.cli.command_line import Given, Option, command
from l63fast.cli.output import print_whole, say
from l63fast.errors import BackendError, ConfigurationError

# Packages that l63fast needs, and those of its extras.
PACKAGES: Final = (
    *("l63fast", "numpy", "scipy", "numba", "torch", "xarray", "pandas", "netCDF4"),
    *("matplotlib", "pillow", "safetensors", "typer", "pydantic", "rich", "tomli-w"),
    "jinja2",
    *("dask", "distributed", "onnx", "onnxscript", "onnxruntime"),
)
# Hash of the forecast in `_forecast_bits`: the same on every machine and backend.
FORECAST_BITS: Final = "8273e0f2dfea9e03"


@command()
def doctor(given: Given) -> None:
    """Show versions and kernels, and check that the kernels are right."""
    from l63fast._kernels import backend_info

    backend = backend_info()
    _line("backend", backend.name)
    _line("instruction set", backend.instruction_set)
    _line("reason", backend.reason)
    _line("threads", str(backend.n_threads))
    _line("cores", f"{_checks.usable_cores()} of {os.cpu_count()}")
    _line("python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        _line(package, installed(package))
    flushed = bool((np.array([5e-324]) * np.array([1.0]) == 0.0).any())
    bits = _forecast_bits()
    right = bits == FORECAST_BITS
    _line("denormals", "flushed to zero" if flushed else "kept")
    _line("golden forecast", "the expected bits" if right else f"other bits ({bits})")
    if flushed:
        raise BackendError(
            "denormals: expected them to be kept, got 0 for 5e-324 * 1; the cause is "
            "a library built with -ffast-math, or torch.set_flush_denormal"
        )
    if not right:
        raise BackendError(
            f"golden forecast: expected the bits {FORECAST_BITS}, got {bits}; "
            "reinstall l63fast without CXXFLAGS"
        )


def _line(name: str, value: str) -> None:
    print(f"{name:16s}{value}")


def installed(package: str) -> str:
    """Return the version of a package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _forecast_bits() -> str:
    """Return the hash of 64 states after 500 steps, in little-endian float64."""
    from l63fast.lorenz63 import forecast

    i = np.arange(64)
    states = np.stack([i * 37 % 61 - 30, i * 53 % 71 - 35, i * 29 % 83], axis=-1) / 2.0
    final = forecast(states, 500, n_threads=1)
    return hashlib.sha256(final.astype("<f8").tobytes()).hexdigest()[:16]


@command(
    Option(
        "what",
        Literal["kernels", "encoders"],
        "What to measure.",
        "kernels",
        positional=True,
    ),
    Option("save_dir", Path, "Folder of the result.", Path("results/benchmark")),
    Option(
        "result_dir",
        Path,
        "Folder of the trained encoder to measure; by default a GRU with hidden size "
        "64 and window 5.",
        panel="Encoders",
    ),
    Option(
        "analyse",
        Path,
        "The C++ program `analyse`, to measure it too.",
        panel="Encoders",
    ),
    Option(
        "scale",
        float,
        "Fraction of the usual sizes and times, above 0, for a quick test.",
        1.0,
        maximum=1.0,
    ),
    options.DRY_RUN,
    options.QUIET,
)
def benchmark(given: Given) -> None:
    """Measure forecast, simulate and 3D-Var on one core, in at most half a minute.

    Each rate is compared with a limit of processor or memory, which is measured in the
    same run; a table and a bar chart are written. An old benchmark in the folder is
    replaced. `benchmark encoders` measures an encoder in every format and for several
    numbers of windows, and writes into results/benchmark_encoders.
    """
    from l63fast.storage import checked_target

    _checks.real("--scale", given["scale"], above=0.0)
    of_encoders, program = given["what"] == "encoders", given["analyse"]
    save_dir = given["save_dir"]
    if of_encoders:
        save_dir = given.typed("save_dir") or Path("results/benchmark_encoders")
    for name in () if of_encoders else ("result_dir", "analyse"):
        if given[name] is not None:
            raise ConfigurationError(
                f"--{name}: expected none without `l63fast benchmark encoders`, got "
                f"{str(given[name])!r}"
            )
    checked_target(save_dir)  # refused before anything is measured
    if program is not None and not program.is_file():
        raise ConfigurationError(
            f"--analyse: expected the C++ program `analyse`, got {str(program)!r}, "
            "which is not a file"
        )
    if given["dry_run"]:
        say(f"would measure and write {save_dir}", quiet=given["quiet"])
        return
    (_measure_encoders if of_encoders else _measure_kernels)(given, save_dir)


def _measure_encoders(given: Given, save_dir: Path) -> None:
    from l63fast.experiments import speed
    from l63fast.learning.encoder_speed import (
        EncoderSpeed,
        encoder_to_time,
        measure_encoder,
    )

    sizes = EncoderSpeed.of_scale(given["scale"])
    encoder = encoder_to_time(given["result_dir"])
    where, settings = speed.machine(), encoder.settings
    title = (
        f"{settings.model.upper()}-{settings.hidden}, window {settings.window}, "
        f"{settings.operator}, {speed.one_sentence(where)}"
    )
    rows = measure_encoder(encoder, sizes, given["analyse"])
    result = speed.encoder_benchmark(rows, title, where)
    result.write(save_dir)
    if not given["quiet"]:
        print_whole(result.rich())


def _measure_kernels(given: Given, save_dir: Path) -> None:
    from l63fast.experiments import speed

    where, quiet = speed.machine(), given["quiet"]
    say(speed.one_sentence(where), quiet=quiet)
    rows = speed.measure_speed(
        given["scale"], lambda row: say(f"  {row.name}", quiet=quiet)
    )
    result = speed.kernel_benchmark(rows, where)
    result.write(save_dir)
    if not quiet:
        print_whole(result.rich())
        say(f"table and figure in {save_dir}")
