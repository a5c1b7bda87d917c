"""Which instruction sets the C++ kernels have here."""

from __future__ import annotations


def levels() -> tuple[str, ...]:
    """Return their names, rising; none where the extension is not installed."""
    try:
        from l63fast._kernels import cpp
    except ImportError:
        return ()
    return cpp.levels()
