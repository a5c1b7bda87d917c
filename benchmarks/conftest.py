"""What the benchmarks share: one core, calls timed in turns, rows for the tables."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np
import pytest

from benchmarks.report import tables
from benchmarks.rows import Row, to_json
from l63fast._timing import collector_off, once, one_core, quartile
from l63fast.experiments.speed import machine
from l63fast.lorenz63 import spin_up

SECONDS_PER_ROW: Final = 0.6
PACKAGES: Final = (
    "l63fast", "numpy", "numba", "torch", "scipy", "jax", "diffrax", "heyoka", "dapper",
    "torchdiffeq", "torchode",
)  # fmt: skip
rows_key = pytest.StashKey[list[Row]]()
clocks_key = pytest.StashKey[list[float]]()  # seconds: of the processor, of the wall


def pytest_addoption(parser):
    parser.addoption("--no-peers", action="store_true", help="leave the peers out")


def pytest_configure(config):
    config.stash[rows_key] = []
    config.stash[clocks_key] = [0.0, 0.0]
    config.addinivalue_line("markers", "peer: another library does the same work")


def pytest_collection_modifyitems(config, items):
    """Leave the peers out, if so told, and let them warn as they like."""
    for item in items:
        if item.get_closest_marker("peer"):
            item.add_marker(pytest.mark.filterwarnings("ignore"))
    if config.getoption("--no-peers"):
        peers = [item for item in items if item.get_closest_marker("peer")]
        items[:] = [item for item in items if item not in peers]
        config.hook.pytest_deselected(items=peers)


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Add the rows of the tables to what pytest-benchmark writes."""
    versions = {
        name: importlib.metadata.version(name)
        for name in PACKAGES
        if name in sys.modules
    }
    output_json["machine"] = machine() | versions
    had, wanted = config.stash[clocks_key]
    output_json["share_of_core"] = had / wanted if wanted else 1.0
    output_json["rows"] = [to_json(row) for row in config.stash[rows_key]]


def pytest_terminal_summary(terminalreporter, config):
    """Print the tables below pytest-benchmark's own."""
    if config.stash[rows_key]:
        terminalreporter.section("l63fast")
        terminalreporter.write_line(tables(config.stash[rows_key]))


@pytest.fixture(scope="session", autouse=True)
def pinned() -> Iterator[None]:
    """Keep everything on one core and one thread, so that no peer uses more."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    with one_core():
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        yield


@pytest.fixture
def all_cores(pinned) -> Iterator[int]:
    """Give a test all cores that the process was born with; return how many."""
    pinned_to = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    yield len(os.sched_getaffinity(0))
    os.sched_setaffinity(0, pinned_to)


@pytest.fixture(scope="session")
def states() -> np.ndarray:
    """Return 100,000 states on the attractor, (n, 3)."""
    return spin_up(100_000, seed=0, time=5.0)


@pytest.fixture
def instruction_set(monkeypatch) -> Callable[[str], None]:
    """Return a function that makes the C++ kernels use one instruction set."""
    return lambda level: monkeypatch.setenv("L63FAST_INSTRUCTION_SET", level)


@pytest.fixture
def record(pytestconfig, benchmark) -> Callable[[Row], None]:
    """Return a function that adds a row to the tables."""

    def add(row: Row) -> None:
        if benchmark.enabled:
            pytestconfig.stash[rows_key].append(row)

    return add


@dataclass(frozen=True)
class Timed:
    """What a function returned, and the seconds it and its yardsticks took."""

    result: Any
    seconds: float
    against: Mapping[str, float]


@pytest.fixture
def timed(benchmark, pytestconfig) -> Callable[..., Timed]:
    """Return a function that times another, in turns with yardsticks.

    The first call of each is not timed: it compiles what is compiled at the first call.
    """

    def run(function: Callable[[], Any], **yardsticks: Callable[[], object]) -> Timed:
        result = function()
        start = perf_counter()
        if benchmark.enabled:
            function()
        for yardstick in yardsticks.values():
            yardstick()
        rounds = int(SECONDS_PER_ROW / max(perf_counter() - start, 1e-6))
        times: dict[str, list[float]] = {name: [] for name in yardsticks}

        def take_turns() -> None:
            for name, yardstick in yardsticks.items():
                times[name].append(once(yardstick))

        begun = process_time(), perf_counter()
        with collector_off():
            benchmark.pedantic(
                function, setup=take_turns, rounds=min(max(rounds, 5), 200)
            )
        clocks = pytestconfig.stash[clocks_key]
        clocks[0] += process_time() - begun[0]
        clocks[1] += perf_counter() - begun[1]
        gc.collect()
        if not benchmark.enabled:
            return Timed(result, np.nan, dict.fromkeys(yardsticks, np.nan))
        own = quartile(benchmark.stats.stats.data)
        return Timed(result, own, {k: quartile(v) for k, v in times.items()})

    return run
