"""A package that is not installed is named with the extra that brings it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from experiment_samples import tiny_cycled
from l63fast import _extras
from l63fast.twin import TwinExperiment, TwinSettings

ROOT = Path(__file__).parents[2]
EVERY = [name for names in _extras.EXTRAS.values() for name in names]
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
        timeout=60,
    )
    return (run.stdout + run.stderr).strip().splitlines()[-1]


def missing(name: str, extra: str, kind: str = "Package") -> str:
    return (
        f"l63fast.errors.Missing{kind}Error: {name} is not installed; it comes with: "
        f"pip install 'l63fast[{extra}]'"
    )


@pytest.mark.parametrize(
    ("name", "extra", "code"),
    [
        ("torch", "learn", "import l63fast.learning.encoders"),
        ("torch", "learn", "from l63fast import load_encoder"),
        ("xarray", "data", TWIN + "twin.test.to_xarray()"),
        ("pandas", "cli", "from l63fast import EnKF, compare"),
        ("pydantic", "cli", "l63.Experiment.preset('quick')"),
        ("onnxruntime", "onnx", "import l63fast.learning.programs as p; p.Graph(b'')"),
        ("dask", "cluster", "l63.open_shards('shards')"),
        ("torch", "learn", "l63.load_encoder"),
        ("torch", "learn", "l63.learning.train"),
        ("safetensors", "learn", "l63.load_encoder"),
        ("pandas", "cli", "l63.compare"),
        ("matplotlib", "plot", "l63.plotting"),
    ],
)
def test_what_is_missing_is_named_with_the_command(
    name: str, extra: str, code: str
) -> None:
    is_name = re.fullmatch(r"[\w.]+", code)
    assert said(code, name) == missing(name, extra, "Name" if is_name else "Package")
    if is_name:  # A name that needs what is missing is not there.
        owner, _, last = code.rpartition(".")
        assert said(f"print(hasattr({owner}, '{last}'))", name) == "False"


def test_star_gives_what_is_installed() -> None:
    code = "from l63fast import *; print({*l63._HOMES} - {*globals()})"
    assert said(code) == "set()"
    gone = said(code, *EVERY)
    assert all(name in gone for name in ("compare", "load_encoder", "torch_forecast"))
    assert not any(f"'{name}'" in gone for name in ("EnKF", "simulate", "open_shards"))


def test_good_files_are_not_called_damaged(tmp_path: Path) -> None:
    twin = TwinExperiment.generate(TwinSettings("x", 2, 1, 1, 50))
    twin.save(tmp_path / "twin")
    code = f"l63.TwinExperiment.load({str(tmp_path / 'twin')!r}).test.truth"
    assert said(code, "netCDF4") == missing("netCDF4", "data")
    tiny_cycled(methods={"oi": {"scheme": "oi"}}).run(tmp_path)
    code = f"l63.open_results({str(tmp_path / 'tiny')!r})"
    assert said(code, "pydantic") == missing("pydantic", "cli")


def test_threads_that_import_at_once_are_all_told() -> None:
    code = """
import threading
def ask(name):
    try: getattr(l63, name)
    except AttributeError: told.append(name)
told, names = [], ("report", "compare", "EnKF", "TwinExperiment", "load_encoder")
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(told))
"""
    assert said(code, *EVERY) == "['compare', 'load_encoder', 'report']"


def test_the_command_line_says_it_in_one_line() -> None:
    why = "is not installed; it comes with: pip install"
    command = "from l63fast.cli import main; sys.argv[1:] = ['train']; main()"
    assert said(command, "typer") == f"error: typer {why} 'l63fast[cli]'"
    assert said(command, "torch") == f"error: torch {why} 'l63fast[learn]'"


def test_what_others_import_fails_as_ever() -> None:
    code = "try: import torch\nexcept ImportError as error: print(repr(error))"
    assert said(code, "torch") == "ModuleNotFoundError(\"No module named 'torch'\")"


def test_the_core_needs_none_of_them() -> None:
    code = """
scheme = l63.EnKF.for_twin(twin, B=4.0, n_members=10)
print(l63.run_cycles(scheme, twin).analysis.shape, l63.simulate([1.0, 2, 3], 5).shape)
"""
    assert said(TWIN + code, *EVERY) == "(1, 5, 3) (6, 3)"


def test_extras_bring_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    called = {"PIL": "pillow", "mpl_toolkits": "matplotlib", "tomli_w": "tomli-w"}
    for extra, names in _extras.EXTRAS.items():
        brought = str(project["optional-dependencies"][extra])
        for name in names:
            given = called.get(name, name)
            assert re.search(rf"\b{given}\b", brought), (extra, name)
