"""`l63fast doctor`: what is installed and which backend runs."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from l63fast.cli.app import app
from l63fast.cli.declare import Given, command

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


@command(app, ())
def doctor(given: Given) -> None:
    """Say what is installed, which kernels run, and why."""
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


def _line(name: str, value: str) -> None:
    print(f"{name:16s}{value}")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
