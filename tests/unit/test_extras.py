"""A package that is not installed is named with the extra that brings it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from l63fast import _extras

ROOT = Path(__file__).parents[2]
# Finds no package of these names, as if it were not installed.
WITHOUT = """
import importlib.machinery as machinery, sys
find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name in {names!r} else find(name, *rest)
)
import l63fast as l63
"""
TWIN = "twin = l63.TwinExperiment.generate(l63.TwinSettings('x', 2, 1, 1, 50))\n"


def said(code: str, *names: str) -> str:
    """Return the last line of what a program without these packages says."""
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=names) + code],
        capture_output=True,
        text=True,
    )
    return (run.stdout + run.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "extra", "code"),
    [
        ("torch", "learn", "l63.load_encoder('model')"),
        ("torch", "learn", "import l63fast.learning.encoders"),
        ("safetensors", "learn", "l63.load_encoder('model')"),
        ("xarray", "data", TWIN + "twin.test.to_xarray()"),
        ("pandas", "data", "l63.compare"),
        ("pydantic", "cli", "l63.Experiment.preset('quick')"),
        ("matplotlib", "plot", "l63.plotting.overview"),
        ("onnxruntime", "onnx", "import l63fast.learning.programs as p; p.Graph(b'')"),
        ("dask", "cluster", "l63.open_shards('shards')"),
    ],
)
def test_what_is_missing_is_named_with_the_command(
    name: str, extra: str, code: str
) -> None:
    assert said(code, name) == (
        f"l63fast.errors.MissingPackageError: {name} is not installed; it comes with: "
        f"pip install 'l63fast[{extra}]'"
    )


def test_the_command_line_says_it_in_one_line() -> None:
    missing = "is not installed; it comes with: pip install"
    command = "from l63fast.cli import main; sys.argv[1:] = ['train']; main()"
    assert said(command, "typer") == f"error: typer {missing} 'l63fast[cli]'"
    assert said(command, "torch") == f"error: torch {missing} 'l63fast[learn]'"


def test_what_others_import_fails_as_ever() -> None:
    code = "try: import torch\nexcept ImportError as error: print(repr(error))"
    assert said(code, "torch") == "ModuleNotFoundError(\"No module named 'torch'\")"


def test_the_core_needs_none_of_them() -> None:
    names = [name for names in _extras.EXTRAS.values() for name in names]
    code = """
scheme = l63.EnKF.for_twin(twin, B=4.0, n_members=10)
print(l63.run_cycles(scheme, twin).analysis.shape, l63.simulate([1.0, 2, 3], 5).shape)
"""
    assert said(TWIN + code, *names) == "(1, 5, 3) (6, 3)"


def test_extras_bring_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    called = {"PIL": "pillow", "mpl_toolkits": "matplotlib", "tomli_w": "tomli-w"}
    for extra, names in _extras.EXTRAS.items():
        brought = str(project["optional-dependencies"][extra])
        for name in names:
            given = called.get(name, name)
            assert re.search(rf"\b{given}\b", brought), (extra, name)
