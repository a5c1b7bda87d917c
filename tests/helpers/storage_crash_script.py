"""Kills and faults for test_storage_crashes.py, in a process of its own, which forks.

Arguments: kills N ROOT (kill -9 at N random moments), naive N ROOT (the same against
delete-then-write), steps HOW ROOT (stop at each system call in turn), faults HOW ROOT
(let each system call fail in turn); HOW is exchange, or aside for file systems where
directories do not swap. Prints one line of JSON with what was found.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from forks import forked
from l63fast.errors import L63Error
from l63fast.storage import directories, result_directory, verify_directory

N_FILES = 4
CALLS = ("open", "mkdir", "rename", "unlink", "rmdir", "fsync", "listdir", "scandir")


def write(target: Path, generation: int) -> None:
    with result_directory(target) as directory:
        fill(directory, generation)


def write_naively(target: Path, generation: int) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    fill(target, generation)


def fill(directory: Path, generation: int) -> None:
    for number in range(N_FILES):
        (directory / f"{number}.txt").write_text(str(generation))
    (directory / "figures").mkdir()
    (directory / "figures" / "a.txt").write_text(str(generation))


def state(target: Path) -> int | str:
    """Return the generation that the result holds, or what is wrong with it."""
    names = [f"{number}.txt" for number in range(N_FILES)] + ["figures/a.txt"]
    try:
        found = {(target / name).read_text() for name in names}
    except FileNotFoundError:
        return "missing"
    only = found.pop()
    return "torn" if found or not only.isdigit() else int(only)


def leftovers(root: Path) -> int:
    return len([name for name in os.listdir(root) if name != "result"])


def kills(n: int, root: Path, writer: Callable[[Path, int], None]) -> dict[str, object]:
    target = root / "result"
    ends = [time.perf_counter()]
    for _ in range(4):
        writer(target, 0)
        ends.append(time.perf_counter())
    # The first write imports; on a busy machine all take longer.
    longest = max(0.02, 8.0 * median(b - a for a, b in itertools.pairwise(ends[1:])))
    rng = random.Random(1)
    found: dict[str, int] = {"missing": 0, "torn": 0, "left": 0, "changes": 0}
    before = state(target)

    def loop() -> None:
        generation = 0
        while True:
            generation += 1
            writer(target, generation)

    for _ in range(n):
        pid = forked(loop)
        time.sleep(rng.uniform(0.0, longest))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        now = state(target)
        if isinstance(now, str):
            found[now] += 1
        elif writer is write:
            verify_directory(target)
        found["left"] += leftovers(root) > 0
        found["changes"] += now != before
        before = now
    writer(target, 7)
    return {**found, "last": state(target), "left_at_end": leftovers(root)}


def break_at(count: int, action: Callable[[], None]) -> Callable[[], bool]:
    """Let the system call number `count` (from 0) be met by `action` instead.

    Returns a function that says whether that call has come.
    """
    left = count

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left == -1:
                action()
            return real(*args, **kwargs)

        setattr(os, name, call)

    for name in CALLS:
        wrap(name)
    return lambda: left < 0


def without_exchange() -> None:
    directories.exchange = lambda first, second: False


def each_step(root: Path, action: Callable[[], None]) -> Iterator[tuple[int, int]]:
    """Yield (step, exit code) of a writer broken at each of its calls in turn."""
    target = root / "result"
    step, done = 0, False
    while not done:
        write(target, 0)

        def work(step: int = step) -> None:
            came = break_at(step, action)
            try:
                write(target, 1)
            except L63Error as error:
                # Clean: an error of ours that still says what the system said.
                os._exit(2 if error.errno == errno.ENOSPC else 3)
            except OSError:
                os._exit(4)
            if came():
                os._exit(5)  # the call was one that may fail

        _, status = os.waitpid(forked(work), 0)
        code = os.waitstatus_to_exitcode(status)
        yield step, code
        done = code == 0
        step += 1


def steps(root: Path, how: str) -> dict[str, object]:
    if how == "aside":
        without_exchange()
    target = root / "result"
    seen: dict[str, int] = {}
    unrecovered = []
    for step, _ in each_step(root, lambda: os._exit(9)):
        found = str(state(target))
        seen[found] = seen.get(found, 0) + 1
        with result_directory(root / "other") as directory:  # a neighbour sweeps it
            (directory / "a").write_text("a")
        after = sorted(os.listdir(root))
        if state(target) not in (0, 1) or after != ["other", "result"]:
            unrecovered.append([step, after])
        shutil.rmtree(root / "other")
    return {"seen": seen, "unrecovered": unrecovered}


def faults(root: Path, how: str) -> dict[str, object]:
    if how == "aside":
        without_exchange()

    def refuse() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    codes: dict[str, int] = {}
    bad = []
    for step, code in each_step(root, refuse):
        codes[str(code)] = codes.get(str(code), 0) + 1
        if state(root / "result") not in (0, 1) or code == 1:
            bad.append([step, code, state(root / "result")])
    return {"codes": codes, "bad": bad}


def main(what: str, how: str, root: Path) -> dict[str, object]:
    root.mkdir()
    if what in ("kills", "naive"):
        return kills(int(how), root, write if what == "kills" else write_naively)
    return (steps if what == "steps" else faults)(root, how)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
