"""What the command line says to mistakes: docs/messages.md is made from these.

Run it after a message has changed: `python tests/messages.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[1] / "docs" / "messages.md"
MISTAKES: Final = {
    "A flag or a command that does not exist": (
        "l63fast simulat",
        "l63fast simulate --n_trai 5",
        "l63fast train --model gur",
    ),
    "A value that makes no sense": (
        "l63fast simulate --n_traj 1",
        "l63fast simulate --n_traj 10 --train 5 --val 4",
        "l63fast simulate --sigma -1",
        "l63fast simulate --sigma 1e308",
        "l63fast simulate --seed 99999999999999999999",
        "l63fast simulate --dt 0.5",
        "l63fast simulate --obs_mode yx",
        "l63fast train --window 101",
        "l63fast experiment --operators zx",
    ),
    "A configuration file": (
        "l63fast train --config nowhere.toml",
        "l63fast train --config /dev/zero",
        "l63fast train --config unknown.toml",
        "l63fast train --config twice.toml",
        "l63fast train --config mistyped.toml",
    ),
    "A folder": (
        "l63fast train --save_dir /",
        "l63fast train --save_dir ..",
        "l63fast visualize",
        "l63fast visualize --result_dir nowhere",
        "l63fast evaluate --result_dir unknown.toml",
        "l63fast train --data /dev/zero",
        "l63fast simulate --data strangers",
    ),
}
_FILES: Final = {
    "unknown.toml": "[model]\nwidth = 3\n",
    "twice.toml": "[model]\nhidden = 3\nhidden = 4\n",
    "mistyped.toml": '[model]\nhidden = "many"\n',
    "strangers/thesis.tex": "",
}
_INTRODUCTION: Final = """# What the command line says to mistakes

Each block is a command and what it prints (frames and lines about the run are left
out); after a mistake of the command line it exits with 2, after any other with 1. Made
by `python tests/messages.py`; a test makes every mistake again and compares.
"""


@contextlib.contextmanager
def scene() -> Iterator[None]:
    """Make the files that the mistakes need, in a folder of their own."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in _FILES.items():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(text)
        try:
            yield
        finally:
            os.chdir(before)


def answer(command: str) -> str:
    """Return what one command says, without frames, and how it ended."""
    from l63fast.cli import main

    argv, showwarning = sys.argv, warnings.showwarning
    sys.argv = shlex.split(command)
    said, out, code = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(out):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv, warnings.showwarning = argv, showwarning
    lines = [line.strip("│|╭╰╮╯─+- ") for line in said.getvalue().splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Usage", "Try "))]
    text = " ".join(line for line in kept if line != "Error")
    text = text.replace(f"{Path.cwd()}/", "")
    return f"{text.removeprefix('Error ')}  (exit {code})"


def page() -> str:
    """Return docs/messages.md as it should be."""
    lines = [_INTRODUCTION]
    with scene():
        for title, commands in MISTAKES.items():
            lines += [f"## {title}", ""]
            for command in commands:
                lines += ["```", f"$ {command}", answer(command), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ["COLUMNS"] = "400"
    PAGE.write_text(page())
