"""Runs the command line inside the test process and keeps what it printed."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path

import pytest

from l63fast.cli import main


@dataclass(frozen=True)
class Run:
    """Exit code, standard output and standard error of one command."""

    code: int
    out: str
    err: str


Command = Callable[..., Run]


def make_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a function that runs `l63fast` with arguments."""

    def run(*arguments: object, script: str | None = None) -> Run:
        words = ["l63fast", *(str(argument) for argument in arguments)]
        monkeypatch.setattr("sys.argv", words)
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        monkeypatch.setenv("COLUMNS", "100")
        capsys.readouterr()
        code: object = 0
        try:
            main(script)
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return Run(int(code or 0), out, err)  # type: ignore[call-overload]

    return run


def run_in(folder: Path, *arguments: object, script: Path | None = None) -> Run:
    """Run `l63fast`, or a script, in a folder and in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.setattr("sys.argv", [str(script or "l63fast"), *map(str, arguments)])
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        patch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as ended:
            main() if script is None else run_path(str(script), run_name="__main__")
    return Run(int(ended.value.code or 0), out.getvalue(), err.getvalue())
