"""No memory error, undefined behaviour or race in the kernels. Minutes; run it so.

python -m pytest -m slow tests/kernels/test_sanitizers.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from builds import (
    HELPERS,
    REPOSITORY,
    built,
    configured,
    configured_extension,
    output,
    tool,
)

pytestmark = pytest.mark.slow

NATIVE: Final = REPOSITORY / "tests" / "native"
SANITIZERS: Final = {
    # Not optimised: with this many checks the optimiser takes minutes.
    "memory": "-O0 -fsanitize=address,undefined -fno-sanitize-recover=undefined",
    "threads": "-O1 -fsanitize=thread",
}
# Bugs planted in tests/native/exercise.cpp, and what the report must say.
PLANTED: Final = {
    "overflow": ("memory", "AddressSanitizer: heap-buffer-overflow"),
    "undefined": ("memory", "runtime error: signed integer overflow"),
    "race": ("threads", "ThreadSanitizer: data race"),
}
# The kernel tests, without what builds or starts another interpreter.
KERNEL_TESTS: Final = {
    "kernels/test_parity.py": "(x86 or cpp) and not clang and not from_the",
    "unit/test_lorenz63.py": "cpp",
    "kernels/test_three_d_var_kernel.py": "cpp",
}
PLANT: Final = """
#include <cstdlib>
extern "C" int overflow(int n) {
  int* volatile values = static_cast<int*>(std::malloc(sizeof(int) * n));
  return values[n] = n;
}
extern "C" int undefined(int n) { return n + 2147483647; }
"""


def flags(kind: str) -> dict[str, str]:
    chosen = f"{SANITIZERS[kind]} -fno-omit-frame-pointer"
    return {"CMAKE_CXX_FLAGS": chosen, "CMAKE_BUILD_TYPE": "Debug"}


def run(*command: str | Path, **environment: str) -> tuple[int, str]:
    """Return exit status and all output of a command."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def builds(tmp_path_factory) -> dict[str, Path]:
    """Return a build folder per kind of sanitizer; the extension too is in `memory`."""
    memory, threads = (tmp_path_factory.mktemp(kind) for kind in SANITIZERS)
    return {
        "memory": built(configured_extension(memory, NATIVE, **flags("memory"))),
        "threads": built(configured(threads, NATIVE, **flags("threads"))),
    }


@pytest.mark.parametrize("kind", SANITIZERS)
@pytest.mark.promise("B7", "0 reports of ASan, UBSan, TSan")
def test_the_kernels_give_no_report(kind: str, builds: dict[str, Path]) -> None:
    status, said = run(builds[kind] / "exercise")
    assert status == 0, said
    assert "Sanitizer" not in said
    assert "runtime error" not in said


@pytest.mark.parametrize("bug", PLANTED)
@pytest.mark.promise("B7", "3 planted bugs are found")
def test_a_planted_bug_is_found(bug: str, builds: dict[str, Path]) -> None:
    kind, report = PLANTED[bug]
    status, said = run(builds[kind] / "exercise", bug)
    assert status != 0
    assert report in said


@pytest.fixture(scope="module")
def package(tmp_path_factory, builds: dict[str, Path]) -> Path:
    """Return a folder with the package, its extension built with ASan and UBSan."""
    site = tmp_path_factory.mktemp("site")
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(REPOSITORY / "python", site, dirs_exist_ok=True, ignore=ignored)
    (extension,) = builds["memory"].rglob("_core.*.so")
    shutil.copy(extension, site / "l63fast")
    return site


def in_python(code: str, *paths: Path) -> tuple[int, str]:
    """Run code in an interpreter that has both runtimes loaded."""
    runtimes = [
        output(tool("g++"), f"-print-file-name={name}").strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    search = [*map(str, paths), str(HELPERS), *sys.path]
    return run(
        *(sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {search}\n{code}"),
        LD_PRELOAD=" ".join(runtimes),
        PYTHONMALLOC="malloc",
        ASAN_OPTIONS="detect_leaks=0",
    )


@pytest.mark.parametrize("file", KERNEL_TESTS)
@pytest.mark.promise("B7", "0 reports under the kernel tests")
def test_the_kernel_tests_give_no_report(file: str, package: Path) -> None:
    arguments = ["-q", "-p", "no:cacheprovider", "-k", KERNEL_TESTS[file]]
    arguments.append(str(REPOSITORY / "tests" / file))
    status, said = in_python(
        "import pytest\nfrom l63fast import _core\n"
        f"assert _core.__file__.startswith({str(package)!r}), _core.__file__\n"
        f"sys.exit(pytest.main({arguments}))",
        package,
    )
    assert status == 0, said
    assert " passed" in said
    assert "runtime error" not in said


@pytest.mark.parametrize("bug", ["overflow", "undefined"])
def test_a_planted_bug_is_found_in_python_too(bug: str, tmp_path: Path) -> None:
    (tmp_path / "plant.cpp").write_text(PLANT)
    library = tmp_path / "plant.so"
    output(
        *(tool("g++"), "-shared", "-fPIC", *SANITIZERS["memory"].split()),
        *(tmp_path / "plant.cpp", "-o", library),
    )
    status, said = in_python(f"import ctypes; ctypes.CDLL({str(library)!r}).{bug}(4)")
    assert status != 0
    assert PLANTED[bug][1] in said
