"""Speed limits of this machine, measured: instructions and bytes per second."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._kernels import load_kernels
from l63fast._timing import in_turns, one_core

WRITES: Final = ("stream", "store", "fresh_4k", "fresh_2m")
_LARGE_PAGE: Final = 2**21
_LINE: Final = 64
# Rounds of the loops in limits.cpp; each takes about a millisecond.
_ROUNDS: Final = {"fma": 300_000, "add": 300_000, "divide": 40_000, "rk4": 8_000}


@dataclass(frozen=True)
class Work:
    """A function to time, and how many instructions or bytes one call of it does."""

    run: Callable[[], object]
    amount: float


@dataclass(frozen=True)
class MachineLimits:
    """Largest rates of one core, for float64.

    Attributes
    ----------
    level : str
        Instruction set.
    lanes : int
        float64 values in a vector register; float32 has twice as many.
    fma, add, divide : float
        Independent vector instructions of one kind per second; without an instruction
        for fma, multiplications and additions.
    rk4 : float
        Instructions per second in the mixture of an RK4 step, 27 multiply-adds to 14
        additions. It is above `fma` on processors with separate units for additions.
    stream, store : float
        Bytes per second written to memory that was written before, past the caches
        and through them.
    fresh_4k, fresh_2m : float
        Bytes per second written to memory that is used for the first time, in pages of
        4 KiB and 2 MiB (equal where the system gives no large pages).
    """

    level: str
    lanes: int
    fma: float
    add: float
    divide: float
    rk4: float
    stream: float
    store: float
    fresh_4k: float
    fresh_2m: float


def register_lanes(level: str | None = None) -> int:
    """Return how many float64 values fit a vector register."""
    kernels: Any = load_kernels("cpp", level=level)
    return int(kernels.register_bytes) // 8


def instruction_work(
    kind: str, *, level: str | None = None, single: bool = False
) -> Work:
    """Return a loop of independent instructions: "fma", "add", "divide" or "rk4".

    Raises
    ------
    BackendError
        If the C++ extension or the level is not available here.
    """
    _checks.choice("kind", kind, _ROUNDS)
    kernels: Any = load_kernels("cpp", level=level)
    rounds = _ROUNDS[kind]

    def run() -> int:
        count: int = kernels.instructions(kind, single=single, rounds=rounds)
        return count

    return Work(run, run())


def write_work(kind: str, n_bytes: int, *, level: str | None = None) -> Work:
    """Return a loop that writes n_bytes in one of the ways of `WRITES`.

    Raises
    ------
    BackendError
        If the C++ extension or the level is not available here.
    MemoryLimitError
        If n_bytes is more than the memory that is free.
    """
    _checks.choice("kind", kind, WRITES)
    n_bytes = _checks.count("n_bytes", n_bytes, minimum=_LINE) // _LINE * _LINE
    _checks.memory("n_bytes", n_bytes)
    kernels: Any = load_kernels("cpp", level=level)
    if kind.startswith("fresh"):
        return Work(lambda: _filled_afresh(kernels, kind, n_bytes), n_bytes)
    warm = _aligned(np.ones(n_bytes // 8 + _LINE // 8), _LINE, n_bytes)
    return Work(lambda: kernels.fill(warm, non_temporal=kind == "stream"), n_bytes)


def _filled_afresh(kernels: Any, kind: str, n_bytes: int) -> np.ndarray:
    """Return a filled array in memory pages that were not used before this call.

    It is filled through the caches, which still hold the pages that the system has
    just set to zero.
    """
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    region = mmap.mmap(-1, n_bytes + _LARGE_PAGE, flags=private)
    advice = "MADV_HUGEPAGE" if kind == "fresh_2m" else "MADV_NOHUGEPAGE"
    if hasattr(mmap, advice):
        region.madvise(getattr(mmap, advice))
    fresh = _aligned(np.frombuffer(region, np.float64), _LARGE_PAGE, n_bytes)
    kernels.fill(fresh, non_temporal=False)
    return fresh


def _aligned(memory: np.ndarray, boundary: int, n_bytes: int) -> np.ndarray:
    """Return n_bytes of float64 `memory`, from its first aligned address on."""
    offset = -memory.ctypes.data % boundary // memory.itemsize
    return memory[offset : offset + n_bytes // memory.itemsize]


def machine_limits(
    *, level: str | None = None, n_bytes: int = 2**28, seconds: float = 3.0
) -> MachineLimits:
    """Return the largest rates of one core of this machine, measured now.

    Parameters
    ----------
    level : str, optional
        Instruction set; by default the one that the kernels use.
    n_bytes : int
        Size of the memory written; should be several times the caches.
    seconds : float
        Approximate duration of the measurement.

    Raises
    ------
    BackendError
        If the C++ extension or the level is not available here.
    MemoryLimitError
        If n_bytes is more than the memory that is free.
    """
    kernels: Any = load_kernels("cpp", level=level)
    works = {kind: instruction_work(kind, level=level) for kind in _ROUNDS}
    works |= {kind: write_work(kind, n_bytes, level=level) for kind in WRITES}
    with one_core():
        times = in_turns({k: w.run for k, w in works.items()}, seconds=seconds)
    rates = {kind: work.amount / times[kind] for kind, work in works.items()}
    return MachineLimits(kernels.level, register_lanes(level), **rates)
