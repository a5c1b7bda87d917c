"""Times functions fairly: one core, in turns, warmed, no garbage collection."""

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
    """Keep the process on one core, where the system can; afterwards as it was."""
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
    """Keep the garbage collector from running; afterwards as it was."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def once(call: Callable[[], object]) -> float:
    """Return the time of one call (seconds); its result is freed off the clock."""
    start = perf_counter()
    result = call()
    seconds = perf_counter() - start
    del result
    return seconds


def quartile(times: Sequence[float]) -> float:
    """Return the lower quartile, one of the times themselves."""
    return sorted(times)[(len(times) - 1) // 4]


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, seconds: float, least_rounds: int = 3
) -> dict[str, float]:
    """Return the time of each call (seconds), measured one after the other.

    Taking turns, they meet the same neighbours and the same clock rate, so that ratios
    between them hold where times alone would not. The lower quartile of the rounds is
    taken: what disturbs a call can only lengthen it.

    Parameters
    ----------
    calls : name -> function
        Each is called once before, untimed: that compiles and touches what it needs.
    seconds : float
        Time to spend on all of them together.
    least_rounds : int
        Rounds at least, however long they take.
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
