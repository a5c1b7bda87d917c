"""What the command line says to mistakes: docs/messages.md is made from these.

Run it after a message has changed: `python tests/helpers/messages.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rewritten_results import of_version_0_1_0

PAGE: Final = Path(__file__).parents[2] / "docs" / "messages.md"
MISTAKES: Final = {
    "A flag or a command that does not exist": (
        "l63fast simulat",
        "l63fast simulate --n_trai 5",
        "l63fast simulate --n_traj",
        "l63fast simulate --quiet=yes",
        "l63fast simulate xy",
        "l63fast train --model gur",
        "l63fast benchmark speed",
    ),
    "A value that makes no sense": (
        "l63fast simulate --n_traj 1",
        "l63fast simulate --n_traj ten",
        "l63fast simulate --n_traj=2.5",
        "l63fast simulate --n_traj 10 --train 5 --val 4",
        "l63fast simulate --sigma -1",
        "l63fast simulate --sigma nan",
        "l63fast simulate --sigma 1e308",
        "l63fast simulate --seed 99999999999999999999",
        "l63fast simulate --dt 0.5",
        "l63fast simulate --obs_mode yx",
        "l63fast train --window 101",
        "l63fast train --n_steps 20",
        "l63fast train --epochs x",
        "l63fast train --model nets:Net --quiet",
        "l63fast experiment grids",
        "l63fast experiment --operators zx",
        "l63fast experiment --methods gur",
        "l63fast experiment --methods mlp gru",
        "l63fast experiment seed --sigmas 0.5 1",
        "l63fast experiment --sigmas 0.5,x",
        "l63fast experiment --regimes mean",
        "l63fast experiment --only nothing*",
        "l63fast experiment --name ../x",
        "l63fast experiment --name ''",
        "l63fast experiment sakov2012 --n_cycles 0",
        "l63fast experiment sakov2012 --tune_only --methods oi",
        "l63fast export",
        "l63fast report",
    ),
    "Options that do not go together": (
        "l63fast simulate --resume",
        "l63fast simulate --shards 4 --train 5",
        "l63fast simulate --shards 7 --n_traj 3",
        "l63fast train --recipe cycled-gru --window 5",
        "l63fast train --recipe cycled-gru --loss var3d_window",
        "l63fast experiment quick --n_cycles 100",
        "l63fast experiment sakov2012 --window 5",
        "l63fast experiment sakov2012 --windows 5,10",
        "l63fast experiment sakov2012 --n_steps 1000",
        "l63fast experiment grid --epochs 3",
        "l63fast experiment grid --sigma 1 --sigmas 1,2",
        "l63fast experiment encoders --seeds 0,1 --training_seeds 0,1",
        "l63fast experiment seed-published --loss mse",
        "l63fast benchmark --result_dir results/gru_xy",
    ),
    "Where it runs": (
        "l63fast experiment --workers 0",
        "l63fast experiment --scheduler node7",
        "l63fast experiment --scheduler tcp://192.0.2.7:8786",
        "l63fast experiment --scheduler tls://192.0.2.7:8786",
    ),
    "A configuration file": (
        "l63fast train --config nowhere.toml",
        "l63fast train --config /dev/zero",
        "l63fast train --config unknown.toml",
        "l63fast train --config twice.toml",
        "l63fast train --config mistyped.toml",
        "l63fast train --config nan.toml",
        "l63fast train --config strangers",
        "l63fast train --config enkf.toml",
        "l63fast experiment --config unknown.toml",
        "l63fast experiment --config both.toml",
        "l63fast experiment --config cycles.toml",
        "l63fast experiment --config outside.toml",
        "l63fast experiment --config measure.toml",
        "l63fast experiment --config scheme.toml",
        "l63fast experiment --config varied.toml",
    ),
    "A folder": (
        "l63fast train --save_dir /",
        "l63fast train --save_dir ..",
        "l63fast train --save_dir ~",
        "l63fast train --save_dir ''",
        "l63fast visualize",
        "l63fast visualize --result_dir nowhere",
        "l63fast evaluate --result_dir unknown.toml",
        "l63fast train --data /dev/zero",
        "l63fast simulate --data strangers",
        "l63fast evaluate --result_dir strangers",
        "l63fast export nowhere",
        "l63fast export data",
        "l63fast export data --formats pickle",
        "l63fast report data",
        "l63fast report strangers",
        "l63fast evaluate --result_dir data",
        "l63fast train --data data --sigma 2",
        "l63fast train --data data --window 10",
        "l63fast train --data changed --window 2",
        "l63fast benchmark encoders --result_dir data",
        "l63fast benchmark encoders --analyse nowhere",
        "l63fast evaluate --result_dir results/small/oi",
        "l63fast visualize --result_dir results/small/oi",
        "l63fast evaluate --result_dir old",
        "l63fast report results",
        "l63fast report results/small/oi",
        "l63fast experiment --config small.toml --sigma 2",
    ),
}
_FILES: Final = {
    "unknown.toml": "[method]\nwidth = 3\n",
    "twice.toml": "[method]\nhidden = 3\nhidden = 4\n",
    "mistyped.toml": '[method]\nhidden = "many"\n',
    "nan.toml": "[data]\nsigma = nan\n",
    "enkf.toml": '[method]\nscheme = "enkf"\n',
    "both.toml": '[windows]\n[cycles]\n[methods.oi]\nscheme = "oi"\n',
    "cycles.toml": "[cycles]\nn_cycles = 100\n",
    "outside.toml": "data = 3\n",
    "measure.toml": '[experiment]\nmeasure = "rms"\n',
    "scheme.toml": '[cycles]\n[methods.kalman]\nscheme = "kalman"\n',
    "varied.toml": "[vary]\nsigma = [0.5, 1.0]\n[data]\nsigma = 1.0\n",
    "small.toml": '[cycles]\nn_cycles = 5\nburn_in = 0.0\n[methods.oi]\nscheme = "oi"\n'
    "[data]\nn_train = 2\nn_val = 1\nn_test = 2\n",
    "strangers/thesis.tex": "",
}
_DATA: Final = "l63fast simulate --train 3 --val 2 --test 2 --n_steps 40 --data"
_EXPERIMENT: Final = "l63fast experiment --config small.toml --workers 1 --no_report"
_INTRODUCTION: Final = """# What the command line says to mistakes

Each block is a command and what it prints to standard error; after a mistake of the
command line it exits with 2, after any other with 1. Made by `python
tests/helpers/messages.py`; a test makes every mistake again and compares.
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
        made = [f"{_DATA} data", f"{_DATA} changed", _EXPERIMENT]
        for command in made:
            said = answer(command)
            assert said.endswith("(exit 0)"), said
        with open("changed/train.nc", "r+b") as file:
            file.write(b"x")
        shutil.copytree("results/small/oi", "old")
        of_version_0_1_0(Path("old"))
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
    text = said.getvalue().strip().replace(f"{Path.cwd()}/", "")
    text = re.sub(r"\b[0-9a-f]{64}\b", "...", text)  # the libraries' versions change it
    return f"{text}  (exit {code})"


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
