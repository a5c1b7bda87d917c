"""Checks of numbers, names, paths and memory: what is refused, and how it is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks_help import refused
from l63fast import _checks
from l63fast._checks import values
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    MemoryLimitError,
)

NAN, INF = float("nan"), float("inf")


# Scalars


@pytest.mark.parametrize("value", [0, 5, np.int64(5), np.uint8(5), 2**62])
def test_counts_pass_as_int(value):
    assert _checks.count("n", value) == value
    assert type(_checks.count("n", value)) is int


@pytest.mark.parametrize("value", [True, np.True_, 1.0, 1.5, "1", None, NAN, [1], 1j])
def test_a_count_is_an_integer(value):
    refused(_checks.count, value, error=ArgumentTypeError, message="an integer")


def test_counts_have_bounds():
    refused(_checks.count, -1, error=ArgumentValueError, message="at least 0, got -1")
    refused(_checks.count, 0, minimum=1, error=ArgumentValueError, message="at least 1")
    refused(_checks.count, 9, maximum=8, error=ArgumentValueError, message="at most 8")
    refused(_checks.count, 2**63, error=ArgumentValueError, message="at most")


@pytest.mark.parametrize("value", [-1, 2**63])
def test_seeds_have_bounds(value):
    refused(_checks.seed, value, error=ArgumentValueError)
    assert _checks.seed("seed", 2**63 - 1) == 2**63 - 1


@pytest.mark.parametrize("value", [1, 1.5, np.float32(0.5), np.float64(2), np.int8(1)])
def test_reals_pass_as_float(value):
    assert _checks.real("a", value) == float(value)
    assert type(_checks.real("a", value)) is float


@pytest.mark.parametrize("value", ["0.01", None, True, 1j, [1.0], np.ones(1)])
def test_a_real_is_a_number(value):
    refused(_checks.real, value, error=ArgumentTypeError, message="a real number")


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (NAN, {}, "a finite number, got nan"),
        (INF, {"minimum": 0.0}, "a finite number"),
        (-INF, {"maximum": 0.0}, "a finite number"),
        (-0.1, {"minimum": 0.0}, "at least 0, got -0.1"),
        (0.0, {"above": 0.0}, "a number above 0"),
        (1.1, {"maximum": 1.0}, "at most 1"),
    ],
)
def test_reals_have_bounds(value, bounds, message):
    refused(_checks.real, value, error=ArgumentValueError, message=message, **bounds)


@given(st.floats(min_value=0.0, max_value=1e300))
def test_a_real_within_its_bounds_is_returned_exactly(value):
    assert _checks.real("a", value, minimum=0.0) == value


@pytest.mark.parametrize("value", [0, 1, "yes", None, np.int64(1), [True]])
def test_only_true_and_false_are_booleans(value):
    refused(_checks.boolean, value, error=ArgumentTypeError, message="True or False")
    assert _checks.boolean("b", np.True_) is True


def test_choices_name_what_is_allowed():
    assert _checks.choice("c", "a", ["a", "b"]) == "a"
    refused(_checks.choice, "c", ["a", "b"], error=ArgumentValueError, message="a, b")
    refused(_checks.choice, 3, ["a", "b"], error=ArgumentTypeError, message="a, b")
    refused(
        _checks.choice, None, {"a": 1}, error=ArgumentTypeError, message="of a, got"
    )


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ArgumentValueError) as caught:
        _checks.path("p", "x\n" * 500)
    assert len(str(caught.value)) < 200


def test_generators_and_seeds():
    rng = np.random.default_rng(0)
    assert _checks.generator("rng", rng) is rng
    assert _checks.generator("rng", 3).random() == np.random.default_rng(3).random()
    refused(_checks.generator, -1, error=ArgumentValueError)
    for value in (None, 1.0, True, "seed", np.random.RandomState(0)):
        refused(_checks.generator, value, error=ArgumentTypeError)


def test_instances():
    _checks.instance("p", Path("a"), Path)
    refused(
        _checks.instance, "a", Path, error=ArgumentTypeError, message="Path, got str"
    )


def test_threads():
    assert _checks.threads("n", None) == len(os.sched_getaffinity(0))
    assert _checks.threads("n", 2) == 2
    assert _checks.threads("n", 100_000) == _checks.MAX_THREADS
    refused(_checks.threads, 0, error=ArgumentValueError)
    refused(_checks.threads, -1, error=ArgumentValueError)
    refused(_checks.threads, 1.5, error=ArgumentTypeError)


@pytest.mark.parametrize("dt", [0.0, -0.01, NAN, INF, 0.1000001, 0.12, 0.25, 1.0])
def test_bad_time_steps_are_refused(dt):
    refused(_checks.time_step, dt, allow_large=False, error=ArgumentValueError)


def test_time_steps_that_deserve_a_warning():
    assert _checks.time_step("dt", 0.05, allow_large=False) == (0.05, False)
    assert _checks.time_step("dt", 0.051, allow_large=False) == (0.051, True)
    assert _checks.time_step("dt", 0.1, allow_large=False) == (0.1, True)
    assert _checks.time_step("dt", 0.12, allow_large=True) == (0.12, True)
    refused(_checks.time_step, "0.01", allow_large=True, error=ArgumentTypeError)


# Memory, paths, names


@pytest.mark.promise("B6", "bytes needed and available are named")
def test_memory_is_asked_for_before_work(monkeypatch):
    free = _checks.available_memory()
    assert free > 2**20
    _checks.memory("n", 2**20)
    refused(
        _checks.memory, 2**61, error=MemoryLimitError, message=f"needs {2**61} bytes"
    )
    with pytest.raises(MemoryError):
        _checks.memory("n", 10**30)


GIB = 2**30
JOB = "/slurm/job_1"  # the limit is on the job's own group, deep below the root
CGROUPS = {
    "v2, container": ("0::/", "", "memory.max", "memory.current", "inactive_file"),
    "v2, job": (
        "0::/slurm/job_1",
        JOB,
        "memory.max",
        "memory.current",
        "inactive_file",
    ),
    "v1, job": (
        "4:cpu,memory:/slurm/job_1",
        "/memory" + JOB,
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
    "v1, parent": (
        "4:memory:/slurm/job_1/step",
        "/memory" + JOB,
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


@pytest.mark.parametrize("kind", CGROUPS)
def test_the_memory_of_a_container_or_job_counts(kind, monkeypatch):
    group, folder, limit, usage, cache = CGROUPS[kind]
    folder = "/sys/fs/cgroup" + folder
    lines = {
        "/proc/meminfo": ["MemAvailable: 8388608 kB"],
        "/proc/self/cgroup": ["9:name=systemd:/", group],
        f"{folder}/{limit}": [str(4 * GIB)],
        f"{folder}/{usage}": [str(3 * GIB)],
        f"{folder}/memory.stat": ["anon 5", f"{cache} {GIB}"],
    }
    monkeypatch.setattr(values, "_lines", lambda path: lines.get(path, []))
    assert _checks.available_memory() == 2 * GIB
    lines[f"{folder}/memory.stat"] = []
    assert _checks.available_memory() == 1 * GIB
    lines[f"{folder}/{limit}"] = ["max"]
    assert _checks.available_memory() == 8 * GIB


def test_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert _checks.path("p", "~/a b/ü") == Path("/somewhere/a b/ü")
    assert _checks.path("p", Path("a")) == Path("a")
    for value in ("", "  ", "a\nb", "a\0b", "~nobody-by-this-name/x"):
        refused(_checks.path, value, error=ArgumentValueError)
    for value in (None, 3, b"a", ["a"]):
        refused(_checks.path, value, error=ArgumentTypeError)


@pytest.mark.parametrize(
    "value",
    ["", " ", ".", "..", "../x", "a/b", "/", "a\nb", "a\0", "x" * 300, "é" * 101],
)
def test_bad_file_names_are_refused(value):
    refused(_checks.file_name, value, error=ArgumentValueError)


def test_good_file_names_pass():
    for value in ("gru_xy", "mit Raum", "ü", ".hidden", "x" * 200):
        assert _checks.file_name("name", value) == value
    refused(_checks.file_name, Path("a"), error=ArgumentTypeError)
