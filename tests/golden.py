"""Inputs made of integers and the hashes of what the kernels make of them."""

from __future__ import annotations

import hashlib

import numpy as np

# 1,013 members, 1,000 steps of 0.01, every 100th saved.
SIMULATE = {
    "float64": "1548a051b3435be6ac0be18a43063ce580923ae04d99a5a7749babb702f56bb5",
    "float32": "15b8b0624ead53aad82ac36c7db49cf74c469283fd4f22a0056a393429d43e4e",
}


def states(n: int, dtype: np.dtype | type) -> np.ndarray:
    """Return n states around the attractor, exact in float32 and float64."""
    i = np.arange(n)
    parts = [i * 37 % 61 - 30, i * 53 % 71 - 35, 20 + i * 29 % 83]
    return (np.stack(parts, axis=-1) / 2.0).astype(dtype)


def digest(*arrays: np.ndarray) -> str:
    """Return the sha256 of the arrays' bytes, one after the other."""
    joined = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return hashlib.sha256(joined).hexdigest()
