"""The kernel of the gated recurrent unit: its bits, its values, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from gru_help import GOLDEN, Problem, golden_bits, problem, there_and_back
from l63fast._kernels import GruBackwardJob, GruJob, Kernels, cpp, load_kernels

BACKENDS = [("numba", None), *(("cpp", level) for level in cpp.levels())]
NAMES = ["numba", *cpp.levels()]
SHAPES = [(1, 1, 1, 1), (9, 5, 2, 16), (33, 1, 3, 17), (8, 3, 1, 64), (19, 2, 2, 31)]


@pytest.fixture(params=BACKENDS, ids=NAMES)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    backend, level = request.param
    return load_kernels(backend, level=level)


def same(one, other) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def unit(reset=0.0, update=0.0, part=0.0, given=0.0, gradient=1.0) -> Problem:
    """Return one window of one step whose pre-activations are the biases."""
    few = problem(1, 1, 1, 1)
    biases = (np.array([reset, update, given]), np.array([0.0, 0.0, part]))
    weights = few.weights._replace(
        inputs=few.weights.inputs * 0,
        input_bias=biases[0].astype(np.float32),
        state_bias=biases[1].astype(np.float32),
    )
    return few._replace(weights=weights, gradient=np.float32([[gradient]]))


@pytest.mark.promise("N2", "golden hash of the GRU's kernel, every level and Numba")
def test_golden_bits_from_every_backend(kernels: Kernels) -> None:
    assert golden_bits(kernels) == GOLDEN


@pytest.mark.parametrize("shape", SHAPES)
def test_every_backend_gives_the_same_bits(kernels: Kernels, shape) -> None:
    task = problem(*shape)
    assert same(
        there_and_back(kernels, task), there_and_back(load_kernels("cpp"), task)
    )


@pytest.mark.parametrize("backend", ["numba", "cpp"])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 17])
def test_a_window_does_not_depend_on_its_batch(backend: str, n: int) -> None:
    kernels, task = load_kernels(backend), problem(41, 3, 2, 20)
    everyone = there_and_back(kernels, task)
    some = task._replace(inputs=task.inputs[-n:], gradient=task.gradient[-n:])
    for mine, theirs in zip(there_and_back(kernels, some), everyone, strict=True):
        assert mine.tobytes() == np.ascontiguousarray(theirs[:, -n:]).tobytes()


@pytest.mark.parametrize(("backend", "units"), [("numba", 8), ("cpp", 64)])
def test_threads_that_really_run_give_the_same_bits(backend: str, units: int) -> None:
    # Large enough that neither backend runs it inline.
    kernels, task = load_kernels(backend), problem(1300, 5, 2, units)
    one = there_and_back(kernels, task, 1)
    for n_threads in (2, 3, 8):
        assert same(there_and_back(kernels, task, n_threads), one)


def exact(task: Problem) -> tuple[np.ndarray, ...]:
    """Return what the kernel should, in float64 and as in any textbook."""
    x, (wx, wh, bx, bh), gradient = task
    x, wx, wh, bx, bh = (a.astype(np.float64) for a in (x, wx, wh, bx, bh))
    h = np.zeros((len(x), wh.shape[1]))
    gates, states, befores = [], [], []
    for t in range(x.shape[1]):
        given, kept = x[:, t] @ wx.T + bx, h @ wh.T + bh
        xr, xz, xc = np.split(given, 3, axis=1)
        hr, hz, hc = np.split(kept, 3, axis=1)
        r, z = 1 / (1 + np.exp(-(xr + hr))), 1 / (1 + np.exp(-(xz + hz)))
        c = np.tanh(xc + r * hc)
        befores.append(h)
        h = (1 - z) * c + z * h
        gates.append(np.concatenate([r, z, c, hc], axis=1))
        states.append(h)
    grad = []
    carried = gradient.astype(np.float64)
    for g, before in zip(gates[::-1], befores[::-1], strict=True):
        r, z, c, hc = np.split(g, 4, axis=1)
        into_c = carried * (1 - z) * (1 - c * c)
        into_z = carried * (before - c) * z * (1 - z)
        into_r = into_c * hc * r * (1 - r)
        grad.append(np.concatenate([into_r, into_z, into_c * r, into_c], axis=1))
        carried = carried * z + grad[-1][:, : 3 * wh.shape[1]] @ wh
    return np.stack(gates), np.stack(states), np.stack(grad[::-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_those_of_the_textbook(kernels: Kernels, shape) -> None:
    task = problem(*shape)
    for ours, theirs in zip(there_and_back(kernels, task), exact(task), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=3e-5, atol=1e-6)


def scanned(kernels: Kernels, values: np.ndarray) -> np.ndarray:
    """Return r, z and c (3, n) whose pre-activations are v, -v and v for each value."""
    task = problem(1, 1, 1, 1)
    zeros = task.weights._make(0 * values for values in task.weights)
    weights = zeros._replace(inputs=np.float32([[1], [-1], [1]]))
    windows = values.reshape(-1, 1, 1)
    gates, _, grad = there_and_back(
        kernels, Problem(windows, weights, np.ones((len(values), 1), np.float32))
    )
    assert np.isfinite(grad).all()
    return gates[0, :, :3].T


@pytest.mark.parametrize("level", cpp.levels())
def test_gates_have_the_same_bits_wherever_they_are_asked(level: str) -> None:
    values = np.linspace(-20, 20, 100_001).astype(np.float32)
    ours = scanned(load_kernels("cpp", level=level), values)
    assert ours.tobytes() == scanned(load_kernels("numba"), values).tobytes()


def test_gates_are_exact_to_3_ulp_wherever_they_are_asked(kernels: Kernels) -> None:
    values = np.concatenate([np.linspace(-20, 20, 40_001), np.logspace(-30, 1, 6301)])
    values = values.astype(np.float32)
    r, z, c = scanned(kernels, values)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(r, 1 / (1 + np.exp(-wide)), rtol=3e-7)
    np.testing.assert_allclose(z, 1 / (1 + np.exp(wide)), rtol=3e-7)
    np.testing.assert_allclose(c, np.tanh(wide), rtol=3e-7)


@pytest.mark.parametrize("size", [30.0, 86.9, 87.1, 90.0, 200.0, 3e38, np.inf])
def test_saturated_gates_end_at_their_limits(kernels: Kernels, size: float) -> None:
    gates, states, grad = there_and_back(kernels, unit(size, -size, 0.0, size))
    r, z, c, _ = gates[0, 0]
    assert (r, c) == (1.0, 1.0)
    assert 0.0 <= z < 1e-13
    assert states[0, 0, 0] == 1.0
    np.testing.assert_allclose(grad[0, 0], 0.0, atol=1e-12)
    gates, states, grad = there_and_back(kernels, unit(-size, size, 0.0, -size))
    assert 0.0 <= gates[0, 0, 0] < 1e-13
    assert tuple(gates[0, 0, 1:3]) == (1.0, -1.0)
    assert abs(states[0, 0, 0]) < 1e-13
    np.testing.assert_allclose(grad[0, 0], 0.0, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_stays_none_and_its_neighbours_numbers(
    kernels: Kernels, bad: float
) -> None:
    task = problem(20, 3, 2, 20)
    clean = there_and_back(kernels, task)
    task.inputs[9, 1, 0] = bad
    dirty = there_and_back(kernels, task)
    others = np.arange(20) != 9
    for ours, theirs in zip(dirty, clean, strict=True):
        assert ours[:, others].tobytes() == theirs[:, others].tobytes()
    assert dirty[1][0].tobytes() == clean[1][0].tobytes()  # the step before it
    with np.errstate(all="ignore"):
        expected = exact(task)
    for ours, theirs in zip(dirty, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=3e-5, atol=1e-6)  # NaN is equal
    assert np.isnan(dirty[1][:, 9]).any()


@pytest.mark.parametrize("backend", ["numba", "cpp"])
def test_no_window_at_all(backend: str) -> None:
    there_and_back(load_kernels(backend), problem(0, 3, 2, 5))


def test_arrays_of_the_wrong_size_are_refused() -> None:
    kernels, (x, weights, gradient) = load_kernels("cpp"), problem(4, 3, 2, 5)
    gates, grad = np.zeros((2, 3, 4, 20), np.float32)
    states = np.zeros((3, 4, 5), np.float32)
    job = GruJob(x, *weights, gates, states)
    shorter = [{name: getattr(job, name)[:-1]} for name in job._fields[1:]]
    for bad in ({"inputs": x[:, :2]}, {"gates": gates[..., ::2]}, *shorter):
        with pytest.raises(ValueError, match="unexpected size"):
            kernels.gru(job._replace(**bad), 1)
    with pytest.raises(ValueError, match="not \\(n_steps, n, n_units\\)"):
        kernels.gru(job._replace(states=states[0]), 1)
    with pytest.raises(ValueError, match="not \\(n, n_steps, n_inputs\\)"):
        kernels.gru(job._replace(inputs=x[0]), 1)
    back = GruBackwardJob(weights.states, gates, states, gradient, grad)
    for bad in ({"gradient": gradient[:3]}, {"preactivation_grad": grad[:2]}):
        with pytest.raises(ValueError, match="unexpected size"):
            kernels.gru_backward(back._replace(**bad), 1)
