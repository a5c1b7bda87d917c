"""The speed of the costly functions beside what the machine allows, in one run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from l63fast._kernels import backend_info
from l63fast._kernels.limits import WRITES, Work, instruction_work, write_work
from l63fast._timing import in_turns, one_core
from l63fast.experiments.speed_cases import Case, SpeedSizes, speed_cases

__all__ = ["SpeedRow", "machine", "measure_speed", "measured"]

_BOUNDS: Final = {
    "rk4": "arithmetic",
    "fma": "arithmetic",
    "divide": "division",
    "stream": "writes",
    "fresh_2m": "first touch",
}


@dataclass(frozen=True)
class SpeedRow:
    """A measured rate beside its ceiling (units per second; None without C++)."""

    name: str
    unit: str
    rate: float
    ceiling: float | None
    bound: str

    @property
    def share(self) -> float | None:
        """The part of the ceiling that was reached."""
        return None if self.ceiling is None else self.rate / self.ceiling


def measured(case: Case, *, seconds: float, n_bytes: int = 2**28) -> SpeedRow:
    """Return the rate of a case and of its tightest ceiling, timed in turns."""
    works: dict[str, Work] = {}
    if backend_info().name == "cpp":
        for kind in case.needs:
            works[kind] = (
                write_work(kind, n_bytes)
                if kind in WRITES
                else instruction_work(kind, single=case.single)
            )
    calls = {"case": case.run} | {kind: work.run for kind, work in works.items()}
    times = in_turns(calls, seconds=seconds)
    rate = case.amount / times["case"]
    allowed = {k: w.amount / times[k] / case.needs[k] for k, w in works.items()}
    if not allowed:
        return SpeedRow(case.name, case.unit, rate, None, "")
    kind = min(allowed, key=allowed.__getitem__)
    return SpeedRow(case.name, case.unit, rate, allowed[kind], _BOUNDS[kind])


def measure_speed(
    sizes: SpeedSizes, note: Callable[[SpeedRow], None] = lambda row: None
) -> list[SpeedRow]:
    """Return the rate of every costly function beside its ceiling, on one core.

    Parameters
    ----------
    sizes : SpeedSizes
    note : callable
        Told of each row as it is done.
    """
    rows = []
    n_bytes = max(int(2**28 * sizes.seconds / SpeedSizes().seconds), 2**20)
    with one_core():
        for case in speed_cases(sizes):
            rows.append(measured(case, seconds=sizes.seconds, n_bytes=n_bytes))
            note(rows[-1])
    return rows


def machine() -> dict[str, str]:
    """Return where, when and with what a benchmark ran."""
    info = backend_info()
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "backend": info.name,
        "instruction set": info.instruction_set,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [
                line.partition(":")[2].strip()
                for line in lines
                if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
