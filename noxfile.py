#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.5"]
# ///
"""Tasks, each in an environment of its own: `nox --list`, then `nox -s core`.

`.ci/run` is the gate, and needs no nox. The other tasks prove what installs elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "venv"
PROJECT = nox.project.load_toml("pyproject.toml")["project"]
TESTS = ("python", "-m", "pytest", "-n", "2", "--dist", "loadfile")
# Tests that use a package of an extra, beside the kernels or the scheme they are about.
NEED_EXTRAS = (
    *("agreement", "checks_arrays", "distributions", "ensembles", "extras", "gaps"),
    *("inputs", "joint", "learning", "observation", "own_data", "pickling", "plotting"),
    *("program_files", "progress", "smoothing", "storage", "taylor", "to_xarray"),
    *("torchscript", "twin"),
)


@nox.session(default=True)
def ci(session: nox.Session) -> None:
    """Run the gate: linters, tests and documentation as the README gives them."""
    session.run("bash", ".ci/run", external=True)


@nox.session(default=False)
def core(session: nox.Session) -> None:
    """Build a wheel from the sdist and test the core without any extra."""
    session.install("build", "auditwheel", "twine")
    out = Path(session.create_tmp())
    for old in out.glob("l63fast*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(out))
    wheel, sdist = (str(next(out.glob(f"*.{end}"))) for end in ("whl", "tar.gz"))
    session.run("twine", "check", "--strict", wheel, sdist)
    session.run("auditwheel", "show", wheel)
    session.run("pip", "uninstall", "--yes", "--quiet", "twine", "rich")
    session.install(wheel, "pytest", "pytest-xdist", "hypothesis", "mpmath", "psutil")
    ignored = [f"--ignore-glob=*{name}*" for name in NEED_EXTRAS]
    session.run(*TESTS, "tests/unit", "tests/kernels", *ignored)


@nox.session(default=False)
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest version that is promised of each dependency.

    Except torch, whose older builds for the processor alone are not on PyPI; and
    without the pages, which print what the newest versions give, to the last digit.
    """
    extras = PROJECT["optional-dependencies"]
    promised = [*PROJECT["dependencies"]]
    for extra in ("data", "plot", "cli", "cluster", "onnx", "learn"):
        promised += extras[extra]
    floors = [
        re.sub(r">=([\d.]+).*", r"==\1", one)
        for one in promised
        if not one.startswith(("l63fast", "torch"))
    ]
    session.install("-c", "constraints.txt", ".[test]", *floors, *session.posargs)
    session.run(*TESTS, "--ignore=tests/docs")


@nox.session(default=False)
def newest(session: nox.Session) -> None:
    """Run the tests with the newest version of each dependency, and of torch."""
    session.install(".[test]")
    names = [re.match(r"[\w-]+", one)[0] for one in PROJECT["dependencies"]]
    for extra in ("data", "plot", "cli", "cluster", "onnx", "learn"):
        listed = PROJECT["optional-dependencies"][extra]
        names += [re.match(r"[\w-]+", one)[0] for one in listed]
    session.install("--upgrade", *sorted({*names} - {"l63fast"}))
    session.run(*TESTS)


@nox.session(default=False)
def wheels(session: nox.Session) -> None:
    """Build wheels for all supported Pythons, as they are published, with Docker."""
    session.install("cibuildwheel>=3")
    session.run("cibuildwheel", "--output-dir", "dist")


if __name__ == "__main__":
    nox.main()
