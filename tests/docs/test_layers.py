"""Imports run downward only, and each heavy library is imported in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[2]

# From the bottom up. A module sees the layers below its own and its own package;
# packages of one layer do not see each other.
LAYERS: Final = (
    ("errors",),
    ("_arithmetic", "_extras"),
    ("_checks", "_progress", "_random", "_summary", "_timing", "_user_code"),
    ("_core",),
    ("_kernels",),
    ("storage", "lorenz63", "observation"),
    ("twin", "verification"),
    ("assimilation",),
    ("learning", "plotting"),
    ("experiments",),
    ("cli",),
    ("src", "__main__"),
)
HEIGHT: Final = {name: i for i, names in enumerate(LAYERS) for name in names}

# What may be imported in one place only: by modules whose dotted name starts so.
ONLY_HERE: Final = {
    "torch": "l63fast.learning",
    "matplotlib": "l63fast.plotting",
    "mpl_toolkits": "l63fast.plotting",
    "numba": "l63fast._kernels.numba_kernels",
    "llvmlite": "l63fast._kernels.numba_kernels",
    "l63fast._core": "l63fast._kernels.cpp",
    "dask": "l63fast.experiments.cluster",
    "distributed": "l63fast.experiments.cluster",
    "tornado": "l63fast.experiments.cluster",
    "typer": "l63fast.cli",
}


def sources(repository: Path) -> dict[str, str]:
    """Return the text of every module of the package and of src, by path."""
    paths = sorted(repository.glob("python/**/*.py"))
    paths += sorted(repository.glob("src/*.py"))
    return {
        str(path.relative_to(repository)): path.read_text(encoding="utf-8")
        for path in paths
    }


def dotted(path: str) -> str:
    """Return the name by which the module in this file is imported."""
    return ".".join(Path(path).parts).removeprefix("python.").removesuffix(".py")


@cache
def imports(path: str, text: str) -> tuple[tuple[int, str, bool], ...]:
    """Return line, dotted name of what is imported, and whether the name is certain.

    `from a import b` may mean the module a.b or a name in a: it is given as a.b, and
    is uncertain.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, True) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = dotted(path).split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{base}.{a.name}", False) for a in node.names]
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            name = getattr(node.args[0], "value", None)
            if called in ("import_module", "__import__") and isinstance(name, str):
                found.append((node.lineno, name, True))
    return tuple(found)


def room(module: str) -> str:
    """Return which room of the house a module is in: its first name below the root."""
    first, _, rest = module.partition(".")
    return "src" if first == "src" else rest.split(".")[0]


def misplaced(module: str, target: str) -> Iterator[str]:
    """Yield each library that `target` belongs to and `module` may not import."""
    for library, place in ONLY_HERE.items():
        if is_within(target, library) and not is_within(module, place):
            yield f"{library} outside {place}"


def is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def upward(module: str, target: str) -> Iterator[str]:
    """Yield what is wrong with `module` importing `target`, by the layers."""
    here, there = room(module), room(target)
    if here not in HEIGHT or there not in HEIGHT:
        yield f"{module} or {target} is in no layer"
    elif here != there and HEIGHT[there] >= HEIGHT[here]:
        yield f"{here} sees {there}"


def violations(files: dict[str, str]) -> list[str]:
    """Return every import that the house forbids, as `file:line: what`."""
    names = {dotted(path).removesuffix(".__init__") for path in files}
    names.add("l63fast._core")
    found = []
    for path, text in files.items():
        module = dotted(path)
        for line, target, certain in imports(path, text):
            complaints = list(misplaced(module, target))
            is_root = target.count(".") == (0 if certain else 1)
            if is_within(target, "l63fast") and module != "l63fast.__init__":
                if is_root and (certain or target not in names):
                    complaints.append("imports the package root")
                else:
                    complaints += upward(module, target)
            found += [f"{path}:{line}: {complaint}" for complaint in complaints]
    return found


def test_every_import_runs_downward_and_heavy_libraries_stay_in_their_rooms():
    assert violations(sources(REPOSITORY)) == []


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("_checks.py", "from l63fast.lorenz63 import forecast", "sees lorenz63"),
        ("lorenz63.py", "from l63fast.observation import observe", "sees observation"),
        ("_random.py", "from l63fast import _checks", "_random sees _checks"),
        ("assimilation/scheme.py", "from ..learning import data", "sees learning"),
        ("observation.py", "import l63fast", "package root"),
        ("observation.py", "from l63fast import simulate", "package root"),
        ("twin/splits.py", "import torch.nn", "torch outside l63fast.learning"),
        ("twin/splits.py", "from torch import nn", "torch outside l63fast.learning"),
        ("cli/__init__.py", "import matplotlib", "matplotlib outside"),
        ("_kernels/__init__.py", "import numba", "numba outside"),
        ("lorenz63.py", "from l63fast import _core", "l63fast._core outside"),
        ("lorenz63.py", 'importlib.import_module("dask")', "dask outside"),
        ("experiments/runner.py", "import distributed", "distributed outside"),
        ("src/simulator.py", "from l63fast import nothing", "package root"),
        ("strange.py", "from l63fast import errors", "in no layer"),
    ],
)
def test_a_planted_violation_is_found(file, line, complaint):
    files = sources(REPOSITORY)
    path = file if file.startswith("src/") else f"python/l63fast/{file}"
    files[path] = f"{files.get(path, '')}\n\ndef _planted():\n    {line}\n"
    found = violations(files)
    assert [one for one in found if path in one and complaint in one]
    assert len(found) == 1


@cache
def seen_imports(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return which names a module imports from which, not for type checkers alone."""
    tree = ast.parse(text)
    unseen = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    return tuple(
        (node.module, tuple(alias.name for alias in node.names))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module
        and not node.level
        and id(node) not in unseen
    )


def circles(files: dict[str, str]) -> list[list[str]]:
    """Return the modules that import each other in a circle, in functions or not.

    What is imported for type checkers alone runs never and does not count.
    """
    names = {dotted(path).removesuffix(".__init__") for path in files}
    graph: dict[str, set[str]] = {}
    for path, text in files.items():
        found: set[str] = set()
        for base, imported in seen_imports(text):
            whole = {f"{base}.{name}" for name in imported}
            found |= {name if name in names else base for name in whole}
        module = dotted(path).removesuffix(".__init__")
        graph[module] = (found & names) - {module}
    while graph:
        free = [name for name, targets in graph.items() if not targets & set(graph)]
        if not free:
            return _in_circles(graph)
        for name in free:
            del graph[name]
    return []


def _in_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return one circle of a graph in which every module imports another of it."""
    path = [next(iter(graph))]
    while path[-1] not in path[:-1]:
        path.append(min(graph[path[-1]] & set(graph)))
    return [path[path.index(path[-1]) :]]


def test_no_modules_import_each_other():
    assert circles(sources(REPOSITORY)) == []


@pytest.mark.parametrize(
    "line", ["{}", "def f():\n    {}", "class A:\n    def f(self):\n        {}"]
)
def test_a_planted_circle_is_found(line):
    files = sources(REPOSITORY)
    path = "python/l63fast/experiments/settings.py"
    planted = line.format("from l63fast.experiments.runner import run_cells")
    files[path] += f"\n\n{planted}\n"
    [found] = circles(files)
    assert {"l63fast.experiments.settings", "l63fast.experiments.runner"} <= set(found)


def test_no_two_files_of_the_experiments_have_one_name():
    folder = REPOSITORY / "python" / "l63fast" / "experiments"
    names = [p.name for p in folder.rglob("*.py") if p.name != "__init__.py"]
    assert sorted(set(names)) == sorted(names)
