"""Named experiments: TOML files, as a user could have written them."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any, Final

__all__ = [
    "DEFAULT",
    "OF_WINDOWS",
    "PRESETS",
    "RECIPES",
    "preset_tables",
    "preset_text",
]

DEFAULT: Final = "quick"
# Those of single windows, and those in cycles; a test holds them beside the files.
OF_WINDOWS: Final = (
    *("quick", "windows", "windows-1000", "windows-losses"),
    *("seed-published", "seed-forecast"),
)
PRESETS: Final = (
    *OF_WINDOWS,
    *("sakov2012", "wiljes2017", "knet", "seed", "grid"),
    *("encoders", "encoders-short", "encoders-operators", "encoders-wiljes2017"),
    *("encoders-settings", "encoders-knet"),
)
# What `l63fast train --recipe` trains: methods of the preset `encoders`.
RECIPES: Final = {f"cycled-{name}": name for name in ("gru", "lstm", "mlp")}


def preset_text(name: str) -> str:
    """Return the TOML text of a preset."""
    folder = files("l63fast.experiments") / "presets"
    return (folder / f"{name}.toml").read_text("utf-8")


def preset_tables(name: str) -> dict[str, Any]:
    """Return the tables of a preset."""
    return tomllib.loads(preset_text(name))
