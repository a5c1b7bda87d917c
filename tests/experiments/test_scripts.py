"""The three scripts of src/: their documented commands, run as a newcomer would."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cli_runs import run_in
from experiment_samples import FLAGS, SIZES, weights_only
from l63fast.storage import verify_directory

SRC = Path(__file__).resolve().parents[2] / "src"
SCRIPTS = ("simulator.py", "trainer.py", "visualize.py")


def documented(name: str) -> list[str]:
    """Return the command line in a script's docstring, without the interpreter."""
    doc = ast.get_docstring(ast.parse((SRC / name).read_text())) or ""
    line = next(line for line in doc.splitlines() if line.startswith("python src/"))
    return shlex.split(line)[1:]


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    words = [sys.executable, str(SRC / script), *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_a_docstring_and_a_guarded_call(name: str) -> None:
    body = ast.parse((SRC / name).read_text()).body
    kinds = [type(node) for node in body]
    assert kinds == [ast.Expr, ast.ImportFrom, ast.If]
    assert isinstance(body[2], ast.If)
    assert ast.unparse(body[2].test) == "__name__ == '__main__'"
    assert documented(name)[0] == f"src/{name}"


def test_the_three_commands_in_their_order(tmp_path: Path) -> None:
    simulator, trainer, visualize = (documented(name) for name in SCRIPTS)
    # The documented sizes would take minutes; these are a test's.
    small = [word for word in simulator[1:] if word not in ("1500", "1000", "500")]
    assert small == ["--n_traj", "--train", "--val", "--obs_mode", "xy"]
    done = run("simulator.py", "--n_traj", 18, *SIZES, "--obs_mode", "xy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert verify_directory(tmp_path / "data" / "xy").kind == "twin"
    assert "12 training + 6 validation + 6 test trajectories of 60 steps" in done.stdout

    # The others run in this process, which has imported torch already.
    with weights_only():
        here = run_in(tmp_path, *trainer[1:], *FLAGS, script=SRC / "trainer.py")
    assert (here.code, here.err) == (0, "")
    assert "data/xy (found)" in here.out
    assert "epoch   2/2" in here.out
    assert " tuned 3D-Var: " in here.out
    assert "written to results/gru_xy" in here.out

    here = run_in(tmp_path, *visualize[1:], script=SRC / "visualize.py")
    assert here.code == 0, here.err
    written = [tmp_path / line for line in here.out.splitlines()]
    assert written
    assert all(path.is_file() for path in written)
    assert {"data", "results"} == set(os.listdir(tmp_path))


def test_a_mistake_names_the_script(tmp_path: Path) -> None:
    done = run("trainer.py", "--modle", "gru", cwd=tmp_path)
    assert done.returncode == 2
    assert "trainer.py" in done.stderr
    assert "--model" in done.stderr
