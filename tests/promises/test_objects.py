"""The built objects: levels share no code, and no compiler flag bends the bits."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from builds import REPOSITORY, configured_extension, output, tool

KERNELS: Final = (
    "integrate_f64",
    "integrate_f32",
    "analyse_f64",
    "analyse_f32",
    "filter_particles",
)
# Flags that let the compiler change a result, or tie it to the machine it runs on.
FORBIDDEN: Final = re.compile(
    r"-ffast-math|-Ofast|-funsafe-math\S*|-fassociative-math|-freciprocal-math|"
    r"-ffinite-math-only|-fno-signed-zeros|-mrecip\S*|-march=native|"
    r"-ffp-contract=(?!off)\S*"
)


@pytest.fixture(
    scope="module",
    params=["core_build", pytest.param("shipped_core", marks=pytest.mark.slow)],
)
def levels(request, core_build):
    """Return the object files of each x86-64 level."""
    build = request.getfixturevalue(request.param)
    found = {
        name: sorted((build / "CMakeFiles" / f"l63fast_{name}.dir").rglob("*.o"))
        for name in ("v2", "v3", "v4")
    }
    if not any(found.values()):
        pytest.skip("this machine is not x86-64: there is one level")
    return found


def symbols(objects: Iterable[Path]) -> set[str]:
    """Return the symbols that these objects offer to the linker, weak ones included."""
    text = output(tool("nm"), "--defined-only", "--extern-only", "-C", *objects)
    return {line.split(None, 2)[2] for line in text.splitlines() if line.count(" ") > 1}


def test_levels_share_no_symbol(levels):
    offered = {name: symbols(objects) for name, objects in levels.items()}
    for name, found in offered.items():
        for kernel in KERNELS:
            assert [one for one in found if f"l63fast::{name}::{kernel}(" in one]
    for first in offered:
        for second in offered:
            assert first == second or offered[first] & offered[second] == set()


def test_each_level_uses_its_own_registers_and_no_wider_ones(levels):
    widest = {"v2": "xmm", "v3": "ymm", "v4": "zmm"}
    for name, objects in levels.items():
        code = output(tool("objdump"), "-d", "--no-show-raw-insn", *objects)
        used = set(re.findall(r"%([xyz]mm)\d", code))
        assert max(used) == widest[name]
        fused = re.search(rf"\tvfn?m(add|sub)\d*p[ds].*%{widest[name]}", code)
        assert (fused is None) == (name == "v2")
        newer_encoding = re.search(r"\tv[a-z]", code)  # AVX spells every name so
        assert (newer_encoding is None) == (name == "v2")


def test_no_file_is_built_with_flags_that_change_results(tmp_path):
    build = configured_extension(tmp_path, CMAKE_EXPORT_COMPILE_COMMANDS="ON")
    commands = json.loads((build / "compile_commands.json").read_text())
    files = {Path(entry["file"]).name for entry in commands}
    sources = {path.name for path in (REPOSITORY / "cpp").glob("[kb]*/*.cpp")}
    assert files == sources
    for entry in commands:
        assert "-ffp-contract=off" in entry["command"]
        assert FORBIDDEN.search(entry["command"]) is None


@pytest.mark.promise("G3", "-Ofast, -ffast-math: a compile error")
@pytest.mark.parametrize("flag", ["-Ofast", "-ffast-math", "-ffinite-math-only"])
def test_fast_math_is_a_compile_error_that_says_why(flag):
    core = REPOSITORY / "cpp"
    for source in sorted((core / "kernels").glob("*.cpp")):
        kernels = f'#include "{source}"'
        if "levels.hpp" not in source.read_text():  # no kernel of a level
            continue
        compiler = [tool("c++"), "-std=gnu++17", "-I", str(core / "include"), flag]
        done = subprocess.run(
            [*compiler, "-E", "-x", "c++", "-"],
            input=kernels,
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0, source.name
        assert "change results and overlook NaN" in done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("CMAKE_CXX_FLAGS", "-Ofast"), ("CMAKE_SHARED_LINKER_FLAGS", "-ffast-math")],
)
def test_fast_math_is_refused_before_it_can_reach_the_linker(tmp_path, option, value):
    done = subprocess.run(
        [tool("cmake"), "-S", REPOSITORY, "-B", tmp_path, f"-D{option}={value}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert f"{value} changes results" in done.stderr
