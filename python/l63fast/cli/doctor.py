"""`l63fast doctor`: what is installed, which backend runs, and whether it is right."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np

from l63fast.cli.app import app
from l63fast.cli.declare import Given, command
from l63fast.errors import BackendError

__all__ = ["doctor"]

PACKAGES: Final = (
    "l63fast",
    "numpy",
    "scipy",
    "numba",
    "torch",
    "xarray",
    "netCDF4",
    "matplotlib",
    "typer",
    "pydantic",
    "rich",
    "safetensors",
)


# Of the forecast below: the same on every machine, from C++ and from Numba.
FORECAST_BITS: Final = "8273e0f2dfea9e03"


@command(app, ())
def doctor(given: Given) -> None:
    """Say what is installed, which kernels run, why, and whether they are right."""
    from l63fast._kernels import backend_info

    backend = backend_info()
    _line("backend", backend.name)
    _line("instruction set", backend.instruction_set)
    _line("reason", backend.reason)
    _line("threads", str(backend.n_threads))
    _line("cores", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}")
    _line("python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        _line(package, _installed(package))
    flushed, bits = _flushes_denormals(), _forecast_bits()
    right = bits == FORECAST_BITS
    _line("denormals", "flushed to zero" if flushed else "kept")
    _line("golden forecast", "the expected bits" if right else f"other bits ({bits})")
    if flushed:
        raise BackendError(
            "denormals: expected them to be kept, got 0 for 5e-324 * 1; a library "
            "built with -ffast-math, or torch.set_flush_denormal, does that"
        )
    if not right:
        raise BackendError(
            f"golden forecast: expected the bits {FORECAST_BITS}, got {bits}; "
            "reinstall l63fast without CXXFLAGS"
        )


def _flushes_denormals() -> bool:
    return bool((np.array([5e-324]) * np.array([1.0]) == 0.0).any())


def _forecast_bits() -> str:
    """Return a hash of 64 states after 500 steps, in little-endian float64."""
    from l63fast.lorenz63 import forecast

    i = np.arange(64)
    states = np.stack([i * 37 % 61 - 30, i * 53 % 71 - 35, i * 29 % 83], axis=-1) / 2.0
    final = forecast(states, 500, n_threads=1)
    return hashlib.sha256(final.astype("<f8").tobytes()).hexdigest()[:16]


def _line(name: str, value: str) -> None:
    print(f"{name:16s}{value}")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
