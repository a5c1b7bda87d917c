"""What the benchmarks share: one core, a warmed call, and a rate beside each time."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import numpy as np
import pytest

from benchmarks.report import tables
from l63fast.lorenz63 import spin_up

SECONDS_PER_ROW: Final = 0.8
VERSIONED: Final = (
    "l63fast", "numpy", "numba", "torch", "scipy", "jax", "heyoka", "dapper",
)  # fmt: skip
rows = pytest.StashKey[list[dict[str, Any]]]()


def pytest_configure(config):
    config.stash[rows] = []


def pytest_benchmark_update_machine_info(config, machine_info):
    versions = {}
    for name in VERSIONED:
        if name in sys.modules:
            versions[name] = importlib.metadata.version(name)
    machine_info["versions"] = versions


def pytest_terminal_summary(terminalreporter, config):
    """Print rates and ratios below pytest-benchmark's tables of times."""
    if config.stash[rows]:
        terminalreporter.section("rates")
        terminalreporter.write_line(tables(config.stash[rows]))


@pytest.fixture(scope="session", autouse=True)
def one_core():
    """Pin the process to one core, so that no peer uses more than another."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="session")
def states():
    """Return 50,000 states on the attractor, (n, 3)."""
    return spin_up(50_000, seed=0, time=5.0)


@pytest.fixture
def instruction_set(monkeypatch) -> Callable[[str], None]:
    """Return a function that makes the C++ kernels use one instruction set."""
    return lambda level: monkeypatch.setenv("L63FAST_INSTRUCTION_SET", level)


@pytest.fixture
def measure(benchmark, pytestconfig):
    """Return a function that times `function` and gives what it returned.

    The first call is not timed: it compiles what a peer compiles at the first call.
    """

    def run(
        name: str, function: Callable[[], np.ndarray], *, amount: float, unit: str
    ) -> np.ndarray:
        result = function()
        if not benchmark.enabled:
            benchmark.pedantic(function)
            return result
        start = perf_counter()
        function()
        rounds = SECONDS_PER_ROW / max(perf_counter() - start, 1e-6)
        benchmark.pedantic(function, rounds=int(min(max(rounds, 3), 200)))
        rate = amount / benchmark.stats.stats.median
        benchmark.extra_info |= {"name": name, "rate": rate, "unit": unit}
        row = {"group": benchmark.group, "extra_info": dict(benchmark.extra_info)}
        pytestconfig.stash[rows].append(row)
        return result

    return run
