"""The C++ kernels: an adapter over the extension `_core`, and its only importer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from l63fast import _core
from l63fast._kernels.gru_weights import GruWeights
from l63fast._kernels.particles import FilteredParticles, FilterJob

__all__ = ["CppKernels", "kernels", "levels"]

_PREFIX = "x86-64-"
INSTRUCTIONS: Final = ("fma", "add", "divide", "rk4")  # as the core numbers them

# Bytes from which outputs are written past the caches. Writing alone is faster so from
# 0.5 MiB on; writing and then reading once, from between 8 and 16 MiB on (measured with
# an L3 cache of 32 MiB, which others share).
_STREAMED_FROM: Final = 4 * 2**20

_EMPTY = np.empty(0)


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
        Size in bytes from which outputs are written past the caches; never changes a
        result.
    """

    level: str
    streamed_from: int = _STREAMED_FROM

    def integrate(
        self,
        initial: np.ndarray,
        out: np.ndarray,
        save_every: int,
        dt: float,
        parameters: tuple[float, float, float],
        n_threads: int,
    ) -> int:
        """Fill `out` (n, n_saved, 3); return the number of diverged members."""
        level = self.level.removeprefix(_PREFIX)
        streamed = out.nbytes >= self.streamed_from
        return _core.integrate(
            initial, out, save_every, dt, *parameters, streamed, n_threads, level
        )

    def analyse(
        self,
        background: np.ndarray,
        observation: np.ndarray,
        b_matrices: np.ndarray,
        r_matrices: np.ndarray,
        components: tuple[int, ...],
        powers: tuple[int, ...],
        n_starts: int,
        max_iter: int,
        tol: float,
        n_threads: int,
    ) -> tuple[np.ndarray, ...]:
        """Return state, status, n_iter, cost and residual of batched 3D-Var."""
        return _core.analyse(
            background,
            observation,
            b_matrices,
            r_matrices,
            components,
            powers,
            n_starts,
            max_iter,
            tol,
            n_threads,
            self.level.removeprefix(_PREFIX),
        )

    def tangent(
        self,
        state: np.ndarray,
        perturbation: np.ndarray,
        n_steps: int,
        dt: float,
        parameters: tuple[float, float, float],
        n_threads: int,
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Return state and perturbations after n_steps, and the number diverged."""
        level = self.level.removeprefix(_PREFIX)
        return _core.tangent(
            state, perturbation, n_steps, dt, *parameters, n_threads, level
        )

    def adjoint(
        self,
        state: np.ndarray,
        gradient: np.ndarray,
        n_steps: int,
        dt: float,
        parameters: tuple[float, float, float],
        n_threads: int,
    ) -> tuple[np.ndarray, int]:
        """Return gradients with respect to the state given, and the number diverged."""
        level = self.level.removeprefix(_PREFIX)
        return _core.adjoint(
            state, gradient, n_steps, dt, *parameters, n_threads, level
        )

    @property
    def native_fma(self) -> bool:
        """Whether a multiply-add is known to be one instruction."""
        return self.level in (_PREFIX + "v3", _PREFIX + "v4")

    def gru(
        self,
        inputs: np.ndarray,
        weights: GruWeights,
        gates: np.ndarray,
        states: np.ndarray,
        n_threads: int,
    ) -> None:
        """Fill `gates` (L, n, 4 n_units) and `states` (L, n, n_units)."""
        level = self.level.removeprefix(_PREFIX)
        _core.gru(inputs, *weights, gates, states, n_threads, level)

    def gru_back(
        self,
        state_weights: np.ndarray,
        gates: np.ndarray,
        states: np.ndarray,
        gradient: np.ndarray,
        slopes: np.ndarray,
        n_threads: int,
    ) -> None:
        """Fill `slopes` (L, n, 4 n_units) from a gradient (n, n_units)."""
        level = self.level.removeprefix(_PREFIX)
        _core.gru_back(state_weights, gates, states, gradient, slopes, n_threads, level)

    @property
    def register_bytes(self) -> int:
        """Width of a vector register."""
        return _core.register_bytes(self.level.removeprefix(_PREFIX))

    def instructions(self, kind: str, *, single: bool, rounds: int) -> int:
        """Run independent vector instructions of a kind; return how many."""
        level = self.level.removeprefix(_PREFIX)
        return _core.instructions(INSTRUCTIONS.index(kind), single, rounds, level)

    def fill(self, out: np.ndarray, *, non_temporal: bool) -> None:
        """Fill `out`: float64, aligned to 64 bytes, a multiple of 8 values."""
        _core.fill(out, non_temporal, self.level.removeprefix(_PREFIX))

    def filter_particles(
        self,
        states: np.ndarray,
        log_weights: np.ndarray,
        job: FilterJob,
        n_threads: int,
    ) -> FilteredParticles:
        """Return the particles after the job, and its analyses."""
        observation = _EMPTY if job.observation is None else job.observation
        return FilteredParticles(
            *_core.filter_particles(
                states,
                log_weights,
                observation,
                1 if job.observation is None else observation.shape[1],
                job.n_steps is not None,
                job.observation is not None,
                job.n_steps or 0,
                job.dt,
                *job.parameters,
                _EMPTY if job.noise_root is None else job.noise_root,
                job.whitening,
                job.components,
                job.powers,
                job.threshold,
                job.bandwidth,
                job.lost,
                _EMPTY if job.rescue_root is None else job.rescue_root,
                job.folded,
                *job.key,
                job.first_stage,
                n_threads,
                self.level.removeprefix(_PREFIX),
            )
        )
