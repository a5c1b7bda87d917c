"""Windows and weights for the kernel of the gated recurrent unit, made of integers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import golden
from l63fast._kernels import GruBackwardJob, GruJob, Kernels


class Weights(NamedTuple):
    """Rows of r, z and the candidate, as GruJob has them."""

    inputs: np.ndarray
    states: np.ndarray
    input_bias: np.ndarray
    state_bias: np.ndarray


class Problem(NamedTuple):
    """What the kernel is called with."""

    inputs: np.ndarray
    weights: Weights
    gradient: np.ndarray


def integers(*shape: int, step: int) -> np.ndarray:
    """Return numbers between -1 and 1, exact in float32."""
    count = int(np.prod(shape))
    return ((np.arange(count) * step % 127 - 63) / 64).astype(np.float32).reshape(shape)


def problem(n: int, length: int, inputs: int, units: int) -> Problem:
    """Return windows, weights, and a gradient with respect to the last states."""
    weights = Weights(
        integers(3 * units, inputs, step=37),
        integers(3 * units, units, step=53) / np.float32(4),
        integers(3 * units, step=29),
        integers(3 * units, step=71),
    )
    windows = 2 * integers(n, length, inputs, step=41)
    return Problem(windows, weights, integers(n, units, step=59))


def there_and_back(
    kernels: Kernels, problem: Problem, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gates, states and preactivation_grad."""
    n, length, _ = problem.inputs.shape
    units = problem.weights.states.shape[1]
    gates, grad = np.full((2, length, n, 4 * units), 7, np.float32)
    states = np.full((length, n, units), 7, np.float32)
    kernels.gru(GruJob(problem.inputs, *problem.weights, gates, states), n_threads)
    job = GruBackwardJob(problem.weights.states, gates, states, problem.gradient, grad)
    kernels.gru_backward(job, n_threads)
    return gates, states, grad


def golden_bits(kernels: Kernels, n_threads: int = 1) -> str:
    """Hash everything that the kernel makes of 21 windows."""
    return golden.digest(*there_and_back(kernels, problem(21, 4, 2, 37), n_threads))


GOLDEN = "edb5461c10dbb4b863f5e77e3ad3d3d48b200634e6fdd33b9bbdda180cd422b8"
