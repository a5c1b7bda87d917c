"""The kernels in Numba: the same operations in the same order as in the C++ core.

Every multiply-add is an explicit fma, and the compiler may contract nothing else. So
the results are those of the C++ core to the last bit. Only the particle filter uses
other random numbers and agrees in distribution. The order of operations is specified
once, in the C++ headers (`cpp/include/l63fast/`). Only this folder imports Numba.
"""

from __future__ import annotations

from l63fast._kernels.numba_kernels.analysis import analyse
from l63fast._kernels.numba_kernels.integration import integrate
from l63fast._kernels.numba_kernels.particles import filter_particles
from l63fast._kernels.numba_kernels.tangent import adjoint, tangent

__all__ = [
    "adjoint",
    "analyse",
    "filter_particles",
    "integrate",
    "native_fma",
    "tangent",
]
