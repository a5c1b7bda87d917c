"""The page on encoders outside Python: its commands and code, in their order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch

from builds import REPOSITORY, SEARCHED, configured, tool
from encoder_programs import Programs
from l63fast.learning.encoders import build_encoder
from l63fast.learning.export import save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings
from l63fast.storage import result_directory
from l63fast.twin import TwinExperiment, TwinSettings

TEXT = (REPOSITORY / "docs" / "howto" / "torchscript.md").read_text("utf-8")
BLOCKS = re.findall(r"```(bash|python|cmake|cpp)\n(.*?)```", TEXT, re.DOTALL)
DATA, RESULT = Path("data/cycled_xyz_s1.414_i25"), Path("results/gru")


def as_one_script(skipped: tuple[str, ...] = ()) -> str:
    """Return the page's commands as a script, its Python as one process at a time."""
    lines, python = ["set -eu"], ""
    for language, text in BLOCKS:
        if language == "bash":
            lines += [row for row in text.splitlines() if not row.startswith(skipped)]
        elif language == "python":
            python += text + "\n"  # later blocks use what earlier ones made
            lines += ["python - <<'END'", python, "END"]
    return "\n".join(lines)


def run(script: str, folder: Path) -> str:
    """Run a script in a folder, with this Python as `python`; return what it printed."""
    (folder / "bin").mkdir()
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(sys.executable)
    scripts = os.pathsep.join([str(folder / "bin"), sysconfig.get_path("scripts")])
    home = {"HOME": str(folder), "PATH": f"{scripts}{os.pathsep}{SEARCHED}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, **home},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(printed: str, *, within: float) -> None:
    here, there = map(
        float, re.findall(r"rmse\.a ([\d.]+) in.* ([\d.]+) in", printed)[0]
    )
    assert abs(here - there) < within
    assert "analyses in" in printed


def test_the_page_does_what_it_says(programs: Programs, tmp_path: Path) -> None:
    settings = EncoderSettings("gru", "xyz", 1, 16, 1, "carried")
    encoder = build_encoder(settings, Normaliser.identity("xyz"))
    twin = TwinExperiment.generate(
        TwinSettings(
            "xyz",
            **{"n_train": 5, "n_val": 1, "n_test": 4, "n_steps": 1750},
            sigma=float(np.sqrt(2.0)),
            steps_per_cycle=25,
            save_every=25,
            spin_up_time=2.0,
        )
    )
    twin.save(tmp_path / DATA)
    with result_directory(tmp_path / RESULT, kind="cell") as folder:
        save_model(encoder, folder, {}, formats=("safetensors",))
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "encoder").symlink_to(programs.folder)
    # Training and building cost too much here; the slow test below does not skip them.
    printed = run(as_one_script(("l63fast train", "cmake")), tmp_path)
    check(printed, within=2e-4)


@pytest.mark.slow
def test_a_stranger_gets_there_from_a_checkout(tmp_path: Path) -> None:
    for name in ("cmake", "c++"):
        tool(name)
    for name in ("cpp", "cmake"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / "CMakeLists.txt", tmp_path)
    check(run(as_one_script(), tmp_path), within=2e-4)


def test_an_own_project_finds_the_encoder(
    core_prefix: Path, programs: Programs, tmp_path: Path
) -> None:
    [cmake] = [text for language, text in BLOCKS if language == "cmake"]
    (tmp_path / "l63fast").symlink_to(REPOSITORY)
    (tmp_path / "mine.cpp").write_text("int main() {}\n")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(mine LANGUAGES CXX)\n"
        f"add_executable(mine mine.cpp)\n{cmake}"
    )
    prefixes = f"{core_prefix};{torch.utils.cmake_prefix_path}"
    configured(
        tmp_path / "build",
        tmp_path,
        CMAKE_PREFIX_PATH=prefixes,
        L63FAST_PROGRAMS="OFF",
    )


def test_the_lines_of_c_plus_plus_compile(programs: Programs, tmp_path: Path) -> None:
    [text] = [text for language, text in BLOCKS if language == "cpp"]
    include, _, body = text.partition("\n\n")
    mine = tmp_path / "mine.cpp"
    mine.write_text(
        f"{include}\nvoid mine(const std::string& hash, std::size_t n,\n"
        "std::span<const double> background, std::span<const double> obs_window,\n"
        f"std::span<double> analysis) {{\n{body}}}\n"
    )
    headers = REPOSITORY / "cpp" / "torchscript" / "include"
    command = [tool("c++"), "-std=c++20", "-fsyntax-only", f"-I{headers}", str(mine)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
