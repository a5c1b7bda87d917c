"""Minutes, processor time and peak memory of presets, for docs/howto/how_long.md.

`python tests/helpers/preset_costs.py wiljes2017 "windows --methods gru --epochs 1"`
runs each as a user does, with its report, in a folder that is removed. Minutes count on
an idle machine only; the memory, that of the largest process, on any, and a training
takes as much of it in one epoch as in all.
"""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys
from tempfile import TemporaryDirectory
from time import perf_counter


def run(words: str) -> str:
    """Return the costs of a preset, with options, in one line."""
    command = [sys.executable, "-m", "l63fast", "experiment", *shlex.split(words)]
    start = perf_counter()
    with TemporaryDirectory() as folder:
        subprocess.run([*command, "--quiet", "--results", folder], check=True)
    # Of the children that have ended, theirs included: the largest, and the sum.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes, seconds = (perf_counter() - start) / 60.0, used.ru_utime + used.ru_stime
    gigabytes = used.ru_maxrss * 1024 / 1e9
    return f"{words}: {minutes:.1f} min, {seconds:.0f} s of CPU, {gigabytes:.2f} GB"


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(run(sys.argv[1]), flush=True)
    else:  # each in a process of its own, whose children are counted alone
        for name in sys.argv[1:]:
            subprocess.run([sys.executable, __file__, name], check=False)
