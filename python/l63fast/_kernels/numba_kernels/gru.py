"""A GRU over a window and its backpropagation; the order is that of gru.cpp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels.jobs import GruBackwardJob, GruJob
from l63fast._kernels.numba_kernels.compile import fma, jit
from l63fast._kernels.numba_kernels.gates import gates_of, gradient_of
from l63fast._kernels.numba_kernels.threads import in_threads


@jit
def _step(
    inputs: Any, state: Any, x_weights: Any, h_weights: Any, bias: Any, work: Any
) -> None:
    """Write the pre-activations of r and z, the state and the input part to `work`.

    `bias` is (4, n_units) in that order; the weights are transposed. `state` is empty
    in the first step.
    """
    h = bias.shape[1]
    # Sums start from the biases, then states, then inputs: the order of gru.cpp.
    work[:] = bias
    for k in range(len(state)):
        value = state[k]
        for g in range(3):
            row, weights = work[g], h_weights[k, g * h : (g + 1) * h]
            for j in range(h):
                row[j] = fma(value, weights[j], row[j])
    for k in range(len(inputs)):
        value = inputs[k]
        for g in range(3):
            row = work[3 if g == 2 else g]
            weights = x_weights[k, g * h : (g + 1) * h]
            for j in range(h):
                row[j] = fma(value, weights[j], row[j])


@jit
def _window(
    inputs: Any, x_weights: Any, h_weights: Any, bias: Any, gates: Any, states: Any
) -> None:
    """Run the GRU over one window (L, n_inputs)."""
    h = bias.shape[1]
    work = np.empty_like(bias)
    zero = np.zeros(h, np.float32)
    for t in range(len(inputs)):
        before = states[t - 1] if t > 0 else zero
        _step(inputs[t], before[: h if t > 0 else 0], x_weights, h_weights, bias, work)
        out, after = gates[t], states[t]
        for j in range(h):
            r, z, c, end = gates_of(
                work[0, j], work[1, j], work[3, j], work[2, j], before[j]
            )
            out[j], out[h + j] = r, z
            out[2 * h + j], out[3 * h + j] = c, work[2, j]
            after[j] = end


@jit
def _window_backward(
    weights: Any, gates: Any, states: Any, gradient: Any, preactivation_grad: Any
) -> None:
    """Carry a gradient (n_units,) back through one window; it is overwritten."""
    h = len(gradient)
    zero = np.zeros(h, np.float32)
    for t in range(len(gates) - 1, -1, -1):
        before = states[t - 1] if t > 0 else zero
        g, out = gates[t], preactivation_grad[t]
        for j in range(h):
            reset, update, part, given, kept = gradient_of(
                (g[j], g[h + j], g[2 * h + j], g[3 * h + j]), before[j], gradient[j]
            )
            out[j], out[h + j] = reset, update
            out[2 * h + j], out[3 * h + j] = part, given
            gradient[j] = kept
        if t > 0:
            for k in range(3 * h):
                value, row = out[k], weights[k]
                for j in range(h):
                    gradient[j] = fma(value, row[j], gradient[j])


@jit
def _windows(
    inputs: Any, x_weights: Any, h_weights: Any, bias: Any, gates: Any, states: Any
) -> None:
    for i in range(len(inputs)):
        _window(inputs[i], x_weights, h_weights, bias, gates[:, i], states[:, i])


@jit
def _windows_backward(
    weights: Any, gates: Any, states: Any, gradient: Any, preactivation_grad: Any
) -> None:
    for i in range(len(gradient)):
        out = preactivation_grad[:, i]
        _window_backward(weights, gates[:, i], states[:, i], gradient[i], out)


@ieee_arithmetic()
def gru(job: GruJob, n_threads: int) -> None:
    """Fill the job's `gates` and `states`."""
    x_bias, h_bias = job.input_bias.reshape(3, -1), job.state_bias.reshape(3, -1)
    sums = x_bias[:2] + h_bias[:2]
    bias = np.concatenate([sums, h_bias[2:], x_bias[2:]])
    weights = job.input_weights.T.copy(), job.state_weights.T.copy()

    def run(begin: int, end: int, cancelled: Callable[[], bool]) -> int:
        rows = slice(begin, end)
        gates, states = job.gates[:, rows], job.states[:, rows]
        _windows(job.inputs[rows], *weights, bias, gates, states)
        return 0

    in_threads(run, len(job.inputs), n_threads)


@ieee_arithmetic()
def gru_backward(job: GruBackwardJob, n_threads: int) -> None:
    """Fill the job's `preactivation_grad`."""
    carried = job.gradient.copy()

    def run(begin: int, end: int, cancelled: Callable[[], bool]) -> int:
        rows = slice(begin, end)
        gates, states = job.gates[:, rows], job.states[:, rows]
        grad = job.preactivation_grad[:, rows]
        _windows_backward(job.state_weights, gates, states, carried[rows], grad)
        return 0

    in_threads(run, len(carried), n_threads)
