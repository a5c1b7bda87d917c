"""The kernels in Numba: the same expressions in the same order as the C++ core.

Every multiply-add is an explicit fma and nothing else may be contracted, so the results
are those of the C++ core to the last bit; only the particle filter, whose random
numbers are others, agrees in distribution. The order is specified once, on the C++ side
(`cpp/include/l63fast/`). Numba is imported here and nowhere else.
"""

from __future__ import annotations

from l63fast._kernels.numba_kernels.analysis import analyse
from l63fast._kernels.numba_kernels.gru import gru, gru_backward
from l63fast._kernels.numba_kernels.integration import integrate
from l63fast._kernels.numba_kernels.particles import filter_particles
from l63fast._kernels.numba_kernels.tangent import adjoint, tangent

__all__ = [
    "adjoint",
    "analyse",
    "filter_particles",
    "gru",
    "gru_backward",
    "integrate",
    "native_fma",
    "tangent",
]

native_fma = False  # of what is made of many multiply-adds, C++ alone pays
