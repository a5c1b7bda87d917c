"""Timing takes turns, warms up, and leaves cores and collector as they were."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import pytest

from l63fast import _timing
from l63fast._timing import collector_off, in_turns, once, one_core, quartile


def test_calls_take_turns_after_one_untimed_call_each() -> None:
    seen: list[str] = []
    calls = {name: lambda name=name: seen.append(name) for name in "ab"}
    times = in_turns(calls, seconds=0.0, least_rounds=3)
    assert seen == ["a", "b"] * 4
    assert set(times) == {"a", "b"}
    assert all(seconds >= 0.0 for seconds in times.values())


def test_rounds_end_with_the_time_or_at_the_most(monkeypatch) -> None:
    monkeypatch.setattr(_timing, "MOST_ROUNDS", 5)
    seen: list[int] = []
    in_turns({"a": lambda: seen.append(0)}, seconds=60.0)
    assert len(seen) == 1 + 5


def test_the_quartile_ignores_what_disturbed_single_rounds() -> None:
    assert quartile([1.0, 9.0, 1.0, 50.0, 1.0]) == 1.0
    assert quartile([2.0]) == 2.0


def test_a_result_is_freed_before_the_next_call() -> None:
    alive: set[int] = set()

    class Result:
        def __init__(self) -> None:
            alive.add(id(self))

        def __del__(self) -> None:
            alive.discard(id(self))

    once(Result)
    assert not alive


def fail(before: Callable[[], None]) -> None:
    before()
    raise ZeroDivisionError


def test_the_collector_is_off_meanwhile_and_back_on_after_an_error() -> None:
    seen: list[bool] = []
    with pytest.raises(ZeroDivisionError), collector_off():
        fail(lambda: seen.append(gc.isenabled()))
    assert seen == [False]
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_the_cores_are_given_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError), one_core():
        fail(lambda: seen.append(len(os.sched_getaffinity(0))))
    assert seen == [1]
    assert os.sched_getaffinity(0) == before
