"""What fresh processes cost: the import, Numba's start, Numba without a preference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from time import perf_counter
from typing import Any, Final

import pytest

from benchmarks.levels import levels
from benchmarks.rows import Goal
from l63fast._timing import quartile

N_PROCESSES: Final = 7

IMPORTS: Final = """
from time import perf_counter
import numpy
start = perf_counter()
import l63fast
print(perf_counter() - start)
"""

START: Final = """
import numpy
from l63fast.lorenz63 import forecast
print(forecast(numpy.ones((2, 3)), 1, backend="numba")[0, 0])
"""

# Numba and C++ in turns, in a process whose environment was set before Numba came.
IN_TURNS: Final = """
import json
import numpy
from l63fast._timing import in_turns, one_core
from l63fast.lorenz63 import forecast, spin_up
states = spin_up(50_000, seed=0, time=5.0)
with one_core():
    calls = {
        name: lambda name=name: forecast(states, 100, n_threads=1, backend=name)
        for name in ("numba", "cpp")
    }
    equal = calls["numba"]().tobytes() == calls["cpp"]().tobytes()
    print(json.dumps([equal, in_turns(calls, seconds=2.0)]))
"""


def output(code: str, **environment: str) -> str:
    """Return what a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    ).stdout


def without_preference() -> str:
    """Return LLVM's features of this processor without its taste for 256 bits."""
    from llvmlite import binding

    return f"{binding.get_host_cpu_features().flatten()},-prefer-256-bit"


def test_import(benchmark, record):
    def run() -> list[float]:
        return [float(output(IMPORTS)) for _ in range(N_PROCESSES)]

    seconds = quartile(benchmark.pedantic(run))
    what = "import l63fast, after NumPy's own import"
    record(Goal(what, seconds, "s", 0.060, "60 ms", 1.0, at_most=True))
    assert seconds > 0.0


def test_numba_starts_from_its_cache(benchmark, record):
    assert output(START) == output(START) != ""

    def run() -> list[float]:
        times = []
        for _ in range(N_PROCESSES):
            start = perf_counter()
            output(START)
            times.append(perf_counter() - start)
        return times

    seconds = quartile(benchmark.pedantic(run))
    what = "Numba fallback, a second process to its first result"
    record(Goal(what, seconds, "s", 1.0, "1 s", 1.0, at_most=True))


@pytest.mark.skipif(not levels(), reason="the C++ extension is not installed")
def test_numba_without_the_256_bit_preference(benchmark, record):
    features = without_preference()

    def run() -> Any:
        return json.loads(output(IN_TURNS, NUMBA_CPU_FEATURES=features))

    equal, seconds = benchmark.pedantic(run)
    assert equal
    rates = [50_000 * 100 / seconds[name] for name in ("numba", "cpp")]
    what = "forecast, Numba fallback, NUMBA_CPU_FEATURES with -prefer-256-bit"
    record(Goal(what, rates[0], "steps/s", rates[1], "C++", 0.8))
