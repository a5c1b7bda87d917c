"""Prints the peak memory (MB) of a process that makes shards of n trajectories."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from l63fast.experiments.data import make_shards
from l63fast.twin import ShardSettings, TwinSettings

if __name__ == "__main__":
    n_trajectories, folder = int(sys.argv[1]), Path(sys.argv[2])
    data = TwinSettings(
        n_train=n_trajectories, n_steps=100, save_every=50, steps_per_cycle=50
    )
    make_shards(ShardSettings(data, 4), folder)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
