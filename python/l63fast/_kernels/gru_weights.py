"""The weights of a gated recurrent unit, as its kernels take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["GruWeights"]


class GruWeights(NamedTuple):
    """Rows of r, z and the candidate below one another, as torch's nn.GRU keeps them.

    Attributes
    ----------
    inputs : (3 n_units, n_inputs)
    states : (3 n_units, n_units)
    input_bias, state_bias : (3 n_units,)
    """

    inputs: np.ndarray
    states: np.ndarray
    input_bias: np.ndarray
    state_bias: np.ndarray
