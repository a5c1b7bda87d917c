"""Writers met by a fault at every k-th write, fsync and rename, as a script.

Arguments: the writers, every how many calls, and a folder. The library of
tests/native/faults.c must be preloaded. Prints one line of JSON for each writer
and mode: the disk is full, or the process is killed.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from experiment_samples import tiny_cell
from l63fast.errors import L63Error
from l63fast.storage import result_directory, verify_directory, write_bytes
from l63fast.twin import TwinExperiment

CLEAN, UNCLEAN, FINISHED = 2, 3, 0
FAULTS = ctypes.CDLL(None, use_errno=True)


def writers(root: Path) -> dict[str, tuple[Callable[[], None], Path]]:
    """Return each writer and the folder that must stay complete."""
    twin = TwinExperiment.generate(tiny_cell().data)
    twin.save(root / "data")

    def bytes_() -> None:
        with result_directory(root / "bytes") as directory:
            for number in range(3):
                write_bytes(directory / f"{number}", bytes(1000))

    def data() -> None:
        twin.save(root / "dataset")

    def cell() -> None:
        from l63fast.experiments.cell import run_cell  # torch takes seconds

        run_cell(tiny_cell(), root / "data", root / "cell")

    def figures() -> None:
        from l63fast.experiments.cell import run_cell
        from l63fast.experiments.figures import draw_figures

        if not (root / "figures").exists():
            run_cell(tiny_cell(), root / "data", root / "figures")
        draw_figures(root / "figures")

    return {
        "bytes": (bytes_, root / "bytes"),
        "dataset": (data, root / "dataset"),
        "cell": (cell, root / "cell"),
        "figures": (figures, root / "figures"),
    }


def attempt(work: Callable[[], None], k: int, mode: str) -> int:
    """Return the exit status of a child whose k-th call fails; -n after a signal."""
    pid = os.fork()
    if pid == 0:
        code = UNCLEAN
        try:
            FAULTS.faults_arm(ctypes.c_long(k), int(mode == "kill"))
            work()
            code = CLEAN if FAULTS.faults_disarm() else FINISHED
        except L63Error as error:
            FAULTS.faults_disarm()
            said = getattr(error, "errno", None) in (errno.ENOSPC, None)
            code = CLEAN if said else UNCLEAN
        except OSError as error:
            code = CLEAN if error.errno == errno.ENOSPC else UNCLEAN
        except BaseException:
            FAULTS.faults_disarm()
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def met(name: str, mode: str, stride: int, root: Path) -> dict[str, object]:
    """Return what became of one writer's folder under faults of one kind."""
    root.mkdir(parents=True)
    work, target = writers(root)[name]
    work()
    manifest = verify_directory(target)
    counts: dict[str, int] = {}
    bad, k = [], 0
    while True:
        code = attempt(work, k, mode)
        counts[str(code)] = counts.get(str(code), 0) + 1
        if code not in (CLEAN, FINISHED, 9):
            bad.append([k, f"exit {code}"])
        try:
            verify_directory(target)
        except L63Error as error:
            bad.append([k, str(error)])
        if code == FINISHED:
            break
        k += stride
    work()
    left = [entry for entry in os.listdir(root) if entry.startswith(".")]
    same = set(verify_directory(target).files) == set(manifest.files)
    found = {"counts": counts, "bad": bad, "left": left, "same_files": same}
    return {"writer": name, "mode": mode, **found}


def main(names: str, stride: int, root: Path) -> None:
    for name in names.split(","):
        for mode in ("full", "kill"):
            print(json.dumps(met(name, mode, stride, root / f"{name}-{mode}")))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
