"""kill -9 at random moments of whole jobs, as a script.

Arguments: jobs, how many kills of each, and a folder. Prints a line of JSON for each
job with what was found. Everything is imported before the first fork, so that a child
is killed in its work and not in its imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from statistics import median

from forks import forked
from writer_jobs import Job, done, job, leftovers, what_is_wrong

KILLS_PER_FINISH = 20


def kills(name: str, n: int, root: Path) -> dict[str, object]:
    """Return what n kills of one job have left: `bad` is torn or missing."""
    root.mkdir(parents=True)
    work = job(name, root)
    known, rng = work.known(), random.Random(name)
    seconds = median(timed(work) for _ in range(3))
    work.work(0)
    bad, left, changes, late, generation = [], 0, 0, 0, 1
    for kill in range(n):
        pid = forked(lambda g=generation: work.work(g))
        time.sleep(rng.uniform(0.0, 1.05 * seconds))
        os.kill(pid, signal.SIGKILL)
        late += done(pid) == 0
        left += bool(leftovers(root))
        wrong = what_is_wrong(work, known)
        if wrong:
            bad.append([kill, wrong])
        if not what_is_wrong(work, [known[generation]]):
            changes += 1
            generation = 1 - generation
        if kill % KILLS_PER_FINISH == KILLS_PER_FINISH - 1 or kill == n - 1:
            bad += [[kill, why] for why in after_a_start(work, generation, known, root)]
            generation = 1 - generation
    counts = {"kills": n, "late": late, "left": left, "changes": changes}
    return {"job": name, "seconds": round(seconds, 3), **counts, "bad": bad}


def timed(work: Job) -> float:
    """Return how long a job takes in a child."""
    began = time.perf_counter()
    assert done(forked(lambda: work.work(0))) == 0
    return time.perf_counter() - began


def after_a_start(
    work: Job, generation: int, known: list[dict[str, str]], root: Path
) -> list[str]:
    """Let the job run to its end; return what is then wrong."""
    if done(forked(lambda: work.work(generation))) != 0:
        return ["the next start failed"]
    wrong = what_is_wrong(work, [known[generation]])
    return [why for why in (wrong, *leftovers(root)) if why]


def main(names: str, n: int, root: Path) -> None:
    for name in names.split(","):
        print(json.dumps(kills(name, n, root / name)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
