"""Writers met by a fault at every k-th write, fsync and rename, as a script.

Arguments: the jobs, every how many calls, and a folder. The library of
tests/native/faults.c must be preloaded. Prints one line of JSON for each job and mode:
the disk is full, or the process is killed.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
import traceback
from collections import Counter
from pathlib import Path

from forks import forked
from l63fast.errors import L63Error
from writer_jobs import Job, done, job, leftovers, what_is_wrong

FINISHED, CLEAN, UNCLEAN = 0, 2, 3
FAULTS = ctypes.CDLL(None, use_errno=True)


def attempt(work: Job, k: int, mode: str) -> int:
    """Return the exit status of a child whose k-th call fails; -n after a signal."""

    def broken() -> None:
        code = UNCLEAN
        try:
            FAULTS.faults_arm(ctypes.c_long(k), int(mode == "kill"))
            work.work(1)
            code = CLEAN if FAULTS.faults_disarm() else FINISHED
        except (L63Error, OSError) as error:  # what the command line prints and exits
            FAULTS.faults_disarm()
            code = CLEAN if is_a_sentence(error) else UNCLEAN
        except BaseException:
            FAULTS.faults_disarm()
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    return done(forked(broken))


def is_a_sentence(error: OSError | L63Error) -> bool:
    """Whether an error is one line that says that the disk is full, or asks it."""
    text = str(error)
    says = os.strerror(errno.ENOSPC) in text or "is the disk full" in text
    if not says or "\n" in text:
        print(f"unclear: {error!r}", file=sys.stderr)
    return says and "\n" not in text


def met(name: str, mode: str, stride: int, root: Path) -> dict[str, object]:
    """Return what became of one job's folder under faults of one kind."""
    root.mkdir(parents=True)
    work = job(name, root)
    known = work.known()
    work.work(0)
    counts: Counter[str] = Counter()
    bad, k, code = [], 0, CLEAN
    while code != FINISHED:
        code = attempt(work, k, mode)
        counts[str(code)] += 1
        if code not in (CLEAN, FINISHED, 9):
            bad.append([k, f"exit {code}"])
        wrong = what_is_wrong(work, known)
        if wrong:
            bad.append([k, wrong])
        k += stride
    work.work(1)
    left, same = leftovers(root), not what_is_wrong(work, known[1:])
    found = {"counts": counts, "bad": bad, "left": left, "same_files": same}
    return {"job": name, "mode": mode, **found}


def main(names: str, stride: int, root: Path) -> None:
    for name in names.split(","):
        for mode in ("full", "kill"):
            print(json.dumps(met(name, mode, stride, root / f"{name}-{mode}")))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
