"""The lazy public face: every promised name is there; importing costs NumPy only."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import metadata
from types import ModuleType

import pytest

import l63fast
from l63fast import learning


@pytest.mark.parametrize("name", l63fast._HOMES)
def test_every_public_name_is_the_object_of_its_home(name: str) -> None:
    value = getattr(l63fast, name)
    home = sys.modules[f"l63fast.{l63fast._HOMES[name]}"]
    assert value is getattr(home, name)
    assert name in dir(l63fast)


@pytest.mark.parametrize("name", learning._HOMES)
def test_every_public_name_of_learning_is_the_object_of_its_home(name: str) -> None:
    value = getattr(l63fast.learning, name)
    home = sys.modules[f"l63fast.learning.{learning._HOMES[name]}"]
    assert value is getattr(home, name)
    assert name in dir(learning)


@pytest.mark.parametrize("package", [l63fast, learning], ids=lambda p: p.__name__)
def test_type_checkers_see_every_public_name_exported(package: ModuleType) -> None:
    seen = {
        (name.name, name.asname): node.module
        for node in ast.walk(ast.parse(inspect.getsource(package)))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname is not None
    }
    expected = {
        (name, name): f"{package.__name__}.{home}"
        for name, home in package._HOMES.items()
    }
    for name in getattr(package, "_SUBPACKAGES", ()):
        expected[name, name] = package.__name__
    assert seen == expected
    # A list that is not literal hides them all from mypy.
    assert "\n__all__ =" not in inspect.getsource(package)
    assert {*package._HOMES} <= {*package.__all__}


def test_an_unknown_name_of_learning_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="learning' has no attribute 'trian'"):
        learning.trian  # noqa: B018


def test_packages_are_there_without_an_import_of_their_own() -> None:
    code = (
        "import sys, l63fast\n"
        "l63fast.learning, l63fast.verification, dir(l63fast.learning)\n"
        "assert 'torch' not in sys.modules\n"
        "assert l63fast.verification.rmse\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version_is_that_of_the_distribution() -> None:
    assert l63fast.__version__ == metadata.version("l63fast")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'simulat'"):
        l63fast.simulat  # noqa: B018


def test_import_costs_numpy_only() -> None:
    code = (
        "import sys, l63fast, l63fast.errors\n"
        "heavy = ['torch', 'numba', 'scipy', 'matplotlib', 'xarray', 'pydantic',\n"
        "         'typer', 'rich', 'netCDF4', 'safetensors']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
