"""The bit-for-bit contract: every instruction set, Numba, any threads and batches."""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import golden
import network_help
import particle_help
from builds import built, configured_extension, tool
from l63fast._kernels import Kernels, TangentJob, cpp, load_kernels
from l63fast.lorenz63 import Lorenz63, forecast, simulate

BACKENDS = [("numba", None), *(("cpp", level) for level in cpp.levels())]
NAMES = ["numba", *cpp.levels()]
PARAMETERS = Lorenz63().as_tuple()
# Not compiled twice where it is being compiled beside the tests.
pytestmark = pytest.mark.usefixtures("numba_kernels")
BATCHES = [1, 2, 3, 7, 8, 9, 39, 40, 41, 320, 321, 1013]
THREADS = (1, 2, 4, 8)


@pytest.fixture(params=BACKENDS, ids=NAMES)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    backend, level = request.param
    return load_kernels(backend, level=level)


@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.parametrize("case", golden.CASES)
@pytest.mark.promise("N2", "golden hashes, every level and Numba, float64 and float32")
def test_golden_bits_from_every_backend(kernels: Kernels, case: str, dtype) -> None:
    expected = golden.HASHES[f"{case}, {dtype.__name__}"]
    for n_threads in THREADS:
        assert golden.CASES[case](kernels, dtype, n_threads) == expected


def test_no_golden_hash_is_without_a_case() -> None:
    assert len(golden.HASHES) == len(golden.CASES) * len(golden.DTYPES)
    assert len(set(golden.HASHES.values())) == len(golden.HASHES)


def loaded(build: Path) -> ModuleType:
    """Return the extension of a build folder, beside the one that is installed."""
    (file,) = build.glob("_core.*.so")
    loader = ExtensionFileLoader("_core", str(file))
    module = module_from_spec(spec_from_loader("_core", loader))
    loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.promise("N2", "golden hashes of the generic build")
@pytest.mark.promise("I03", "golden hashes")
def test_golden_bits_from_the_generic_level(tmp_path, monkeypatch) -> None:
    build = built(configured_extension(tmp_path, L63FAST_GENERIC="ON"))
    monkeypatch.setattr(cpp, "_core", loaded(build))
    assert cpp._core.levels() == ["generic"]
    kernels = cpp.CppKernels("generic")
    assert golden.hashes(kernels) == golden.HASHES
    assert particle_help.golden_bits(kernels, 1) == particle_help.GOLDEN
    assert network_help.golden_bits(kernels) == network_help.GOLDEN


@pytest.mark.slow
@pytest.mark.parametrize("generic", ["OFF", "ON"], ids=["levels", "generic"])
@pytest.mark.promise("N2", "golden hashes of clang")
def test_golden_bits_from_clang(generic: str, tmp_path, monkeypatch) -> None:
    check_golden_bits("clang++", generic, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("generic", ["OFF", "ON"], ids=["levels", "generic"])
@pytest.mark.promise("N2", "golden hashes of g++ 11, which shuffles otherwise")
def test_golden_bits_from_an_old_gcc(generic: str, tmp_path, monkeypatch) -> None:
    check_golden_bits("g++-11", generic, tmp_path, monkeypatch)


def check_golden_bits(compiler: str, generic: str, folder, monkeypatch) -> None:
    """Build the extension with another compiler and compare its bits."""
    options = {"CMAKE_CXX_COMPILER": tool(compiler), "L63FAST_GENERIC": generic}
    build = built(configured_extension(folder, **options))
    monkeypatch.setattr(cpp, "_core", loaded(build))
    for level in cpp._core.levels():
        kernels = cpp.CppKernels(cpp._public(level))
        for n_threads in THREADS:
            assert golden.hashes(kernels, n_threads) == golden.HASHES, level
        assert particle_help.golden_bits(kernels, 2) == particle_help.GOLDEN, level
        assert network_help.golden_bits(kernels) == network_help.GOLDEN, level


def test_one_ulp_in_one_member_changes_the_hash(kernels: Kernels) -> None:
    initial = golden.states(golden.N, np.float64)
    initial[500, 1] = np.nextafter(initial[500, 1], np.inf)
    final = golden.integrated(kernels, initial, save_every=1000)
    assert golden.digest(final) != golden.HASHES["forecast, float64"]


def batch(backend: str, kind: str, begin: int, end: int, n_threads: int) -> list:
    """Return the outputs of members [begin, end) on their own."""
    kernels = load_kernels(backend)
    initial = golden.states(golden.N, np.float64)[begin:end]
    if kind == "three_d_var":
        some = tuple(
            array[begin:end] for array in golden.problem("x2y", float, each=True)
        )
        return list(golden.analysed(kernels, "x2y", some, n_threads=n_threads))
    shape = {"n_saved": 1, "save_every": 100}
    if kind == "simulate":
        shape = {"n_saved": 37, "save_every": 1}
    return [golden.integrated(kernels, initial, **shape, n_threads=n_threads)]


@pytest.mark.parametrize("kind", ["forecast", "simulate", "three_d_var"])
@pytest.mark.parametrize("backend", ["numba", "cpp"])
@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.promise("N1", "0 differing bytes, 12 batch sizes")
def test_a_member_does_not_depend_on_its_batch(backend, kind, n) -> None:
    everyone = batch(backend, kind, 0, golden.N, 1)
    for n_threads in THREADS:
        for begin in {0, (golden.N - n) // 2, golden.N - n}:
            some = batch(backend, kind, begin, begin + n, n_threads)
            for mine, theirs in zip(some, everyone, strict=True):
                assert mine.tobytes() == theirs[begin : begin + n].tobytes()


@pytest.mark.parametrize("backend", ["numba", "cpp"])
@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.promise("N1", "0 differing bytes, threads 1 to 8")
def test_threads_that_really_run_give_the_same_bits(backend: str, dtype) -> None:
    # Large enough that no backend runs it inline.
    kernels = load_kernels(backend)
    initial = golden.states(5000, dtype)
    arrays = golden.problem("x2y2", dtype, n=5000)

    def bits(n_threads: int) -> tuple[str, str]:
        final = golden.integrated(
            kernels, initial, save_every=1000, n_threads=n_threads
        )
        analysis = golden.analysed(
            kernels, "x2y2", arrays, n_threads=n_threads, max_iter=200
        )
        return golden.digest(final), golden.digest(*analysis)

    one = bits(1)
    for n_threads in (2, 3, 8):
        assert bits(n_threads) == one


@pytest.mark.parametrize("chunk", [512, 1500, 2**14])
@pytest.mark.promise("N1", "0 differing bytes, chunks of any size")
def test_numba_gives_the_same_bits_in_chunks_of_any_size(chunk, monkeypatch) -> None:
    from l63fast._kernels.numba_kernels import analysis, integration

    monkeypatch.setattr(analysis, "CHUNK", chunk)
    monkeypatch.setattr(integration, "CHUNK", chunk)
    for n_threads in (1, 2):
        assert golden.hashes(load_kernels("numba"), n_threads) == golden.HASHES


@pytest.mark.parametrize("backend", ["numba", "cpp"])
def test_restart_is_exact(backend: str) -> None:
    initial = golden.states(100, np.float64)
    whole = simulate(initial, 579, save_every=3, backend=backend)
    first = simulate(initial, 123, save_every=3, backend=backend)
    second = simulate(first[:, -1], 456, save_every=3, backend=backend)
    parts = np.concatenate([first, second[:, 1:]], axis=1)
    assert parts.tobytes() == whole.tobytes()
    assert forecast(initial, 579, backend=backend).tobytes() == whole[:, -1].tobytes()


@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("n_steps", [1, 40, 700])
def test_tangent_and_adjoint_give_the_same_bits_everywhere(dtype, k, n_steps) -> None:
    state = golden.states(331, dtype)
    vectors = golden.states(331 * k, dtype).reshape(331, k, 3) * dtype(0.125)
    job = TangentJob(state, vectors, n_steps, 0.01, PARAMETERS)
    hashes, among = {}, []
    for label, (backend, level) in zip(NAMES, BACKENDS, strict=True):
        kernels = load_kernels(backend, level=level)
        among = [*kernels.tangent(job, 2)[:2], kernels.adjoint(job, 1)[0]]
        hashes[label] = golden.digest(*among)
    assert len(set(hashes.values())) == 1, hashes
    for n in (1, 7, 8, 9, 40, 330):
        few = job._replace(state=state[-n:], vectors=vectors[-n:])
        kernels = load_kernels("cpp")
        some = [*kernels.tangent(few, 1)[:2], kernels.adjoint(few, 2)[0]]
        for alone, all_of_them in zip(some, among, strict=True):
            assert alone.tobytes() == all_of_them[-n:].tobytes()


@pytest.mark.parametrize("backend", ["numba", "cpp"])
def test_tangent_and_adjoint_in_threads_that_really_run(backend: str) -> None:
    # 5,000 members x 300 steps: large enough that no backend runs it inline.
    state, kernels = golden.states(5000, np.float64), load_kernels(backend)
    job = TangentJob(state, state[:, None] * 0.25, 300, 0.01, PARAMETERS)
    one = golden.digest(*kernels.tangent(job, 1)[:2])
    back = golden.digest(kernels.adjoint(job, 1)[0])
    for n_threads in (2, 3, 8):
        assert golden.digest(*kernels.tangent(job, n_threads)[:2]) == one
        assert golden.digest(kernels.adjoint(job, n_threads)[0]) == back


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
