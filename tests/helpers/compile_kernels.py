"""Compiles Numba's kernels into its cache, as a script: beside tests, not in them."""

from __future__ import annotations

import numpy as np

from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import adjoint, forecast, propagator, simulate, tangent_linear


def main() -> None:
    """Call what is compiled for each type of number and each kind of operator."""
    for dtype in (np.float64, np.float32):
        states = np.ones((2, 3), dtype)
        for operator, size in (("x2z", 2), ("x2", 1), ("xy", 2)):
            three_d_var(
                states, np.ones((2, size), dtype), operator,
                B=np.eye(3), R=np.eye(size), backend="numba",
            )  # fmt: skip
        for function in (forecast, simulate, propagator):
            function(states, 2, backend="numba")
        for derivative in (tangent_linear, adjoint):
            derivative(states, states, 2, backend="numba")


if __name__ == "__main__":
    main()
