"""Gaps in observations: missing values, and times of observation at any steps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np

from l63fast import _checks, _random
from l63fast.errors import ArgumentTypeError, ArgumentValueError

_REGULAR: Final = 10  # default of steps_per_cycle


def share(name: str, value: Any) -> float:
    """Return a share from 0 to below 1."""
    number = _checks.real(name, value, minimum=0.0)
    if number >= 1.0:
        raise ArgumentValueError(f"{name}: expected a number below 1, got {number:g}")
    return number


def observation_times(
    steps_per_cycle: Any, interval: Any, steps: Any, *, n_steps: int, dt: float
) -> dict[str, Any]:
    """Return the three settings of the times of observation, of which one decides."""
    cycle = None
    if interval is not None:
        interval = _range(interval, dt, n_steps)
        cycle = max(round(sum(interval) / 2 / dt), 1)
        if steps is not None:
            raise ArgumentValueError(
                f"observation_steps: expected none with interval {interval}, which "
                "draws them, got both"
            )
    if steps is not None:
        steps = rising_steps(steps, n_steps)
        cycle = max(round(steps[-1] / len(steps)), 1)
        if set(np.diff(steps, prepend=0)) == {cycle} and n_steps - steps[-1] < cycle:
            steps = None  # a regular interval is the special case
    if steps_per_cycle is not None:
        given = _checks.count("steps_per_cycle", steps_per_cycle, minimum=1)
        if cycle not in (None, given):
            raise ArgumentValueError(
                "steps_per_cycle: expected none where interval or observation_steps "
                f"decides the times of observation, got {given}"
            )
        cycle = given
    names = ("steps_per_cycle", "interval", "observation_steps")
    return dict(zip(names, (cycle or _REGULAR, interval, steps), strict=True))


def _range(interval: Any, dt: float, n_steps: int) -> tuple[float, ...]:
    """Return two times, from one step on, the longer one within a trajectory."""
    if not isinstance(interval, (list, tuple)) or len(interval) != 2:
        raise ArgumentTypeError(
            "interval: expected the shortest and the longest time between observations "
            f"(time units), such as (0.1, 0.4), got {interval!r}"
        )
    low, high = (_checks.real("interval", time, above=0.0) for time in interval)
    if not 1 <= round(low / dt) <= round(high / dt) <= n_steps:
        raise ArgumentValueError(
            f"interval: expected two rising times from dt = {dt:g} to n_steps dt = "
            f"{n_steps * dt:g}, got ({low:g}, {high:g})"
        )
    return low, high


def rising_steps(steps: Any, n_steps: int) -> tuple[int, ...]:
    """Return given steps of observation as integers, from 1 to n_steps."""
    array = _checks.as_array("observation_steps", steps)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise ArgumentTypeError(
            f"observation_steps: expected (n_obs,) integers, got {array.dtype} of "
            f"shape {array.shape}"
        )
    wrong = np.diff(array.astype(np.int64), prepend=0, append=n_steps + 1) < 1
    if wrong.any():
        k = int(wrong.argmax())
        raise ArgumentValueError(
            f"observation_steps: expected rising steps from 1 to n_steps = {n_steps}, "
            f"got {array[max(k - 1, 0) : k + 1].tolist()}"
        )
    return tuple(array.tolist())


def steps_between(
    interval: tuple[float, ...], dt: float, draws: np.ndarray
) -> np.ndarray:
    """Return times that are uniform between two, in steps, of uniforms in (0, 1)."""
    low, high = interval
    return np.rint((low + (high - low) * draws) / dt).astype(np.int64)


def with_times(observations: np.ndarray, cycle_times: np.ndarray) -> np.ndarray:
    """Return observations as encoders with gaps read them, (..., n_obs, m + 1).

    Parameters
    ----------
    observations : (..., n_obs, m)
        NaN where a value was not observed.
    cycle_times : (n_obs,)
        Time since the previous observation (time units), which becomes the last value
        of each.
    """
    column = np.broadcast_to(cycle_times[:, None], (*observations.shape[:-1], 1))
    return np.concatenate([observations, column], axis=-1)


@lru_cache(maxsize=8)
def drawn_steps(
    interval: tuple[float, ...], dt: float, n_steps: int, seed: int
) -> np.ndarray:
    """Return the steps of observation (n_obs,) up to n_steps, at drawn intervals.

    They are uniform between two times (time units) and rounded to steps. The k-th
    depends only on the seed and k.
    """
    n = n_steps // round(interval[0] / dt)
    _checks.memory("n_steps", 128 * n)
    draws = _random.uniforms(seed, "interval", "none", n, ())
    steps = np.cumsum(steps_between(interval, dt, draws))
    steps = steps[: np.searchsorted(steps, n_steps, side="right")]
    steps.setflags(write=False)
    return steps
