"""One of several processes that run the same experiment into one folder, as a script.

Argument: the folder. Where another process writes, this one comes again; anything else
that goes wrong ends it with an error. Prints how often it had to come again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from experiment_samples import tiny_cycled
from l63fast.errors import LockedError
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.runner import run_cells

PATIENCE = 200  # attempts


def experiment() -> Experiment:
    """Return an experiment of six cells."""
    methods = {f"enkf{n}": {"scheme": "enkf", "n_members": n} for n in range(4, 10)}
    return tiny_cycled("oi", "enkf", "pf", methods=methods)


def run_until_done(root: Path) -> int:
    """Run the experiment until every cell of it is done; return the other attempts."""
    for attempt in range(PATIENCE):
        try:
            cells = experiment().cells()
            failures = run_cells(cells, root / "tiny", resume=True).failures
        except LockedError:
            failures = {"": "is being written by another"}
        wrong = [why for why in failures.values() if "is being written by" not in why]
        if wrong:
            raise SystemExit("; ".join(wrong))
        if not failures:
            return attempt
        time.sleep(0.1)
    raise SystemExit("others were always writing")


if __name__ == "__main__":
    print(run_until_done(Path(sys.argv[1])))
