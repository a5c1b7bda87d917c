"""Names the extra that brings an optional package which is not installed."""

from __future__ import annotations

import sys
from importlib import import_module
from types import FrameType
from typing import Any, Final

# Not in the finder: an import there, below the lock of another, would wait for ever.
from l63fast.errors import MissingNameError, MissingPackageError

EXTRAS: Final = {
    "data": ("netCDF4", "pandas", "xarray"),
    "plot": ("PIL", "matplotlib", "mpl_toolkits"),
    "learn": ("safetensors", "torch"),
    "cli": ("jinja2", "pydantic", "rich", "tomli_w", "typer"),
    "cluster": ("dask", "distributed"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
}
_OURS: Final = "l63fast."
_NEED_CLI: Final = ("l63fast.cli", "l63fast.experiments")
_EXTRA_OF: Final = {name: extra for extra, names in EXTRAS.items() for name in names}


class MissingExtra:
    """A finder of modules that is asked last, finds nothing, and says what is missing.

    Packages are imported where they are used, in some fifty places; this one place
    speaks for all of them, and only where it is l63fast that imports.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Raise MissingPackageError if l63fast imports a package of an extra."""
        if name not in _EXTRA_OF or not f"{(module := _importer())}.".startswith(_OURS):
            return
        extra = _EXTRA_OF[name]
        if module.startswith(_NEED_CLI) and extra in ("data", "plot"):
            extra = "cli"  # which brings both
        raise MissingPackageError(
            f"{name} is not installed; it comes with: pip install 'l63fast[{extra}]'",
            name=name,
        )


def load(module: str, name: str = "") -> Any:
    """Return a module, or a name of it, for the `__getattr__` of a package.

    Raises
    ------
    MissingNameError
        An extra is missing. No exception can be both an AttributeError, which hasattr()
        needs, and an ImportError, as which `from l63fast import name` passes it on.
    """
    try:
        loaded = import_module(module)
        return getattr(loaded, name) if name else loaded
    except MissingPackageError as error:
        if _is_import(sys._getframe(2)):
            raise
        raise MissingNameError(str(error), name=name or module) from None


def _is_import(frame: FrameType) -> bool:
    """Return whether a frame is of Python's import machinery."""
    root = str(frame.f_globals.get("__name__")).partition(".")[0]
    return root in ("importlib", "_frozen_importlib")


def _importer() -> str:
    """Return the name of the module that the innermost import statement is in."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and _is_import(frame):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")) if frame is not None else ""


sys.meta_path.append(MissingExtra)
