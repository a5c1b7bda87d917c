"""Golden bits: inputs made of integers, hashes of what the kernels make of them.

Regenerate the hashes, golden.json, after an intended change of bits:

    python tests/helpers/golden.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from l63fast._kernels import AnalysisJob, IntegrateJob, Kernels, load_kernels
from l63fast.assimilation.three_d_var import n_basins
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator

HASHES_FILE: Final = Path(__file__).with_name("golden.json")
HASHES: Final[dict[str, str]] = json.loads(HASHES_FILE.read_text())
N: Final = 1013
PARAMETERS: Final = Lorenz63().as_tuple()


def states(n: int, dtype: np.dtype | type) -> np.ndarray:
    """Return n states around the attractor, exact in float32 and float64."""
    i = np.arange(n)
    parts = [i * 37 % 61 - 30, i * 53 % 71 - 35, 20 + i * 29 % 83]
    return (np.stack(parts, axis=-1) / 2.0).astype(dtype)


def digest(*arrays: np.ndarray) -> str:
    """Return the sha256 of the arrays' bytes, one after the other."""
    joined = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return hashlib.sha256(joined).hexdigest()


def integrated(
    kernels: Kernels,
    initial: np.ndarray,
    *,
    n_saved: int = 1,
    save_every: int = 1,
    n_threads: int = 1,
) -> np.ndarray:
    """Return (n, n_saved, 3) states, without the initial one."""
    out = np.empty((len(initial), n_saved, 3), initial.dtype)
    kernels.integrate(
        IntegrateJob(initial, out, save_every, 0.01, PARAMETERS), n_threads
    )
    return out


def problem(name: str, dtype: type, *, n: int = N, each: bool = False) -> tuple:
    """Return background, observation, B and R of n analyses, rounded once at most."""
    m = ObservationOperator(name).obs_dim
    background = states(n, np.float64)
    background[:3] = 0
    truth = states(n + 5, np.float64)[5:] * 0.25 + background * 0.75
    observation = ObservationOperator(name)(truth)
    B = np.array([[2.0, 1.5, 0.25], [1.5, 3.0, 0.5], [0.25, 0.5, 2.5]])
    R = np.eye(m) / 2 + 0.125
    scale = (1 + np.arange(n) % 7)[:, None, None] if each else np.ones((1, 1, 1))
    arrays = background, observation, B * scale, R * scale
    return tuple(np.ascontiguousarray(array, dtype) for array in arrays)


def analysed(
    kernels: Kernels,
    name: str,
    arrays: tuple,
    *,
    n_threads: int = 1,
    max_iter: int = 20,
) -> tuple[np.ndarray, ...]:
    """Return state, status, n_iter, cost and residual."""
    operator = ObservationOperator(name)
    tol = 1e-9 if arrays[0].dtype == np.float64 else 1e-5
    form = operator.components, operator.powers, n_basins(operator)
    return kernels.analyse(AnalysisJob(*arrays, *form, max_iter, tol), n_threads)


def forecast_bits(kernels: Kernels, dtype: type, n_threads: int) -> str:
    """Hash the states after 1,000 steps."""
    final = integrated(kernels, states(N, dtype), save_every=1000, n_threads=n_threads)
    return digest(final)


def simulate_bits(kernels: Kernels, dtype: type, n_threads: int) -> str:
    """Hash 1,000 steps, every 20th saved."""
    path = integrated(
        kernels, states(N, dtype), n_saved=50, save_every=20, n_threads=n_threads
    )
    return digest(path)


def diverging_bits(kernels: Kernels, dtype: type, n_threads: int) -> str:
    """Hash trajectories of which some leave the floating-point range."""
    far = states(N, dtype)
    far[::7] *= dtype(64)
    path = integrated(kernels, far, n_saved=40, n_threads=n_threads)
    assert 0 < np.count_nonzero(np.isnan(path[:, -1])) < path[:, -1].size
    return digest(path)


def analysis_bits(
    name: str, each: bool, kernels: Kernels, dtype: type, n_threads: int
) -> str:
    """Hash every output of 3D-Var."""
    arrays = problem(name, dtype, each=each)
    return digest(*analysed(kernels, name, arrays, n_threads=n_threads))


OPERATORS: Final = ("x", "xy", "xyz", "x2", "xz2", "x2y2", "x2y2z2", "x3", "y4z")
CASES: Final[dict[str, Callable[[Kernels, type, int], str]]] = {
    "forecast": forecast_bits,
    "simulate": simulate_bits,
    "simulate, some diverging": diverging_bits,
    **{
        f"three_d_var of {name}, {kind}": partial(analysis_bits, name, each)
        for name in OPERATORS
        for kind, each in (("B and R shared", False), ("B and R per sample", True))
    },
}
DTYPES: Final = (np.float64, np.float32)


def hashes(kernels: Kernels, n_threads: int = 1) -> dict[str, str]:
    """Return the hash of every case and dtype."""
    return {
        f"{case}, {dtype.__name__}": bits(kernels, dtype, n_threads)
        for case, bits in CASES.items()
        for dtype in DTYPES
    }


if __name__ == "__main__":
    HASHES_FILE.write_text(json.dumps(hashes(load_kernels()), indent=2) + "\n")
