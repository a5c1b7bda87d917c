"""Default IEEE 754 arithmetic for the kernels, whatever the caller has set.

Whether denormal numbers are kept or flushed to zero depends on a register of each
thread. A library built with fast-math or `torch.set_flush_denormal` may have changed
it. And `np.seterr` can turn an underflow, which changes no result, into an exception.
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
_SIZE: Final = 512  # bytes, more than the size of any fenv_t (C standard, 7.6)
_THREAD: Final = threading.local()


def is_flushing() -> bool:
    """Return whether this thread flushes denormal numbers to zero."""
    return _LEAST * 1.0 == 0.0


def callers_flush() -> bool:
    """Return whether this thread flushes them outside of `ieee_arithmetic` blocks."""
    return is_flushing() or getattr(_THREAD, "callers_flush", False)


@contextmanager
def ieee_arithmetic() -> Iterator[None]:
    """Keep denormal numbers and stop NumPy from raising; restore both at the end.

    Threads that are started inside keep denormal numbers too. Also a decorator.

    Raises
    ------
    BackendError
        If denormal numbers are flushed and this system offers no way to keep them.
    """
    # Reactions "ignore" and "warn" of the caller change no result and are kept.
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
    """Return the C library with its functions of <fenv.h>, or None.

    Linux only: other systems have another address of FE_DFL_ENV.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.PyDLL(None)
    return library if hasattr(library, "fesetenv") else None
