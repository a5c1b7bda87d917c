"""What an install gives: with a compiler, without one, and at what price to import."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from l63fast._kernels import backend_info
from l63fast.lorenz63 import forecast

REPOSITORY: Final = Path(__file__).resolve().parents[2]
BUILD_INPUTS: Final = ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE")

# Compilers that fail on purpose: at CMake's first question, and in the kernels.
COMPILERS: Final = {
    "configure": "echo broken on purpose >&2; exit 1",
    "compile": 'case "$*" in *kernels/*) exit 1;; esac; exec c++ "$@"',
}

# Runs a forecast in the package found first on the path it is given, and tells.
FALLBACK: Final = """
import json, sys, warnings
sys.path[:0] = sys.argv[1:]
import numpy as np
import l63fast
from l63fast._kernels import backend_info
from l63fast.errors import BackendError
from l63fast.lorenz63 import forecast
states = np.arange(21.0).reshape(7, 3)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    final = [forecast(states, 50).tobytes().hex() for _ in range(2)]
try:
    forecast(states, 1, backend="cpp")
    refused = ""
except BackendError as error:
    refused = str(error)
print(json.dumps({
    "file": l63fast.__file__, "final": final, "refused": refused,
    "backend": backend_info().name, "reason": backend_info().reason,
    "warnings": [f"{w.category.__name__}: {w.message}" for w in caught],
}))
"""


def run(code: str, *arguments: str, bare: bool = False) -> Any:
    """Return what a fresh interpreter prints as JSON; `bare` sees no site-packages."""
    flags = ["-I", "-S"] if bare else ["-I"]
    command = [sys.executable, *flags, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def is_editable() -> bool:
    text = importlib.metadata.distribution("l63fast").read_text("direct_url.json")
    return bool(json.loads(text or "{}").get("dir_info", {}).get("editable"))


@pytest.fixture(params=sorted(COMPILERS))
def broken_build(request, tmp_path):
    """Return a function that builds a wheel with a compiler that fails."""
    pytest.importorskip("scikit_build_core")
    pytest.importorskip("pybind11")
    if request.param == "compile" and shutil.which("c++") is None:
        pytest.skip("no C++ compiler to fail half-way")
    source = tmp_path / "source"
    for name in ("cpp", "python"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in BUILD_INPUTS:
        shutil.copy(REPOSITORY / name, source)
    compiler = tmp_path / "broken-c++"
    compiler.write_text(f"#!/bin/sh\n{COMPILERS[request.param]}\n")
    compiler.chmod(0o755)

    def build(**environment: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index"]
        command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
        env = {k: v for k, v in os.environ.items() if k != "L63FAST_REQUIRE_CPP"}
        env |= {"CXX": str(compiler), **environment}
        return subprocess.run(
            command, env=env, capture_output=True, text=True
        ), tmp_path

    return build


def test_a_failing_compiler_gives_a_pure_wheel_that_runs_on_numba(broken_build):
    done, folder = broken_build()
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    target = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(target)
    told = run(FALLBACK, str(target), sysconfig.get_path("platlib"), bare=True)
    assert Path(told["file"]).is_relative_to(target)
    assert told["backend"] == "numba"
    (warning,) = told["warnings"]
    assert warning.startswith("BackendWarning: Numba kernels are used")
    assert "extension cannot be imported" in told["reason"]
    assert "C++ compiler" in told["reason"]
    assert "'cpp' was asked for" in told["refused"]
    expected = forecast(np.arange(21.0).reshape(7, 3), 50).tobytes().hex()
    assert told["final"] == [expected, expected]


def test_a_failing_compiler_fails_the_build_where_cpp_is_required(broken_build):
    done, folder = broken_build(L63FAST_REQUIRE_CPP="1")
    assert done.returncode != 0
    assert "CMake" in done.stdout + done.stderr
    assert not list(folder.glob("*.whl"))


@pytest.mark.skipif(
    not os.environ.get("L63FAST_REQUIRE_CPP"), reason="the extension is not required"
)
def test_the_extension_is_installed_where_it_is_required():
    assert backend_info().name == "cpp"


@pytest.mark.skipif(is_editable(), reason="an editable install runs from the sources")
def test_the_tests_run_the_installed_package_and_not_the_sources():
    import l63fast

    installed = importlib.metadata.distribution("l63fast").locate_file("l63fast")
    assert Path(l63fast.__file__).parent == Path(str(installed))
    assert not Path(l63fast.__file__).is_relative_to(REPOSITORY / "python")


def test_requirements_are_those_of_the_package():
    assert (REPOSITORY / "requirements.txt").read_text() == ".\n"


@pytest.mark.skipif(backend_info().name != "cpp", reason="Numba costs itself")
def test_import_and_kernels_cost_numpy_and_nothing_else():
    code = """
import json, sys, numpy
before = set(sys.modules)
import l63fast
l63fast.simulate(numpy.ones(3), 10)
l63fast.three_d_var(numpy.ones(3), numpy.ones(1), "x", B=numpy.eye(3), R=numpy.eye(1))
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(new - {*sys.stdlib_module_names, "numpy"})))
"""
    assert run(code) == ["l63fast"]


MAPPED: Final = """
import json
from l63fast._kernels import backend_info
backend_info()
with open("/proc/self/maps") as maps:
    names = {line.split(None, 5)[5].strip() for line in maps if "/" in line}
print(json.dumps(sorted(names)))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
@pytest.mark.skipif(backend_info().name != "cpp", reason="the extension is absent")
def test_the_extension_links_neither_torch_nor_openmp():
    mapped = [Path(name).name for name in run(MAPPED)]
    assert [name for name in mapped if name.startswith("_core.")]
    for unwanted in ("torch", "c10", "gomp", "iomp"):
        assert not [name for name in mapped if unwanted in name]


@pytest.mark.promise("N2", "5e-324 * 1.0 != 0 after import")
def test_denormal_numbers_survive_import_and_a_kernel_call():
    code = """
import json
import numpy as np
from l63fast.lorenz63 import forecast
tiny = [float("5e-324") * float("1")]
forecast(np.ones((4, 3)), 10)
tiny.append(float("5e-324") * float("1"))
tiny.append((np.full(64, 5e-324) * 1.0).min())
print(json.dumps([float(value) for value in tiny]))
"""
    assert run(code) == [5e-324] * 3
