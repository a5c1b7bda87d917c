"""The machine's own ceilings, at each instruction set: what all shares are of."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from benchmarks.levels import levels
from benchmarks.rows import Limit
from l63fast._kernels.limits import machine_limits

INSTRUCTIONS = {
    "fma": "multiply-adds",
    "add": "additions",
    "divide": "divisions",
    "rk4": "27 multiply-adds to 14 additions",
}
WRITES = {
    "stream": "non-temporal writes, warm pages",
    "store": "stores, warm pages",
    "fresh_4k": "first touch, 4 KiB pages",
    "fresh_2m": "first touch, 2 MiB pages",
}


@pytest.mark.parametrize("level", levels())
def test_limits(benchmark, record, level):
    limits = asdict(
        benchmark.pedantic(machine_limits, kwargs={"level": level, "seconds": 2.0})
    )
    for kind, what in INSTRUCTIONS.items():
        record(Limit(level, what, limits[kind], "instructions/s"))
    for kind, what in WRITES.items():
        record(Limit(level, what, limits[kind], "bytes/s"))
    # No write beats the writes past the caches by more than the noise of a neighbour,
    # and fresh memory costs more than warm.
    assert limits["fresh_4k"] < 1.5 * limits["store"]
    assert limits["rk4"] > 0.8 * limits["fma"]
