"""Whether observations belong to their truth, judged by the innovations y - h(x_t)."""

from __future__ import annotations

from typing import Final

import numpy as np

from l63fast.observation import ObservationOperator
from l63fast.twin.split import Split

__all__ = ["misalignment"]

_TAIL: Final = 30.0  # -log of the chance of a false alarm: 1e-13
_BETTER: Final = 6.0  # standard errors by which another pairing must fit better
_ENOUGH: Final = 50  # observations below which a comparison of means says nothing
_ROUNDING: Final = 4.0 * np.finfo(np.float64).eps


def misalignment(
    split: Split, operator: ObservationOperator, R: np.ndarray, *, slack: float = 1.0
) -> str | None:
    """Return what is wrong with the pairing of observations and truth, None if nothing.

    Two tests. The normalised squared innovations d^T R^-1 d / m average 1; they are
    compared with an exact bound of the chi-squared tail (Laurent and Massart 2000,
    lemma 1), over all and for each trajectory. And no pairing shifted by a time or a
    trajectory may fit better, which needs no knowledge of R.

    Parameters
    ----------
    split : Split
    operator : ObservationOperator
    R : (m, m)
    slack : float
        Factor allowed on the variance, for data whose R is an estimate.
    """
    squares = _squared_innovations(split, operator, R)
    by_trajectory = squares.mean(axis=1)
    n_obs, m = split.observations.shape[1:]
    overall = float(squares.mean())
    if not overall <= slack * _bound(squares.size * m):
        return (
            "the innovations y - h(truth) have "
            f"{_times(overall)} the standard deviation that R says"
        )
    worst = int(np.argmax(by_trajectory))
    if not by_trajectory[worst] <= slack * _bound(n_obs * m, len(by_trajectory)):
        return (
            f"the innovations of trajectory {worst} have "
            f"{_times(float(by_trajectory[worst]))} the standard deviation that R says"
        )
    return _better_shift(split, operator, R)


def _times(ratio: float) -> str:
    return f"{np.sqrt(ratio):.3g} times"


def _bound(degrees: int, n_tests: int = 1) -> float:
    tail = (_TAIL + np.log(n_tests)) / degrees
    return float(1.0 + 2.0 * np.sqrt(tail) + 2.0 * tail)


def _squared_innovations(
    split: Split, operator: ObservationOperator, R: np.ndarray
) -> np.ndarray:
    """Return d^T R^-1 d / m, (n, n_obs); R is widened by what rounding alone makes."""
    expected = operator(split.truth_at_observations)
    innovations = split.observations - expected
    largest = max(float(np.abs(expected).max()), 1.0)
    widened = R + (_ROUNDING * largest) ** 2 * np.eye(len(R))
    weighted = innovations @ np.linalg.inv(widened)
    return np.asarray((weighted * innovations).mean(axis=-1))


def _better_shift(
    split: Split, operator: ObservationOperator, R: np.ndarray
) -> str | None:
    weight = _weight(R)
    positions = split.observation_steps // split.save_every
    fitting = _squares(split.observations - operator(split.truth[:, positions]), weight)
    cycle = int(positions[0])
    shifts = [(0, time) for time in sorted({-cycle, -1, 1, cycle})]
    if split.n_trajectories > 1:
        shifts += [(-1, 0), (1, 0)]
    for trajectories, times in shifts:
        moved = positions + times
        inside = (moved >= 0) & (moved < split.truth.shape[1])
        other = np.roll(operator(split.truth[:, moved[inside]]), trajectories, axis=0)
        shifted = _squares(split.observations[:, inside] - other, weight)
        gain = fitting[:, inside] - shifted
        if gain.size < _ENOUGH:
            continue
        if gain.mean() > _BETTER * gain.std() / np.sqrt(gain.size):
            what = "trajectories" if trajectories else "saved times"
            return (
                "the observations fit the truth better moved by "
                f"{trajectories or times:+d} {what}"
            )
    return None


def _weight(R: np.ndarray) -> np.ndarray:
    return np.linalg.inv(R) if R.any() else np.eye(len(R))


def _squares(differences: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.asarray(((differences @ weight) * differences).sum(axis=-1))
