"""Choosing a backend: what is named never degrades; auto falls back and warns."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from l63fast._kernels import backend_info, load_kernels
from l63fast.errors import ArgumentValueError, BackendError

HIDE_EXTENSION = "import sys; sys.modules['l63fast._core'] = None\n"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_auto_is_cpp_here_and_says_so() -> None:
    info = backend_info()
    assert info.name == "cpp"
    assert info.instruction_set in {
        "x86-64-v2",
        "x86-64-v3",
        "x86-64-v4",
        "generic",
    }
    assert load_kernels("auto") is load_kernels("cpp")


def test_without_the_extension_auto_warns_once_and_numba_runs() -> None:
    code = HIDE_EXTENSION + (
        "import warnings, numpy as np\n"
        "from l63fast.lorenz63 import forecast\n"
        "from l63fast._kernels import backend_info\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    a = forecast(np.ones((2, 3)), 5); b = forecast(np.ones((2, 3)), 5)\n"
        "print(len(caught), caught[0].category.__name__, backend_info().name)\n"
        "print(a.tobytes().hex())\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr
    summary, bits = result.stdout.splitlines()
    assert summary == "1 BackendWarning numba"
    from l63fast.lorenz63 import forecast

    assert bits == forecast(np.ones((2, 3)), 5).tobytes().hex()


def test_without_the_extension_an_explicit_choice_fails() -> None:
    code = HIDE_EXTENSION + (
        "from l63fast._kernels import load_kernels\nload_kernels('cpp')\n"
    )
    result = run(code)
    assert result.returncode == 1
    assert "BackendError: backend: 'cpp' was asked for, but" in result.stderr


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("printf 'g++ 11.4.0\\nmore %s'", "C++ compiler {} here: g++ 11.4.0"),
        ("/nowhere/g++", "an install found no C++ compiler '{}' here"),
        ("sh -c 'exit 1'", "C++ compiler {} here: exit status 1"),
    ],
)
def test_without_the_extension_the_compiler_and_its_version_are_named(
    compiler: str, said: str
) -> None:
    code = "from l63fast._kernels import backend_info\nprint(backend_info().reason)"
    result = run(HIDE_EXTENSION + code, CXX=compiler)
    assert result.returncode == 0, result.stderr
    assert said.format(compiler) in result.stdout


def test_levels_are_forced_and_unknown_ones_refused() -> None:
    with pytest.raises(BackendError, match="level: expected one of"):
        load_kernels("cpp", level="x86-64-v9")
    with pytest.raises(BackendError, match="only the C\\+\\+ backend has levels"):
        load_kernels("numba", level="x86-64-v3")
    with pytest.raises(ArgumentValueError, match="one of auto, cpp, numba"):
        load_kernels("CPP")


@pytest.mark.promise("I02", "one warning")
def test_the_environment_variable_forces_a_level_and_nonsense_only_warns() -> None:
    code = "from l63fast._kernels import backend_info as b\nprint(b().instruction_set)"
    lowest = run(
        "from l63fast._kernels import cpp\nprint(cpp.levels()[0])"
    ).stdout.strip()
    forced = run(code, L63FAST_INSTRUCTION_SET=lowest)
    assert forced.stdout.strip() == lowest
    assert "Warning" not in forced.stderr
    nonsense = run(code, L63FAST_INSTRUCTION_SET="quantum")
    assert nonsense.returncode == 0
    assert nonsense.stdout.strip() == backend_info().instruction_set
    assert nonsense.stderr.count("BackendWarning") == 1
    assert "got 'quantum'" in nonsense.stderr
