"""Long native calls: Ctrl-C, many Python threads at once, fork, spawn."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import golden
from l63fast.lorenz63 import forecast, spin_up

INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np
from l63fast.lorenz63 import adjoint, forecast, tangent_linear
from l63fast.assimilation.three_d_var import three_d_var
kind, backend, *delays = sys.argv[1:]
states = np.tile([1.0, 2.0, 20.0], (20_000, 1))
big = np.tile(states, (100, 1))

def call(n_steps, max_iter):
    if kind == "forecast":
        forecast(states, n_steps, backend=backend)
    elif kind == "tangent_linear":
        tangent_linear(states, states, n_steps, backend=backend)
    elif kind == "adjoint":
        adjoint(states, states, n_steps, backend=backend)
    else:
        n = len(big) if n_steps > 1 else 10
        three_d_var(big[:n], big[:n, :1] ** 2, "x2", B=np.eye(3), R=np.eye(1),
                    max_iter=max_iter, tol=1e-300, backend=backend)

def send(delay):
    time.sleep(delay)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

call(1, 1)  # Numba compiles before the first interrupt
for delay in delays:
    sent = []
    sender = threading.Thread(target=send, args=(float(delay),))
    sender.start()
    try:
        call(10_000_000, 100_000)
    except KeyboardInterrupt:
        print(time.perf_counter() - sent[0])
    sender.join()
    call(1, 1)
print("every next call worked")
"""


def interrupted(kind: str, backend: str, delays: Sequence[float]) -> list[float]:
    """Interrupt a call that would run for minutes; return how long each took to end."""
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPT, kind, backend, *map(str, delays)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    *waits, last = result.stdout.splitlines()
    assert last == "every next call worked"
    assert len(waits) == len(delays)
    return [float(wait) for wait in waits]


CALLS = pytest.mark.parametrize(
    "kind", ["forecast", "three_d_var", "tangent_linear", "adjoint"]
)
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "numba"])


@CALLS
@BACKENDS
def test_ctrl_c_stops_a_long_call_and_the_next_works(kind: str, backend: str) -> None:
    # The promise is 0.2 s; 2 s here, since a loaded machine may not even schedule us.
    assert max(interrupted(kind, backend, [0.4])) < 2.0


@pytest.mark.slow
@CALLS
@BACKENDS
def test_ctrl_c_at_50_random_moments_is_answered_in_a_fifth_of_a_second(
    kind: str, backend: str
) -> None:
    delays = np.random.default_rng(0).uniform(0.02, 0.5, 50)
    waits = interrupted(kind, backend, delays.tolist())
    assert np.median(waits) < 0.1
    assert max(waits) < 0.2


@BACKENDS
def test_sixteen_python_threads_get_the_serial_bits(backend: str) -> None:
    states = spin_up(2000, seed=1)
    expected = forecast(states, 500, backend=backend, n_threads=1).tobytes()
    barrier = threading.Barrier(16)

    def call(i: int) -> bytes:
        barrier.wait(timeout=30)
        return forecast(states, 500, backend=backend, n_threads=1 + i % 3).tobytes()

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(call, range(16), timeout=60))
    assert set(results) == {expected}


@pytest.mark.parametrize("n", [4, 5000], ids=["inline", "threads"])
def test_a_caller_that_flushes_denormals_gets_them_all_the_same(n: int) -> None:
    # As torch.set_flush_denormal does, and code that is linked with -ffast-math.
    torch = pytest.importorskip("torch")
    states = np.tile([0.0, 0.0, 1e-310], (n, 1))
    expected = forecast(states, 400, n_threads=2)
    assert np.all(expected[:, 2] > 0)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        flushed = forecast(states, 400, n_threads=2)
        assert np.all(states[:, 2] * np.float64(1) == 0), "nothing was tested"
    finally:
        torch.set_flush_denormal(False)
    assert flushed.tobytes() == expected.tobytes()


def test_the_gil_is_released_while_a_kernel_runs() -> None:
    # A call that held the GIL would keep this counter from moving at all.
    ticks, done = [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            ticks[0] += 1
            done.wait(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    before = ticks[0]
    forecast(golden.states(20_000, np.float64), 20_000, n_threads=1)
    during = ticks[0] - before
    done.set()
    counter.join()
    assert during > 10


CHILDREN = """
import multiprocessing, sys
import numpy as np
from l63fast.lorenz63 import forecast

def child(states, queue):
    queue.put(forecast(states, 1000, n_threads=2).tobytes())

if __name__ == "__main__":
    states = np.arange(15_000.0).reshape(5000, 3) % 17 + 1
    mine = forecast(states, 1000, n_threads=2).tobytes()
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=child, args=(states, queue))
    process.start()
    theirs = queue.get(timeout=20)
    process.join(timeout=5)
    print(theirs == mine, process.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_process_finishes_with_the_same_bits(method: str, tmp_path) -> None:
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    result = subprocess.run(
        [sys.executable, str(script), method],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.split() == ["True", "0"], result.stderr
