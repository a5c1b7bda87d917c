"""Simulate truth and observations of Lorenz-63 (the command `l63fast simulate`).

python src/simulator.py --n_traj 1500 --train 1000 --val 500 --obs_mode xy
"""

from l63fast.cli import main

if __name__ == "__main__":
    main("simulate")
