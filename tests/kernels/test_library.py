"""The C++ core as a library of its own: installed, found, used without Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from builds import REPOSITORY, built, configured, configured_extension, output, tool
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import forecast

# What a consumer might build with: none of it may reach the kernels' bits.
HOSTILE = "-Ofast -ffp-contract=fast"


@pytest.fixture(
    scope="module", params=["fast", pytest.param("shipped", marks=pytest.mark.slow)]
)
def prefix(
    request: pytest.FixtureRequest,
    core_prefix: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return where the core is installed, compiled fast or as it is shipped."""
    if request.param == "fast":
        return core_prefix
    folder = tmp_path_factory.mktemp("prefix")
    shipped = request.getfixturevalue("shipped_core")
    output(tool("cmake"), "--install", shipped, "--prefix", folder)
    return folder


def expected_lines() -> list[str]:
    """Return what cpp/example/ensemble.cpp prints, made in Python."""
    i = np.arange(20)
    start = np.stack([i - 9.5, i - 8.5, i + 20.0], axis=-1)
    truth = forecast(start, 500)
    analysis = three_d_var(
        truth + 0.5,
        truth[:, :1] * truth[:, :1],
        "x2",
        B=np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]),
        R=np.array([[0.25]]),
        max_iter=20,
    )
    endings = np.stack([analysis.status, analysis.n_iter], axis=-1)
    return [
        " ".join([*map(float.hex, state), *map(str, ending)])
        for state, ending in zip(analysis.state.tolist(), endings.tolist(), strict=True)
    ]


@pytest.mark.parametrize("flags", ["", HOSTILE], ids=["plain", "hostile flags"])
def test_a_stranger_finds_it_and_gets_the_bits_of_python(
    prefix: Path, tmp_path: Path, flags: str
) -> None:
    example = built(
        configured(
            tmp_path,
            REPOSITORY / "cpp" / "example",
            CMAKE_PREFIX_PATH=str(prefix),
            CMAKE_CXX_FLAGS=flags,
        )
    )
    printed = output(example / "ensemble").splitlines()
    values = [
        " ".join(float.fromhex(v).hex() if "0x" in v else v for v in line.split())
        for line in printed
    ]
    assert values == expected_lines()


def test_only_the_header_that_declares_is_installed(prefix: Path) -> None:
    headers = [path.relative_to(prefix) for path in prefix.rglob("*.hpp")]
    assert headers == [Path("include/l63fast/kernels.hpp")]
    assert not list(prefix.rglob("*_core*.so"))


@pytest.mark.parametrize(("wanted", "found"), [("0.2", True), ("1.0", False)])
def test_the_package_knows_its_version(
    prefix: Path, tmp_path: Path, wanted: str, found: bool
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(stranger LANGUAGES CXX)\n"
        f"find_package(l63fast {wanted} REQUIRED)\n"
    )
    command = [tool("cmake"), "-S", tmp_path, "-B", tmp_path / "build"]
    command.append(f"-DCMAKE_PREFIX_PATH={prefix}")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == found, done.stderr


def test_pip_installs_the_extension_and_nothing_of_the_library(tmp_path: Path) -> None:
    rules = (configured_extension(tmp_path) / "cmake_install.cmake").read_text()
    assert "_core." in rules
    for stranger in ("kernels.hpp", "libl63fast", "l63fastConfig"):
        assert stranger not in rules
