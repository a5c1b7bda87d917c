"""IEEE arithmetic in which no underflow raises, whatever the caller has set.

Denormal numbers are kept or flushed by a register of each thread, which a library built
with fast-math or `torch.set_flush_denormal` may have changed; and `np.seterr` can turn
an underflow that changes no result into an exception.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, Final

import numpy as np

from l63fast.errors import BackendError

_LEAST: Final = 5e-324  # the smallest denormal number
_SIZE: Final = 512  # bytes, more than any fenv_t (C standard, 7.6) takes
_THREAD: Final = threading.local()


def is_flushing() -> bool:
    """Return whether this thread takes denormal numbers for zero."""
    return _LEAST * 1.0 == 0.0


def callers_flush() -> bool:
    """Return whether it does so outside of every block of `ieee_arithmetic`."""
    return is_flushing() or getattr(_THREAD, "callers_flush", False)


@contextmanager
def ieee_arithmetic() -> Iterator[None]:
    """Keep denormal numbers, and let NumPy raise nothing; afterwards as it was.

    Threads that are started inside keep denormal numbers too. Decorates functions.

    Raises
    ------
    BackendError
        If denormal numbers are flushed and this system offers no way to keep them.
    """
    # What the caller ignores, or is warned of, changes no result and stays.
    loud: dict[str, Any] = {
        kind: "ignore" if kind == "under" else "warn"
        for kind, reaction in np.geterr().items()
        if reaction not in ("ignore", "warn")
    }
    with np.errstate(**loud) if loud else nullcontext():
        if not is_flushing():
            yield
            return
        library = _floating_point()
        callers = ctypes.create_string_buffer(_SIZE)
        if library is not None:
            library.fegetenv(callers)
            library.fesetenv(ctypes.c_void_p(-1))  # FE_DFL_ENV of glibc and musl
        if is_flushing():
            raise BackendError(
                "arithmetic: expected denormal numbers to be kept, got a thread that "
                "flushes them to zero; call torch.set_flush_denormal(False) first"
            )
        _THREAD.callers_flush = True
        try:
            yield
        finally:
            _THREAD.callers_flush = False
            library.fesetenv(callers)


@cache
def _floating_point() -> Any:
    """Return the C library's functions of <fenv.h>, None where there are none.

    Linux only: the address of FE_DFL_ENV is another one elsewhere.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.PyDLL(None)
    return library if hasattr(library, "fesetenv") else None
