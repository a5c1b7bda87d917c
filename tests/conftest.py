"""Fixtures that several test modules take."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builds import built, configured, output, tool
from cli_runs import Command, make_command
from encoder_programs import Programs, built_programs
from report_help import experiment_with_report


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """Yield a directory in memory where there is one: a kill needs no slow disk."""
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="l63fast-test-", dir=base))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def core_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the build folder of the plain core, as `cmake` alone makes it."""
    return built(configured(tmp_path_factory.mktemp("core")))


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small experiment of several cases with its report."""
    return experiment_with_report(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="session")
def core_prefix(core_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the core is installed as a library."""
    folder = tmp_path_factory.mktemp("prefix")
    output(tool("cmake"), "--install", core_build, "--prefix", folder)
    return folder


@pytest.fixture(scope="session")
def programs(core_prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Return the C++ programs that run encoders, built once for all tests."""
    return built_programs(tmp_path_factory.mktemp("encoder"), core_prefix)


@pytest.fixture(params=["cpp", "numba"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def l63fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return what runs the command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return make_command(monkeypatch, capsys)
