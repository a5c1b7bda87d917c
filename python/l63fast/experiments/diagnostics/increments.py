"""Increments beside those needed, the gain in them, and the error in space."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from l63fast.experiments.diagnostics.run import Run

__all__ = ["MAP_EDGES", "error_map", "gains", "increments"]

_BINS: Final = 61
_WITHIN: Final = 98.0  # per cent of what was needed that the histogram spans
MAP_EDGES: Final = (np.linspace(-21.0, 21.0, 43), np.linspace(0.0, 50.0, 51))  # x, z


def error_map(run: Run) -> dict[str, Any]:
    """Return mean squared error and number of analyses by x and z of the truth."""
    square = run.errors**2
    x, z = run.truth[..., 0].ravel(), run.truth[..., 2].ravel()
    counts = np.histogram2d(x, z, bins=list(MAP_EDGES))[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.histogram2d(x, z, bins=list(MAP_EDGES), weights=square.ravel())[0]
        mean = np.where(counts > 0, total / counts, np.nan)
    dims = ("map_x", "map_z")
    return {
        "map_square": (dims, mean.astype(np.float32)),
        "map_count": (dims, counts.astype(np.int32)),
    }


def increments(run: Run) -> dict[str, Any]:
    """Return the distribution of increments x_a - x_b and of those needed, x_t - x_b.

    By component: shares per bin, root mean squares and their correlation. What is not
    finite is left out; `failure_share` counts it.
    """
    made, needed = _increments(run)
    names = ("increment_edges", "increment_share", "increment_needed")
    dims = {names[0]: "edge", names[1]: "bin", names[2]: "bin"}
    found: dict[str, list[Any]] = {name: [] for name in names}
    for c in range(3):
        reach = max(float(np.percentile(np.abs(needed[:, c]), _WITHIN)), 1e-12)
        edges = np.linspace(-reach, reach, _BINS + 1)
        found[names[0]].append(edges)
        found[names[1]].append(np.histogram(made[:, c], edges)[0] / len(made))
        found[names[2]].append(np.histogram(needed[:, c], edges)[0] / len(needed))
    squares = [(made**2).mean(axis=0), (needed**2).mean(axis=0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        together = (made * needed).mean(axis=0) / np.sqrt(squares[0] * squares[1])
    shares = {k: (("component", dims[k]), np.array(v)) for k, v in found.items()}
    return {
        **shares,
        "increment_rms": (("component",), np.sqrt(squares[0])),
        "increment_needed_rms": (("component",), np.sqrt(squares[1])),
        "increment_correlation": (("component",), together),
    }


def gains(run: Run) -> dict[str, Any]:
    """Return the gain that is in the increments, and the best for these backgrounds.

    Least squares of increments, made or needed, on innovations d = y - H x_b, for a
    linear operator: for a linear scheme the first is its K, and the second is the
    best linear analysis of the same backgrounds. `gain_explained` is the share of the
    square of the increments that the first explains.
    """
    if not run.operator.is_linear:
        return {}
    made, needed = _increments(run)
    background = run.background.reshape(-1, 3)
    innovation = run.observations.reshape(len(background), -1)
    innovation = innovation - run.operator(background)
    innovation = innovation[_finite(run)]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.linalg.lstsq(innovation, made, rcond=None)[0].T
        best = np.linalg.lstsq(innovation, needed, rcond=None)[0].T
        left = ((made - innovation @ gain.T) ** 2).mean(axis=0)
        explained = 1.0 - left / (made**2).mean(axis=0)
    dims = ("component", "observed")
    return {
        "gain": (dims, gain),
        "gain_needed": (dims, best),
        "gain_explained": (("component",), explained),
    }


def _finite(run: Run) -> np.ndarray:
    made = run.judged.analysis - run.judged.background
    return np.asarray(np.isfinite(made).all(axis=-1).ravel())


def _increments(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return increments made and needed (n, 3), of the analyses that are finite."""
    judged, finite = run.judged, _finite(run)
    made = (judged.analysis - judged.background).reshape(-1, 3)[finite]
    needed = (judged.truth - judged.background).reshape(-1, 3)[finite]
    if not finite.any():
        return np.full((1, 3), np.nan), np.full((1, 3), np.nan)
    return made, needed
