"""Times of functions, measured on one core, in turns, without garbage collection."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Final

MOST_ROUNDS: Final = 200


@contextmanager
def one_core() -> Iterator[None]:
    """Keep the process on one core, where the system can; restore this at the end."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def collector_off() -> Iterator[None]:
    """Switch the garbage collector off, and restore it at the end."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def once(call: Callable[[], object]) -> float:
    """Return the time of one call (seconds), without the time to free its result."""
    start = perf_counter()
    result = call()
    seconds = perf_counter() - start
    del result
    return seconds


def quartile(times: Sequence[float]) -> float:
    """Return the lower quartile, which is one of the given times."""
    return sorted(times)[(len(times) - 1) // 4]


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, seconds: float, least_rounds: int = 3
) -> dict[str, float]:
    """Return the time of each call (seconds), measured in turns.

    In turns all calls meet the same load of the machine and the same clock rate, so
    that ratios between them are reliable even where single times are not. The result is
    the lower quartile over the rounds, since disturbances only make a call longer.

    Parameters
    ----------
    calls : name -> function
        Each is called once before, without timing, to compile and to load its data.
    seconds : float
        Time to spend on all calls together.
    least_rounds : int
        Smallest number of rounds, however long they take.
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    with collector_off():
        end = perf_counter() + seconds
        for done in range(MOST_ROUNDS):
            if done >= least_rounds and perf_counter() > end:
                break
            for name, call in calls.items():
                times[name].append(once(call))
    return {name: quartile(series) for name, series in times.items()}
