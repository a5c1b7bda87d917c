"""A network with layers of every kind, made of integers, for tests of its kernels."""

from __future__ import annotations

import numpy as np

import golden
from l63fast._kernels import Kernels

# Slots: an input, h and c before. Width, whether differentiated, whether an output.
INPUTS = [(3, True, False), (21, True, False), (21, True, False)]
N_SAVED = {"silu": 1, "gru": 4, "lstm": 5}


def integers(*shape: int, step: int) -> np.ndarray:
    """Return numbers between -1 and 1, exact in float32."""
    count = int(np.prod(shape))
    return ((np.arange(count) * step % 127 - 63) / 64).astype(np.float32).reshape(shape)


def network(kernels: Kernels):
    """Return silu(3 + 21) -> gru -> lstm -> linear, its slots and its weights."""
    widths = [21, 21, 21, 84, 21, 105, 21, 5]
    slots = [*INPUTS, *((width, True, width == 5) for width in widths)]
    n = 21
    sizes = [(3 + n) * n + n, (n + 3 + n) * 3 * n + 4 * n, 8 * n * n + 4 * n]
    begins = np.cumsum([0, *sizes])
    layers = [
        (1, 0, 1, -1, -1, 4, 3, -1, begins[0]),
        (2, 3, 0, 1, -1, 6, 5, -1, begins[1]),
        (3, 5, -1, 5, 2, 8, 7, 9, begins[2]),
        (0, 7, 0, -1, -1, -1, 10, -1, begins[3]),
    ]
    n_weights = int(begins[3]) + 24 * 5 + 5
    layers = [tuple(map(int, layer)) for layer in layers]
    pieces = [(0, 0, n_weights, 0, 1, 0, 1)]
    return kernels.network(slots, layers, pieces, n_weights), slots, n_weights


def there_and_back(kernels: Kernels, n: int) -> tuple[np.ndarray, ...]:
    """Return values and gradients of all slots, (n, width) each, and of the weights."""
    net, slots, n_weights = network(kernels)
    net.pack([integers(n_weights, step=53) / np.float32(4)])
    size = net.n_values * n
    values, gradients = np.full((2, size + 16), 7, np.float32)
    sums = np.zeros(n_weights, np.float32)
    samples = [integers(400, width, step=41)[:n] for width, *_ in INPUTS]
    values[: 45 * n] = np.concatenate([part.ravel() for part in samples])
    net.forward(values, n)
    gradients[:] = 0.0
    gradients[size - 5 * n : size] = integers(400, 5, step=59)[:n].ravel()
    net.backward(values, gradients, n)
    net.take_gradients([sums])
    ends = np.cumsum([n * width for width, *_ in slots])[:-1]
    parts = [np.split(array[:size], ends) for array in (values, gradients)]
    of_slots = [
        part.reshape(n, width)
        for array in parts
        for part, (width, *_) in zip(array, slots, strict=True)
    ]
    return *of_slots, sums


def golden_bits(kernels: Kernels) -> str:
    """Hash all values and gradients of 100 samples."""
    return golden.digest(*there_and_back(kernels, 100))


GOLDEN = "d8a4bf7759a43853930861220707148926e9e7f44149298a2f9966cd9f52d499"
