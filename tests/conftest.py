"""Fixtures that several test modules take."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from builds import HELPERS, built, configured, output, tool
from cli_runs import Command, make_command
from encoder_programs import Programs, built_programs
from made_once import Made, made_once, shared_folder
from proof_record import Recorder

# The same bits, compiled in half the time: the slow tests build what is installed.
_COMPILED_FAST: Final = {
    "CMAKE_BUILD_TYPE": "Debug",
    "CMAKE_CXX_FLAGS_DEBUG": "-O1 -DNDEBUG",
}
# Fixtures that are made in other processes while tests run that do without.
_MADE_BESIDE: Final = {
    *("core_build", "core_prefix", "programs", "numba_kernels", "reported"),
}


def pytest_configure(config: pytest.Config) -> None:
    """Record what proves a promise, where asked to."""
    if "L63FAST_PROOFS" in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests come last that wait for what is made beside the others."""

    def waits(item: pytest.Item) -> bool:
        return bool(_MADE_BESIDE & set(getattr(item, "fixturenames", ())))

    items.sort(key=waits)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """Yield a directory in memory where there is one: a kill needs no slow disk."""
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="l63fast-test-", dir=base))
    yield path
    shutil.rmtree(path)


@dataclass(frozen=True)
class Builds:
    """What is made while other tests run, to be waited for."""

    core: Future[Path]
    prefix: Future[Path]
    programs: Future[Programs]
    kernels: Future[str]
    report: Future[Path]


@pytest.fixture(scope="session", autouse=True)
def builds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Builds | None]:
    """Start, with the first test, what the chosen tests will ask for."""
    names = {name for item in request.session.items for name in item.fixturenames}
    if not names & _MADE_BESIDE:
        yield None
        return
    shared = shared_folder(tmp_path_factory)
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as beside:

        def start(
            pool: ThreadPoolExecutor, name: str, make: Callable[[Path], Made]
        ) -> Future[Made]:
            return pool.submit(made_once, shared / name, make)

        compiled, report = Future[str](), Future[Path]()
        if "numba_kernels" in names:
            compiled = start(beside, "kernels", _compiled)
        if "reported" in names:
            report = start(beside, "reported", _report)
        if not names & {"core_build", "core_prefix", "programs"}:
            yield Builds(Future(), Future(), Future(), compiled, report)
            return

        def prefix(folder: Path) -> Path:
            output(tool("cmake"), "--install", core.result(), "--prefix", folder)
            return folder

        core = start(
            pool, "core", lambda folder: built(configured(folder, **_COMPILED_FAST))
        )
        installed = start(pool, "prefix", prefix)
        programs = Future[Programs]()
        if "programs" in names:
            programs = start(
                pool,
                "encoder",
                lambda folder: built_programs(
                    folder, installed.result(), **_COMPILED_FAST
                ),
            )
        yield Builds(core, installed, programs, compiled, report)


def _compiled(_: Path) -> str:
    """Fill the cache of Numba's kernels, in another process."""
    return output(sys.executable, HELPERS / "compile_kernels.py")


def _report(root: Path) -> Path:
    """Return the folder of an experiment with its report, made in another process."""
    script = HELPERS / "report_help.py"
    output(sys.executable, script, root)
    return root / "tiny"


@pytest.fixture(scope="session")
def numba_kernels(builds: Builds) -> None:
    """Wait until Numba's kernels are in its cache."""
    builds.kernels.result()


@pytest.fixture(scope="session")
def core_build(builds: Builds) -> Path:
    """Return the build folder of the plain core, compiled fast."""
    return builds.core.result()


@pytest.fixture(scope="session")
def shipped_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the build folder of the plain core, as `cmake` alone makes it."""
    return built(configured(tmp_path_factory.mktemp("shipped")))


@pytest.fixture(scope="session")
def core_prefix(builds: Builds) -> Path:
    """Return where the core is installed as a library."""
    return builds.prefix.result()


@pytest.fixture(scope="session")
def programs(builds: Builds) -> Programs:
    """Return the C++ programs that run encoders."""
    return builds.programs.result()


@pytest.fixture(scope="session")
def reported(builds: Builds) -> Path:
    """Return the folder of a small experiment of several cases with its report."""
    return builds.report.result()


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
