"""Every clause of the promise on bad input, each call in a process that may crash."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bad_calls import Case
from bad_inputs import CASES, ME
from builds import HELPERS

SCRIPT = HELPERS / "bad_inputs.py"


def run(*names: str) -> tuple[int, dict[str, list[dict]]]:
    """Return the exit status of the process and what it printed, by case."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", SCRIPT, *names],
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {line["case"]: line["outcomes"] for line in lines}


@pytest.fixture(scope="module")
def everything(numba_kernels: None) -> tuple[int, dict[str, list[dict]]]:
    return run()


@pytest.mark.promise("B1", "return code 0")
def test_no_call_ends_the_process(everything) -> None:
    status, outcomes = everything
    assert list(outcomes) == list(CASES), "the case after the last one crashed"
    assert status == 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.promise("I01", "a table of calls, both backends")
@pytest.mark.promise("I04", "a table of calls, both backends")
@pytest.mark.promise("I09", "named with n_steps")
def test_the_promise_on_bad_input(name: str, everything) -> None:
    case, (_, outcomes) = CASES[name], everything
    assert outcomes[name]
    for outcome in outcomes[name]:
        if case.error is None:
            assert outcome["said"] == "as promised"
        else:
            assert_refused(case, outcome)


def assert_refused(case: Case, outcome: dict) -> None:
    builtin = next(k for k in case.error.__mro__ if k.__module__ == "builtins")
    assert outcome["ended"][0] == case.error.__name__, outcome["said"]
    assert {"L63Error", builtin.__name__} <= set(outcome["ended"])
    assert case.says in outcome["said"]
    if case.error is ME:
        assert "needs" in outcome["said"]
        assert "available" in outcome["said"]


@pytest.mark.slow
def test_a_crash_would_be_seen() -> None:
    first, second, *_ = CASES
    status, outcomes = run(first, "crash", second)
    assert status != 0
    assert list(outcomes) == [first]


@pytest.mark.slow
@pytest.mark.promise("B6", "10 ms, sizes from 2^31 to 2^63-1")
def test_what_is_too_large_is_refused_within_10_milliseconds() -> None:
    names = [name for name, case in CASES.items() if case.error is ME]
    rounds = [run(*names)[1] for _ in range(3)]
    for name in names:
        seconds = [max(o["seconds"] for o in outcomes[name]) for outcomes in rounds]
        assert min(seconds) < 0.01, name
