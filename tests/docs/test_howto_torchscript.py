"""The page on encoders outside Python: its commands and code, in their order."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builds import REPOSITORY, SEARCHED, built, configured, output, tool
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


def follow(
    folder: Path, monkeypatch: pytest.MonkeyPatch, skipped: tuple[str, ...] = ()
) -> str:
    """Do what the page says in a folder, block by block; return what was printed."""
    monkeypatch.chdir(folder)
    environment = {**os.environ, "HOME": str(folder), "PATH": SEARCHED}
    printed, assignments, names = "", "set -eu\n", dict[str, Any]()
    for language, text in BLOCKS:
        if language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(text, names)
            printed += out.getvalue()
        elif language == "bash":
            rows = [row for row in text.splitlines() if not row.startswith(skipped)]
            script = assignments + "\n".join(rows)
            printed += output(tool("bash"), "-c", script, **environment)
            assignments += "".join(f"{r}\n" for r in rows if re.match(r"\w+=", r))
    return printed


def check(printed: str, *, within: float) -> None:
    here, there = map(
        float, re.findall(r"rmse\.a ([\d.]+) in.* ([\d.]+) in", printed)[0]
    )
    assert abs(here - there) < within
    assert "analyses in" in printed


def test_the_page_does_what_it_says(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    # These cost too much here; the slow test below skips none of them.
    skipped = ("l63fast train", "l63fast benchmark", "cmake", "torch=")
    printed = follow(tmp_path, monkeypatch, skipped)
    check(printed, within=2e-4)


@pytest.mark.slow
def test_a_stranger_gets_there_from_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cmake", "c++"):
        tool(name)
    for name in ("cpp", "cmake"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / "CMakeLists.txt", tmp_path)
    check(follow(tmp_path, monkeypatch), within=2e-4)


def own_program() -> str:
    """Return a program around the page's lines of C++."""
    [text] = [text for language, text in BLOCKS if language == "cpp"]
    include, _, body = text.partition("\n\n")
    return (
        f"{include}\nvoid mine(const std::string& hash, std::size_t n,\n"
        "std::span<const double> background, std::span<const double> obs_window,\n"
        f"std::span<double> analysis) {{\n{body}}}\nint main() {{}}\n"
    )


def test_the_lines_of_c_plus_plus_compile(tmp_path: Path) -> None:
    (tmp_path / "mine.cpp").write_text(own_program())
    headers = REPOSITORY / "cpp" / "torchscript" / "include"
    how = ("-std=c++20", "-fsyntax-only", "-Wall", "-Werror", f"-I{headers}")
    output(tool("c++"), *how, tmp_path / "mine.cpp")


@pytest.mark.slow
def test_an_own_project_builds(core_prefix: Path, tmp_path: Path) -> None:
    [cmake] = [text for language, text in BLOCKS if language == "cmake"]
    (tmp_path / "l63fast").symlink_to(REPOSITORY)
    (tmp_path / "mine.cpp").write_text(own_program())
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(mine LANGUAGES CXX)\n"
        f"add_executable(mine mine.cpp)\n{cmake}"
    )
    prefixes = f"{core_prefix};{torch.utils.cmake_prefix_path}"
    folder = configured(tmp_path / "build", tmp_path, CMAKE_PREFIX_PATH=prefixes)
    output(built(folder) / "mine")
