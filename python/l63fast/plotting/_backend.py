"""Imports matplotlib with any value of MPLBACKEND: our figures need no backend."""

from __future__ import annotations

import os
import sys
import warnings

from l63fast.errors import BackendWarning


def _import_matplotlib() -> None:
    """Import matplotlib without the variable, and set its backend afterwards.

    The import itself fails if MPLBACKEND names an unknown backend.
    """
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    try:
        if named:
            mpl.rcParams["backend"] = named
    except ValueError:
        warnings.warn(
            f"MPLBACKEND: expected a backend of matplotlib, got {named!r}; "
            "it is ignored",
            BackendWarning,
            stacklevel=2,
        )


_import_matplotlib()
