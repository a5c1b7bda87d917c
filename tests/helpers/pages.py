"""Reads pages of the documentation: their blocks, commands and what code prints."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

from cli_runs import Command, Run

DOCS = Path(__file__).resolve().parents[2] / "docs"


def page(name: str) -> str:
    """Return the text of a page, such as "howto/matrix"."""
    return (DOCS / f"{name}.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def printed_by(code: str, names: dict[str, Any] | None = None) -> str:
    """Return what a block prints; what it defines is left in `names`."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {} if names is None else names)
    return printed.getvalue()


def understood(text: str, l63fast: Command) -> list[Run]:
    """Return the runs of every command of a page, as they stand but for `--dry_run`.

    One that ends with `--print_config > FILE` writes its file.
    """
    runs = []
    for line in (line for block in blocks(text, "bash") for line in block.splitlines()):
        words = shlex.split(line, comments=True)
        to_file = words.index(">") if ">" in words else len(words)
        asked = () if "--print_config" in words else ("--dry_run",)
        run = l63fast(*words[1:to_file], *asked)
        assert run.code == 0, (line, run.err)
        if to_file < len(words):
            Path(words[to_file + 1]).write_text(run.out)
        runs.append(run)
    return runs
