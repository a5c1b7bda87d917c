"""What is set for the whole process changes no result, and no call changes it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ambient_calls
import l63fast
from l63fast import _arithmetic
from l63fast._arithmetic import ieee_arithmetic, is_flushing
from l63fast.errors import BackendError
from l63fast.learning import pinned as pinned_module
from l63fast.learning.pinned import pinned
from l63fast.learning.training import train
from learning_samples import MLP, samples

SETTINGS = list(ambient_calls.contexts(Path()))
# What a call of a public name does not compute: settings, results, what is installed;
# and what computes as torch is set, which the documentation says.
NOT_CALLED = {
    "Analysis", "AssimilationDataset", "Climatology", "L63Error",
    "Lorenz63", "Status", "TwinSettings", "backend_info", "open_results", "Result",
    "open_shards", "torch_forecast", "ErrorLaw", "ForecastModel",
}  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return a folder of results, and the hashes of all calls as things are."""
    folder = tmp_path_factory.mktemp("ambient")
    # The first run, which imports what it needs: that moves things of the process.
    return folder, ambient_calls.run(ambient_calls.CALLS, folder)[0]


def test_every_public_name_is_called() -> None:
    calls = (*ambient_calls.CALLS, *ambient_calls.LONG_CALLS)
    called = {name.split()[0] for name in calls}
    assert {*l63fast._HOMES} - NOT_CALLED <= called
    assert not NOT_CALLED & called


@pytest.mark.promise("G1", "21 settings of process and thread, before and after")
def test_no_call_changes_what_belongs_to_the_process(reference) -> None:
    folder, hashes = reference
    bits, moved = ambient_calls.run(ambient_calls.CALLS, folder)
    assert moved == {}
    assert bits == hashes  # which do not depend on time or on what was done before


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.promise("G1", "the same where the settings are not the usual ones")
@pytest.mark.promise("G2", "0 differing bytes, public calls in 11 settings")
def test_no_setting_changes_a_result(setting: str, reference, tmp_path) -> None:
    folder, hashes = reference
    with ambient_calls.contexts(tmp_path)[setting]:
        bits, moved = ambient_calls.run(ambient_calls.CALLS, folder)
    assert bits == hashes
    assert moved == {}


@pytest.mark.slow
@pytest.mark.promise("G1", "exports and figures")
@pytest.mark.promise("G2", "0 differing bytes, exports and figures, settings together")
def test_exports_do_not_depend_on_settings(tmp_path) -> None:
    expected, _ = ambient_calls.run(ambient_calls.LONG_CALLS, tmp_path)
    assert not [text for text in expected.values() if ":" in text]  # errors
    with ExitStack() as stack:
        for context in ambient_calls.contexts(tmp_path).values():
            stack.enter_context(context)
        bits, moved = ambient_calls.run(ambient_calls.LONG_CALLS, tmp_path)
    assert bits == expected
    assert moved == {}


@pytest.mark.slow
@pytest.mark.promise("G1", "a process in which each call is the first")
@pytest.mark.promise("G2", "0 differing bytes, hash seed, folder, flush from the start")
def test_no_setting_of_another_process_changes_a_result(reference, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, ambient_calls.__file__, str(tmp_path)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONHASHSEED": "7",
            "LC_ALL": "C",
            "OMP_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    bits, moved = json.loads(done.stdout)
    assert bits == reference[1]
    assert moved == {}  # where each call is the first of its kind


def _moves() -> dict[str, Callable[[], object]]:
    return {
        "torch random state": lambda: torch.rand(1),
        "numpy random state": lambda: np.random.random(),  # noqa: NPY002
        "python random state": random.random,
        "default dtype": lambda: torch.set_default_dtype(torch.float64),
        "torch threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
        "matmul precision": lambda: torch.set_float32_matmul_precision("high"),
        "flushing": lambda: torch.set_flush_denormal(True),
        "errstate": lambda: np.seterr(all="print"),
        "environment": lambda: os.environ.update(L63FAST_TEST="1"),
        "warning filters": lambda: warnings.simplefilter("ignore"),
    }


@pytest.mark.parametrize("what", list(_moves()))
def test_a_call_that_changes_something_would_be_seen(what, tmp_path, monkeypatch):
    monkeypatch.setenv("L63FAST_TEST", "0")
    threads, errors = torch.get_num_threads(), np.geterr()
    try:
        with warnings.catch_warnings():
            _, moved = ambient_calls.run({"a": lambda _: _moves()[what]()}, tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")
        torch.set_flush_denormal(False)
        np.seterr(**errors)
    assert what in moved["a"]


@pytest.fixture
def flushing() -> Iterator[None]:
    """Flush denormal numbers in this thread."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


def test_denormal_numbers_are_kept_inside_and_flushed_again_after(flushing) -> None:
    assert is_flushing()
    with ieee_arithmetic():
        assert not is_flushing()
        started: list[bool] = []
        thread = threading.Thread(target=lambda: started.append(is_flushing()))
        thread.start()
        thread.join()
    assert started == [False]
    assert is_flushing()


def test_where_denormal_numbers_cannot_be_kept_the_call_is_refused(
    flushing, monkeypatch
) -> None:
    monkeypatch.setattr(_arithmetic, "_floating_point", lambda: None)
    with pytest.raises(BackendError, match=r"arithmetic: .* torch.set_flush_denormal"):
        l63fast.simulate([1.0, 2.0, 20.0], 1, backend="numba")


def test_threads_of_torch_that_would_flush_are_refused_by_name(flushing) -> None:
    settings = dataclasses.replace(ambient_calls.TRAIN, threads=2)
    data = samples("xy", 64)
    with pytest.raises(BackendError, match=r"^threads: expected 1 .* got 2"):
        train(MLP, settings, data, data)
    torch.set_flush_denormal(False)
    assert train(MLP, settings, data, data).history


def _seen() -> list[Any]:
    return [
        torch.get_default_dtype(),
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.backends.cudnn.rnn.fp32_precision,
    ]


def test_tf32_of_recurrent_layers_is_off_while_torch_computes(monkeypatch) -> None:
    monkeypatch.setattr(pinned_module, "_ON_GPU", True)
    before = _seen()
    assert before[-1] == "tf32"
    with pinned():
        assert _seen()[-1] in ("none", "ieee")
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.conv.fp32_precision in ("none", "ieee")
    assert _seen() == before
    assert torch.backends.cudnn.allow_tf32


def test_settings_are_held_until_the_last_thread_is_done() -> None:
    entered, leave = threading.Event(), threading.Event()
    found: list[Any] = []

    def work() -> None:
        with pinned():
            entered.set()
            leave.wait(10)
            found.append(torch.get_default_dtype())

    torch.set_default_dtype(torch.float64)
    try:
        thread = threading.Thread(target=work)
        with pinned():
            thread.start()
            assert entered.wait(10)
        assert torch.get_default_dtype() == torch.float32  # the other still computes
        leave.set()
        thread.join()
        assert found == [torch.float32]
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_fork_while_another_thread_enters_leaves_a_lock_that_works() -> None:
    with pinned_module._PROCESS._lock:
        pid = os.fork()
        if pid == 0:  # would wait for ever for the lock of a thread it does not have
            with pinned():
                os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
