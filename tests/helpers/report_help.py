"""A small experiment with its report, for the tests of the page; also as a script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from experiment_samples import tiny_cycled
from l63fast.experiments.report import page, report, write_report

__all__ = ["CASES", "experiment_with_report", "quick_report", "unsaved"]

# Two operators, one of them blind to the sign, and two errors: every kind of section.
CASES: dict[str, Any] = {
    "vary": {"operator": ["xy", "x2"], "sigma": [0.5, 1.0]},
    "methods": {
        "3dvar": {"scheme": "3dvar", "b_scale": 0.1, "B": "climatology"},
        "best": {"scheme": "optimum", "n_particles": 3000, "max_particles": 3000},
    },
}


def experiment_with_report(root: Path) -> Path:
    """Run a small experiment of several cases and report on it; return its folder."""
    tiny_cycled("oi", "pf", **CASES).run(root)
    write_report(root / "tiny")
    return root / "tiny"


def unsaved(picture: Any, folder: Path) -> dict[str, Any]:
    """Return a picture as it stands on a page, without its file, which takes long."""
    return {"picture": picture, "address": "", "is_wide": False, "is_moving": False}


def quick_report(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Report on an experiment with figures that are drawn and not written."""
    monkeypatch.setattr(page, "_saved", unsaved)
    return report(folder)


if __name__ == "__main__":
    experiment_with_report(Path(sys.argv[1]))
