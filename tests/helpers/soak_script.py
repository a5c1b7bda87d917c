"""Cycle on and on in one process, and keep how much memory and how many files it holds.

Arguments: minutes, and a picture to draw at the end, or nothing. Prints a line of JSON
for each look: seconds, bytes of memory, open descriptors, cycles done.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.kalman import ExtendedKalman
from l63fast.assimilation.particle import ParticleFilter
from l63fast.storage import result_directory, write_json
from l63fast.twin import TwinExperiment, TwinSettings

SECONDS_PER_LOOK = 1.0
Look = tuple[float, int, int, int]


def round_of_work(folder: Path, twin: TwinExperiment) -> int:
    """Load the data, cycle three filters over them and replace a result; count cycles.

    Each round is what an experiment does: files are opened, mapped and written too.
    """
    TwinExperiment.load(folder / "data").test  # noqa: B018  reads and checks the file
    observed = {"operator": "xy", "R": np.eye(2)}
    done = 0
    for scheme in (
        EnKF(**observed, B=np.eye(3)),
        ExtendedKalman(**observed, B=np.eye(3)),
        ParticleFilter(**observed, B=np.eye(3), n_particles=100),
    ):
        status = run_cycles(scheme, twin, "test", seed=0).status
        done += status.size
    with result_directory(folder / "result") as result:
        write_json(result / "cycles.json", {"cycles": done})
    return done


def look(began: float, cycles: int) -> Look:
    """Return what the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    return time.monotonic() - began, memory, len(os.listdir("/proc/self/fd")), cycles


def soak(minutes: float, folder: Path) -> list[Look]:
    """Work for so many minutes; return and print one look a second, 20 at least."""
    settings = TwinSettings(n_train=2, n_val=2, n_test=4, n_steps=400)
    twin = TwinExperiment.generate(settings)
    twin.save(folder / "data")
    began, cycles, looks = time.monotonic(), 0, []
    while time.monotonic() - began < 60 * minutes or len(looks) < 20:
        next_look = time.monotonic() + min(SECONDS_PER_LOOK, 3 * minutes)
        while True:
            cycles += round_of_work(folder, twin)
            if time.monotonic() > next_look:
                break
        looks.append(look(began, cycles))
        print(json.dumps(looks[-1]), flush=True)
    return looks


def draw(looks: list[Look], path: Path) -> None:
    """Draw memory and descriptors against time."""
    import matplotlib.pyplot as plt  # only now: it takes memory itself

    seconds, memory, descriptors, cycles = np.array(looks).T
    figure, axes = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
    axes.plot(seconds / 60, memory / 2**20, color="#0072B2", lw=1)
    axes.set(
        xlabel="minutes",
        ylabel="resident memory (MiB)",
        ylim=(0, 1.25 * memory.max() / 2**20),
    )
    axes.set_title(
        f"{cycles[-1] / 1e6:.1f} million cycles in one process; open descriptors "
        f"{descriptors.min():.0f} to {descriptors.max():.0f}",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        curve = soak(float(sys.argv[1]), Path(name))
    if len(sys.argv) > 2:
        draw(curve, Path(sys.argv[2]))
