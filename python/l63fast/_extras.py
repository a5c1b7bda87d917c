"""Names the extra that brings an optional package which is not installed."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Final

# Not in the finder: an import there, below the lock of another, would wait for ever.
from l63fast.errors import MissingPackageError

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


def _importer() -> str:
    """Return the name of the module that the innermost import statement is in."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in ("importlib", "_frozen_importlib"):
            return module
        frame = frame.f_back
    return ""


sys.meta_path.append(MissingExtra)
