"""The C++ kernels: the only module that imports the extension `_core`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np

from l63fast import _core
from l63fast._kernels.jobs import (
    AnalysisJob,
    FilteredParticles,
    FilterJob,
    IntegrateJob,
    TangentJob,
)

environment = _core.environment  # of a name, the variable's value or None

_PREFIX = "x86-64-"
INSTRUCTIONS: Final = ("fma", "add", "divide", "rk4")  # as the core numbers them

# Outputs of at least this size are written past the caches. Where the output is only
# written, this is faster from 0.5 MiB on; where it is then read once, from 8 to 16 MiB
# on (measured with a shared L3 cache of 32 MiB).
_STREAMED_FROM: Final = 4 * 2**20


def _public(name: str) -> str:
    return name if name == "generic" else _PREFIX + name


@cache
def levels() -> tuple[str, ...]:
    """Return the instruction sets that can run here, in rising order."""
    return tuple(_public(name) for name in _core.levels())


@cache
def kernels(level: str) -> CppKernels:
    """Return the kernels of one instruction set."""
    return CppKernels(level)


@dataclass(frozen=True)
class CppKernels:
    """The kernels of one instruction set.

    Attributes
    ----------
    level : str
        "x86-64-v2", "-v3", "-v4" or "generic".
    streamed_from : int
        Size in bytes from which outputs are written past the caches. It never changes a
        result.
    """

    level: str
    streamed_from: int = _STREAMED_FROM

    @cached_property
    def _core_level(self) -> str:
        return self.level.removeprefix(_PREFIX)

    def integrate(self, job: IntegrateJob, n_threads: int) -> int:
        """Fill the job's `out`; return the number of non-finite members."""
        streamed = job.out.nbytes >= self.streamed_from
        return _core.integrate(job, streamed, n_threads, self._core_level)

    def analyse(self, job: AnalysisJob, n_threads: int) -> tuple[np.ndarray, ...]:
        """Return state, status, n_iter, cost and residual."""
        return _core.analyse(job, n_threads, self._core_level)

    def tangent(
        self, job: TangentJob, n_threads: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Return states and perturbations after n_steps, and how many are NaN."""
        return _core.tangent(job, n_threads, self._core_level)

    def adjoint(self, job: TangentJob, n_threads: int) -> tuple[np.ndarray, int]:
        """Return gradients at the start, and how many are not finite."""
        return _core.adjoint(job, n_threads, self._core_level)

    def filter_particles(self, job: FilterJob, n_threads: int) -> FilteredParticles:
        """Return the particles after the job, and the results of its analyses."""
        if job.operator is not None:
            raise TypeError("operator: expected components and powers alone")
        done = _core.filter_particles(job, n_threads, self._core_level)
        return FilteredParticles(*done)

    @property
    def native_fma(self) -> bool:
        """Whether the processor has an fma instruction that these kernels use."""
        return self.level in (_PREFIX + "v3", _PREFIX + "v4")

    def network(
        self,
        slots: list[tuple[int, bool, bool]],
        layers: list[tuple[int, ...]],
        pieces: list[tuple[int, ...]],
        n_weights: int,
    ) -> _core.Network:
        """Return a network in training."""
        return _core.Network(slots, layers, pieces, n_weights, self._core_level)

    @property
    def register_bytes(self) -> int:
        """Width of a vector register in bytes."""
        return _core.register_bytes(self._core_level)

    def instructions(self, kind: str, *, single: bool, rounds: int) -> int:
        """Run independent vector instructions of one kind; return their number."""
        number = INSTRUCTIONS.index(kind)
        return _core.instructions(number, single, rounds, self._core_level)

    def fill(self, out: np.ndarray, *, non_temporal: bool) -> None:
        """Fill `out`: float64, aligned to 64 bytes, a multiple of 8 values."""
        _core.fill(out, non_temporal, self._core_level)
