"""Selection of the kernels: every use of C++ or Numba goes through `load_kernels`."""

from __future__ import annotations

import os
import shlex
import subprocess
import warnings
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Final, Protocol

import numpy as np

from l63fast import _checks
from l63fast._kernels.jobs import (
    AnalysisJob,
    ChainJob,
    FilteredParticles,
    FilterJob,
    IntegrateJob,
    TangentJob,
)
from l63fast._kernels.taylor import TaylorKernels
from l63fast.errors import BackendError, BackendWarning

__all__ = [
    "BACKENDS",
    "AnalysisJob",
    "BackendInfo",
    "ChainJob",
    "FilterJob",
    "FilteredParticles",
    "IntegrateJob",
    "Kernels",
    "TangentJob",
    "backend_info",
    "load_kernels",
    "model_kernels",
    "network_kernels",
]

BACKENDS: Final = ("auto", "cpp", "numba")
LEVEL_VARIABLE: Final = "L63FAST_INSTRUCTION_SET"


class Kernels(Protocol):
    """The functions that every backend has; their arguments are described in `jobs`."""

    def integrate(self, job: IntegrateJob, n_threads: int) -> int:
        """Fill the job's `out`; return the number of non-finite members."""

    def analyse(self, job: AnalysisJob, n_threads: int) -> tuple[np.ndarray, ...]:
        """Return state (n, 3), status, n_iter, cost (n,) and residual (n, obs_dim)."""

    def tangent(
        self, job: TangentJob, n_threads: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Return states and perturbations after n_steps, and how many are NaN."""

    def adjoint(self, job: TangentJob, n_threads: int) -> tuple[np.ndarray, int]:
        """Return gradients (n, k, 3) at the start, and how many are not finite."""

    def filter_particles(self, job: FilterJob, n_threads: int) -> FilteredParticles:
        """Return the particles after the job, and the results of its analyses.

        The backends agree in distribution, not in bits. C++ gives the same bits with
        every instruction set and any number of threads.
        """


class CompiledNetwork(Protocol):
    """A network in training (`network.hpp`), with the weights of one update.

    A slot holds `width` values of each sample, (n, width) float32; all arrays of slots
    have n_values * n + 16 values.
    """

    @property
    def n_values(self) -> int:
        """Number of values per sample in all slots."""

    def pack(self, parameters: list[np.ndarray]) -> None:
        """Take the parameters, of which the weights of the layers are pieces."""

    def take_gradients(self, gradients: list[np.ndarray]) -> None:
        """Fill the gradients of the parameters, and begin again with zero."""

    def forward(self, values: np.ndarray, n: int) -> None:
        """Fill the slots that layers write."""

    def backward(
        self,
        values: np.ndarray,
        gradients: np.ndarray,
        n: int,
    ) -> None:
        """Fill the gradients of the inputs, and add to those of the weights."""

    def chain(self, job: ChainJob) -> int:
        """Run cycles; return -1, or the cycle in which most estimates were lost."""

    def chain_backward(
        self,
        job: ChainJob,
        of_backgrounds: np.ndarray,
        of_analyses: np.ndarray,
        of_other: np.ndarray,
        gradients: np.ndarray,
    ) -> int:
        """Add to the gradients of the weights, given those of the loss."""


class NetworkKernels(Protocol):
    """The kernels of networks in training, which only the C++ backend has."""

    def network(
        self,
        slots: list[tuple[int, bool, bool]],
        layers: list[tuple[int, ...]],
        pieces: list[tuple[int, ...]],
        n_weights: int,
    ) -> CompiledNetwork:
        """Return a network.

        Parameters
        ----------
        slots : list of (int, bool, bool)
            Width, whether the gradient of the slot is needed, and whether `backward`
            gets the gradient of this slot, which is an output.
        layers : list of tuple of int
            Kind (0: linear, 1: silu, 2: GRU, 3: LSTM), two inputs, state, cell, saved,
            output and next cell as numbers of slots (-1: none), begin of the weights.
        pieces : list of tuple of int
            Number of a parameter (outputs, inputs), its first row, number of rows,
            first column and number of columns, and where its transpose begins in the
            weights, with how many weights from row to row. Pieces in one place are
            added up.
        n_weights : int
            Number of weights of all layers.
        """


@dataclass(frozen=True)
class BackendInfo:
    """The kernels that a backend name stands for on this machine.

    Attributes
    ----------
    name : str
        "cpp" or "numba".
    instruction_set : str
        "x86-64-v2", "-v3", "-v4", "generic", or "llvm" for Numba.
    n_threads : int
        Default number of threads of a call.
    reason : str
        Why this backend was chosen.
    """

    name: str
    instruction_set: str
    n_threads: int
    reason: str


@cache
def _cpp() -> tuple[ModuleType | None, str]:
    try:
        from l63fast._kernels import cpp
    except ImportError as error:
        why = f"the C++ extension cannot be imported ({error}); {_compiler()}"
        return None, why
    return cpp, "the C++ extension is installed"


def _compiler() -> str:
    """Return which C++ compiler an install would take now, and its version."""
    name = os.environ.get("CXX", "c++")
    command = [*shlex.split(name), "--version"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError, IndexError):
        return f"an install found no C++ compiler {name!r} here"
    version = told.stdout.partition("\n")[0] or f"exit status {told.returncode}"
    return f"an install would take the C++ compiler {name} here: {version}"


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, BackendWarning, stacklevel=4)


def load_kernels(backend: str = "auto", *, level: str | None = None) -> Kernels:
    """Return the kernels of a backend.

    Parameters
    ----------
    backend : {"auto", "cpp", "numba"}
        "auto" means C++ where it is installed, otherwise Numba with one warning. "cpp"
        and "numba" are never replaced by the other.
    level : str, optional
        Instruction set ("x86-64-v2", ...), for tests. The default is the value of the
        environment variable L63FAST_INSTRUCTION_SET, else the best of the processor.

    Raises
    ------
    ArgumentValueError
        If the backend is not one of the names above.
    BackendError
        If the backend or the level is not available here.
    """
    _checks.choice("backend", backend, BACKENDS)
    cpp, reason = _cpp() if backend != "numba" else (None, "")
    if cpp is not None:
        return _cpp_kernels(cpp, level)
    if backend == "cpp":
        raise BackendError(f"backend: 'cpp' was asked for, but {reason}")
    if level is not None:
        raise BackendError(f"level: only the C++ backend has levels, got {level!r}")
    if backend == "auto":
        _warn_once(f"Numba kernels are used (same results): {reason}")
    try:
        from l63fast._kernels import numba_kernels
    except (ImportError, ValueError) as error:  # ValueError: of NUMBA_NUM_THREADS
        raise BackendError(f"backend: Numba cannot be imported: {error}") from error
    return numba_kernels


def model_kernels(taylor: int | None, backend: str = "auto") -> Kernels:
    """Return the kernels of a backend for steps of this Taylor order; None: RK4.

    Errors are those of `load_kernels`.
    """
    kernels = load_kernels(backend)
    return kernels if taylor is None else TaylorKernels(taylor, kernels)


def _cpp_kernels(cpp: ModuleType, level: str | None) -> Kernels:
    if level is not None:
        if level not in cpp.levels():
            raise BackendError(
                f"level: expected one of {', '.join(cpp.levels())}, got {level!r}"
            )
        return cpp.kernels(level)  # type: ignore[no-any-return]
    wanted = cpp.environment(LEVEL_VARIABLE)  # at each call: it may have been changed
    return cpp.kernels(_default_level(cpp.levels(), wanted))  # type: ignore[no-any-return]


@cache
def _default_level(available: tuple[str, ...], wanted: str | None) -> str:
    if wanted in available:
        return wanted
    if wanted is not None:
        _warn_once(
            f"{LEVEL_VARIABLE}: expected one of {', '.join(available)}, got "
            f"{wanted!r}; {available[-1]} is used"
        )
    return available[-1]


def network_kernels() -> NetworkKernels | None:
    """Return the kernels of networks; None where torch is faster or there is no C++.

    Without an fma instruction the same bits take much longer.
    """
    kernels: Any = load_kernels()
    return kernels if getattr(kernels, "native_fma", False) else None


def backend_info(backend: str = "auto") -> BackendInfo:
    """Return the kernels that `backend` stands for here, and why."""
    _checks.choice("backend", backend, BACKENDS)
    n_threads = _checks.threads("n_threads", None)
    cpp, reason = _cpp()
    if cpp is None or backend == "numba":
        if backend == "cpp":
            raise BackendError(f"backend: 'cpp' was asked for, but {reason}")
        why = "Numba was asked for" if backend == "numba" else reason
        return BackendInfo("numba", "llvm", n_threads, why)
    level = _default_level(cpp.levels(), cpp.environment(LEVEL_VARIABLE))
    return BackendInfo("cpp", level, n_threads, reason)
