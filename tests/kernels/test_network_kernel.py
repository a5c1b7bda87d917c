"""The kernels of networks in training: their bits, their values, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast._kernels import Kernels, cpp, load_kernels
from network_help import GOLDEN, INPUTS, golden_bits, network, there_and_back


@pytest.fixture(params=cpp.levels())
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return load_kernels("cpp", level=request.param)


@pytest.mark.promise("N2", "golden hash of the kernels of networks, every level")
def test_golden_bits_from_every_level(kernels: Kernels) -> None:
    assert golden_bits(kernels) == GOLDEN


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 97])
def test_a_sample_does_not_depend_on_its_batch(n: int) -> None:
    kernels = load_kernels("cpp")
    everyone, some = there_and_back(kernels, 250), there_and_back(kernels, n)
    for mine, theirs in zip(some[:-1], everyone[:-1], strict=True):
        assert mine.tobytes() == theirs[:n].tobytes()


def test_no_sample_at_all() -> None:
    *_, sums = there_and_back(load_kernels("cpp"), 0)
    assert not sums.any()


def activations(kernels: Kernels, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return silu and its slope, then r, z and c of a GRU, of v, v, -v and v."""
    slots = [(width, True, False) for width in (1, 1, 1, 1, 4)]
    layers = [(1, 0, -1, -1, -1, 2, 1, -1, 0), (2, 0, -1, -1, -1, 4, 3, -1, 2)]
    net = kernels.network(slots, layers, [(0, 0, 12, 0, 1, 0, 1)], 12)
    # silu: weight, bias; gru: weights of r, z, c, of the state, biases.
    net.pack([np.array([1, 0, 1, -1, 1, 0, 0, 0, 0, 0, 0, 0], np.float32)])
    n = len(values)
    out = np.zeros(8 * n + 16, np.float32)
    out[:n] = values
    net.forward(out, n)
    gates = out[4 * n : 8 * n].reshape(n, 4)
    return out[n : 2 * n], out[2 * n : 3 * n], *gates.T[1:]


def test_activations_are_exact_to_a_few_ulp(kernels: Kernels) -> None:
    values = np.concatenate([np.linspace(-20, 20, 40_001), np.logspace(-30, 1, 6301)])
    values = values.astype(np.float32)
    wide = values.astype(np.float64)
    s = 1 / (1 + np.exp(-wide))
    exact = wide * s, s * (1 + wide * (1 - s)), s, 1 / (1 + np.exp(wide)), np.tanh(wide)
    for ours, theirs in zip(activations(kernels, values), exact, strict=True):
        # 1 - s loses digits where s is near 1.
        np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=2e-6)
    np.testing.assert_allclose(activations(kernels, values)[4], exact[4], rtol=3e-7)


@pytest.mark.parametrize("size", [86.9, 87.1, 200.0, 3e38, np.inf])
def test_saturated_gates_end_at_their_limits(kernels: Kernels, size: float) -> None:
    _, _, r, z, c = activations(kernels, np.float32([size, -size]))
    assert (r[0], z[1], c[0], c[1]) == (1.0, 1.0, 1.0, -1.0)
    assert 0.0 <= r[1] < 1e-13
    assert 0.0 <= z[0] < 1e-13


def test_arrays_of_the_wrong_size_are_refused() -> None:
    net, _, n_weights = network(load_kernels("cpp"))
    values = np.zeros(net.n_values * 4 + 16, np.float32)
    sums = np.zeros(n_weights, np.float32)
    for method in (net.pack, net.take_gradients):
        with pytest.raises(ValueError, match="parameters: shape"):
            method([sums[1:]])
        with pytest.raises(ValueError, match="parameters: number"):
            method([])
    sums.flags.writeable = False
    with pytest.raises(ValueError, match="gradients: read-only"):
        net.take_gradients([sums])
    for n in (3, 5):
        with pytest.raises(ValueError, match=r"unexpected size|not that of the array"):
            net.forward(values, n)
    with pytest.raises(ValueError, match="n: not that of the array"):
        net.forward(values, 2**62)
    with pytest.raises(ValueError, match="unexpected size"):
        net.backward(values, values[1:].copy(), 4)
    with pytest.raises(TypeError, match="incompatible"):
        net.forward(values.astype(np.float64), 4)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        ((4, 0, -1, -1, -1, -1, 1, -1, 0), "kind"),
        ((0, 9, -1, -1, -1, -1, 1, -1, 0), "slot"),
        ((0, 0, -1, -1, -1, -1, -1, -1, 0), "slot"),
        ((2, 0, -1, 0, -1, 2, 1, -1, 0), "width"),
        ((1, 0, -1, -1, -1, 0, 1, -1, 0), "width"),
        ((0, 0, -1, -1, -1, -1, 1, -1, 10**6), "weights"),
        ((0, 0, -1, -1, -1, -1, 1, -1, -1), "weights"),
    ],
)
def test_layers_that_would_leave_the_memory_are_refused(layer, what: str) -> None:
    slots = [*INPUTS[:2], (84, True, False)]
    with pytest.raises(ValueError, match=f"layers: {what}"):
        load_kernels("cpp").network(slots, [layer], [], 5000)


def test_weights_are_shared_by_equal_layers_only() -> None:
    slots = [(width, True, False) for width in (3, 5, 5)]
    layers = [(0, 0, -1, -1, -1, -1, 1, -1, 0), (0, 1, -1, -1, -1, -1, 2, -1, 0)]
    with pytest.raises(ValueError, match="layers: shared weights"):
        load_kernels("cpp").network(slots, layers, [], 100)


@pytest.mark.parametrize(
    "piece", [(0, 0, 4, 0, 4, 0, 4), (0, -1, 4, 0, 1, 0, 4), (0, 0, 4, 0, 2, 1, 4)]
)
def test_pieces_outside_the_weights_are_refused(piece) -> None:
    with pytest.raises(ValueError, match="pieces: range"):
        load_kernels("cpp").network(INPUTS, [], [piece], 8)
