"""The bit-for-bit contract: every instruction set, Numba, any threads and batches."""

from __future__ import annotations

import numpy as np
import pytest

import golden
from l63fast._kernels import Kernels, cpp, load_kernels
from l63fast.lorenz63 import Lorenz63, forecast, simulate
from l63fast.observation import ObservationOperator

PARAMETERS = Lorenz63().as_tuple()
BACKENDS = [("numba", None), *(("cpp", level) for level in cpp.levels())]
NAMES = ["numba", *cpp.levels()]
DTYPES = [np.float64, np.float32]


@pytest.fixture(params=BACKENDS, ids=NAMES)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    backend, level = request.param
    return load_kernels(backend, level=level)


def integrated(
    kernels: Kernels, initial: np.ndarray, *, n_saved: int, save_every: int, threads=1
) -> np.ndarray:
    out = np.empty((len(initial), n_saved, 3), initial.dtype)
    kernels.integrate(initial, out, save_every, 0.01, PARAMETERS, threads)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_simulate_gives_the_golden_bits_everywhere(kernels: Kernels, dtype) -> None:
    initial = golden.states(1013, dtype)
    out = integrated(kernels, initial, n_saved=10, save_every=100, threads=2)
    trajectory = np.concatenate([initial[:, None], out], axis=1)
    assert golden.digest(trajectory) == golden.SIMULATE[np.dtype(dtype).name]


def test_one_ulp_in_one_member_changes_the_hash(kernels: Kernels) -> None:
    initial = golden.states(1013, np.float64)
    initial[500, 1] = np.nextafter(initial[500, 1], np.inf)
    out = integrated(kernels, initial, n_saved=10, save_every=100)
    trajectory = np.concatenate([golden.states(1013, np.float64)[:, None], out], axis=1)
    assert golden.digest(trajectory) != golden.SIMULATE["float64"]


@pytest.mark.parametrize("backend", ["numba", "cpp"])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 39, 40, 41, 320, 321, 1013])
def test_a_member_does_not_depend_on_its_batch(backend: str, n: int) -> None:
    everyone = forecast(golden.states(1013, np.float64), 300, backend=backend)
    for n_threads in (1, 2, 4, 8):
        some = forecast(
            golden.states(n, np.float64), 300, backend=backend, n_threads=n_threads
        )
        assert some.tobytes() == everyone[:n].tobytes()


@pytest.mark.parametrize("backend", ["numba", "cpp"])
def test_threads_that_really_run_give_the_same_bits(backend: str) -> None:
    # 5,000 members x 1,000 steps: large enough that no backend runs it inline.
    initial = golden.states(5000, np.float64)
    one = forecast(initial, 1000, backend=backend, n_threads=1)
    for n_threads in (2, 3, 8):
        more = forecast(initial, 1000, backend=backend, n_threads=n_threads)
        assert more.tobytes() == one.tobytes()


@pytest.mark.parametrize("backend", ["numba", "cpp"])
def test_restart_is_exact(backend: str) -> None:
    initial = golden.states(100, np.float64)
    first = forecast(initial, 123, backend=backend)
    second = forecast(first, 456, backend=backend)
    assert second.tobytes() == forecast(initial, 579, backend=backend).tobytes()
    last = simulate(initial, 579, save_every=3, backend=backend)[:, -1]
    assert last.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", ["x", "xy", "xyz", "x2", "xz2", "x2y2z2", "x3", "y4z"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("each", [False, True], ids=["shared", "per sample"])
def test_three_d_var_gives_the_same_bits_everywhere(name, dtype, each) -> None:
    operator = ObservationOperator(name)
    m, n = operator.obs_dim, 517
    background = golden.states(n, dtype)
    background[:3] = 0
    truth = golden.states(n + 5, dtype)[5:] * dtype(0.25) + background * dtype(0.75)
    observation = np.ascontiguousarray(operator(truth))
    B = np.array([[2.0, 1.5, 0.25], [1.5, 3.0, 0.5], [0.25, 0.5, 2.5]])
    scale = (1 + np.arange(n) % 7)[:, None, None] if each else np.ones((1, 1, 1))
    args = (
        background,
        observation,
        (B * scale).astype(dtype),
        (np.eye(m) * scale / 2 + 0.125).astype(dtype),
        operator.components,
        operator.powers,
        4 if m > 1 else 1,
        20,
        1e-9 if dtype == np.float64 else 1e-5,
    )
    hashes = {
        label: golden.digest(*load_kernels(backend, level=level).analyse(*args, 2))
        for label, (backend, level) in zip(NAMES, BACKENDS, strict=True)
    }
    assert len(set(hashes.values())) == 1, hashes
    one = load_kernels("cpp").analyse(
        *(a[-1:] if isinstance(a, np.ndarray) and len(a) == n else a for a in args), 1
    )
    all_of_them = load_kernels("cpp").analyse(*args, 1)
    for alone, among in zip(one, all_of_them, strict=True):
        assert alone.tobytes() == among[-1:].tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("n_steps", [1, 40, 700])
def test_tangent_and_adjoint_give_the_same_bits_everywhere(dtype, k, n_steps) -> None:
    state = golden.states(331, dtype)
    vectors = golden.states(331 * k, dtype).reshape(331, k, 3) * dtype(0.125)
    args = (vectors, n_steps, 0.01, PARAMETERS)
    hashes, among = {}, []
    for label, (backend, level) in zip(NAMES, BACKENDS, strict=True):
        kernels = load_kernels(backend, level=level)
        among = [*kernels.tangent(state, *args, 2)[:2],
                 kernels.adjoint(state, *args, 1)[0]]  # fmt: skip
        hashes[label] = golden.digest(*among)
    assert len(set(hashes.values())) == 1, hashes
    for n in (1, 7, 8, 9, 40, 330):
        args = (vectors[-n:], n_steps, 0.01, PARAMETERS)
        kernels = load_kernels("cpp")
        some = [*kernels.tangent(state[-n:], *args, 1)[:2],
                kernels.adjoint(state[-n:], *args, 2)[0]]  # fmt: skip
        for alone, all_of_them in zip(some, among, strict=True):
            assert alone.tobytes() == all_of_them[-n:].tobytes()


@pytest.mark.parametrize("backend", ["numba", "cpp"])
def test_tangent_and_adjoint_in_threads_that_really_run(backend: str) -> None:
    # 5,000 members x 300 steps: large enough that no backend runs it inline.
    state, kernels = golden.states(5000, np.float64), load_kernels(backend)
    args = (state[:, None] * 0.25, 300, 0.01, PARAMETERS)
    one = golden.digest(*kernels.tangent(state, *args, 1)[:2])
    back = golden.digest(kernels.adjoint(state, *args, 1)[0])
    for n_threads in (2, 3, 8):
        assert golden.digest(*kernels.tangent(state, *args, n_threads)[:2]) == one
        assert golden.digest(kernels.adjoint(state, *args, n_threads)[0]) == back


@pytest.mark.parametrize("backend", ["numba", "cpp"])
@pytest.mark.parametrize("save_every", [1, 2, 50])
def test_out_may_have_any_strides(backend: str, save_every: int) -> None:
    initial = golden.states(77, np.float64)
    plain = simulate(initial, 100, save_every=save_every, backend=backend)
    n_saved = plain.shape[1]
    layouts = {
        "time-major": np.empty((n_saved, 77, 3)).transpose(1, 0, 2),
        "component-major": np.empty((3, n_saved, 77)).transpose(2, 1, 0),
        "gaps": np.empty((77, 2 * n_saved, 6))[:, ::2, ::2],
        "reversed": np.empty((77, n_saved, 3))[::-1],
    }
    for name, out in layouts.items():
        result = simulate(initial, 100, save_every=save_every, out=out, backend=backend)
        assert result is out
        assert np.ascontiguousarray(out).tobytes() == plain.tobytes(), name
