"""Builds of the core and the extension for tests, in folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[2]
HELPERS: Final = Path(__file__).parent
SEARCHED: Final = os.pathsep.join(
    [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
)


def tool(name: str) -> str:
    """Return the path of a build tool, or skip the test that needs it."""
    found = shutil.which(name, path=SEARCHED)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def output(*command: str | Path, **environment: str) -> str:
    """Return what a command prints; it must succeed."""
    env = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def configured(folder: Path, source: Path = REPOSITORY, **options: str) -> Path:
    """Return a build folder of a CMake project, configured but not built."""
    if "CMAKE_CXX_COMPILER" not in options and "CXX" not in os.environ:
        tool("c++")
    ninja = shutil.which("ninja", path=SEARCHED)
    if ninja is not None:
        options |= {"CMAKE_MAKE_PROGRAM": ninja}
    output(
        *(tool("cmake"), "-S", source, "-B", folder),
        *(["-G", "Ninja"] if ninja else []),
        *(f"-D{name}={value}" for name, value in options.items()),
    )
    return folder


def configured_extension(
    folder: Path, source: Path = REPOSITORY, **options: str
) -> Path:
    """Return a build folder that is configured as pip configures it."""
    pybind11 = pytest.importorskip("pybind11")
    return configured(
        folder,
        source,
        SKBUILD="ON",
        Python_EXECUTABLE=sys.executable,
        pybind11_DIR=pybind11.get_cmake_dir(),
        **options,
    )


def built(folder: Path) -> Path:
    """Build what was configured; return the folder."""
    output(tool("cmake"), "--build", folder, "--parallel", "2")
    return folder
