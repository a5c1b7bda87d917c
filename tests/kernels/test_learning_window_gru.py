"""The GRU in training: torch's own values and gradients, and nn.GRU everywhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from l63fast._kernels import cpp, load_kernels
from l63fast.learning import readers
from l63fast.learning.readers import GRU, Sizes, can_train, last_state

SIZES = Sizes(obs_dim=2, window=5, width=16, hidden=16, n_innovations=2)
SHAPES = [(256, 5, 2, 64), (1, 1, 1, 1), (1, 7, 3, 64), (37, 1, 2, 17), (53, 20, 1, 30)]


@pytest.fixture
def kernel_calls(monkeypatch) -> list[Tensor]:
    """Return what becomes the list of the windows that the kernel was given."""
    calls: list[Tensor] = []

    def spied(cell: nn.GRU, obs_window: Tensor) -> Tensor:
        calls.append(obs_window)
        return last_state(cell, obs_window)

    monkeypatch.setattr(readers, "last_state", spied)
    return calls


def cell_and_windows(n: int, length: int, inputs: int, units: int):
    torch.manual_seed(n + units)
    return nn.GRU(inputs, units), torch.randn(n, length, inputs, requires_grad=True)


def gradients(state: Tensor, cell: nn.GRU, windows: Tensor) -> list[Tensor]:
    """Return the state and all gradients of a loss with a weight for each element."""
    weight = torch.linspace(-1, 1, state.numel(), dtype=state.dtype)
    loss = (state * weight.reshape(state.shape)).sum()
    wanted = [*cell.parameters(), windows]
    return [state.detach(), *torch.autograd.grad(loss, wanted)]


def torchs(cell: nn.GRU, windows: Tensor) -> Tensor:
    return cell(windows.transpose(0, 1))[0][-1]


def distances(some: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Return the largest difference of each, in units of the largest value."""
    return [
        ((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30)).item()
        for a, b in zip(some, exact, strict=True)
    ]


@pytest.mark.parametrize("scale", [1.0, 8.0], ids=["usual", "saturated"])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_as_exact_as_torchs_own(shape, scale) -> None:
    cell, windows = cell_and_windows(*shape)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(scale)
    wide, wide_windows = copy.deepcopy(cell).double(), windows.detach().double()
    wide_windows.requires_grad_()
    exact = gradients(torchs(wide, wide_windows), wide, wide_windows)
    ours = distances(gradients(last_state(cell, windows), cell, windows), exact)
    theirs = distances(gradients(torchs(cell, windows), cell, windows), exact)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine < max(2e-6, 4 * other)


def test_windows_in_any_layout_give_the_same_bits() -> None:
    cell, windows = cell_and_windows(12, 5, 2, 16)
    plain = gradients(last_state(cell, windows), cell, windows)
    moved = windows.detach().transpose(0, 1).contiguous().transpose(0, 1)
    other = gradients(last_state(cell, moved.requires_grad_()), cell, moved)
    assert all(map(torch.equal, plain, other))


def test_weights_in_any_layout_give_the_same_bits() -> None:
    cell, windows = cell_and_windows(12, 5, 2, 16)
    plain = gradients(last_state(cell, windows), cell, windows)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weight = getattr(cell, name)
        weight.data = weight.detach().t().contiguous().t()
    other = gradients(last_state(cell, windows), cell, windows)
    assert all(map(torch.equal, plain, other))


def test_a_graph_that_is_kept_gives_its_gradient_again() -> None:
    cell, windows = cell_and_windows(12, 5, 2, 16)
    loss = last_state(cell, windows).square().sum()
    wanted = [*cell.parameters(), windows]
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(loss, wanted)))


def test_its_gradient_has_none_and_says_so() -> None:
    cell, windows = cell_and_windows(4, 3, 2, 8)
    loss = last_state(cell, windows).square().sum()
    (gradient,) = torch.autograd.grad(loss, cell.weight_hh_l0, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("changed", ["weight_ih_l0", "weight_hh_l0", "windows"])
def test_values_that_change_before_the_way_back_are_noticed(changed: str) -> None:
    cell, windows = cell_and_windows(4, 3, 2, 8)
    loss = last_state(cell, windows).sum()
    with torch.no_grad():
        (windows if changed == "windows" else getattr(cell, changed)).add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_passes_as_it_does_through_torch(bad: float) -> None:
    cell, windows = cell_and_windows(9, 4, 2, 20)
    with torch.no_grad():
        windows[3, 1, 0] = bad
    ours = gradients(last_state(cell, windows), cell, windows)
    theirs = gradients(torchs(cell, windows), cell, windows)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine.isnan(), other.isnan())
        assert torch.equal(mine.isinf(), other.isinf())
    assert ours[0].isnan().any() == (bad != bad)


@pytest.mark.skipif(not load_kernels().native_fma, reason="the kernel is slow here")
def test_a_reader_in_training_is_read_by_the_kernel(kernel_calls) -> None:
    reader, hidden = GRU(SIZES), torch.zeros(6, 0)
    reader(torch.ones(6, 5, 2), hidden)[0].sum().backward()
    assert len(kernel_calls) == 1


def test_elsewhere_a_reader_is_read_by_torch(kernel_calls) -> None:
    reader, windows, hidden = (
        GRU(SIZES),
        torch.ones(6, 5, 2),
        torch.zeros(6, 0),
    )
    with torch.no_grad():
        reader(windows, hidden)
    with torch.inference_mode():
        reader(windows, hidden)
    reader.eval()
    gradient = torch.autograd.grad(
        reader(windows, hidden)[0].sum(), reader.cell.weight_hh_l0, create_graph=True
    )[0]
    gradient.sum().backward()  # torch's own gradient has one
    reader.train().to("meta")
    reader(windows.to("meta"), hidden)
    reader = GRU(SIZES).double()
    reader(windows.double(), hidden)
    assert kernel_calls == []


def test_no_window_is_left_to_torch(kernel_calls) -> None:
    reader = GRU(SIZES)
    found = reader(torch.ones(0, 5, 2), torch.zeros(0, 0))[0]
    assert found.shape == (0, 16)
    found.sum().backward()
    assert kernel_calls == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*were assigned during export:UserWarning")
def test_programs_of_a_reader_in_training_hold_torchs_own_cell(kernel_calls) -> None:
    reader = GRU(SIZES)
    example = torch.ones(6, 5, 2), torch.zeros(6, 0)
    scripted = torch.jit.script(reader)
    assert "gru" in str(scripted.inlined_graph)
    traced = torch.jit.trace(reader, example, check_trace=False)
    assert "gru" in str(traced.inlined_graph)
    exported = torch.export.export(reader, example)
    assert "gru" in str(exported.graph)
    assert kernel_calls == []
    assert torch.equal(scripted(*example)[0], traced(*example)[0])


@pytest.mark.parametrize("level", ["numba", *cpp.levels()])
def test_only_kernels_that_are_fast_are_asked(level: str, monkeypatch) -> None:
    numba = level == "numba"
    kernels = load_kernels("numba") if numba else load_kernels("cpp", level=level)
    monkeypatch.setattr(readers, "load_kernels", lambda: kernels)
    cell, windows = cell_and_windows(4, 3, 2, 8)
    assert can_train(cell, windows) == (level in ("x86-64-v3", "x86-64-v4"))


def test_its_bits_depend_on_no_number_of_threads() -> None:
    cell, windows = cell_and_windows(1300, 5, 2, 64)
    before = torch.get_num_threads()
    try:
        found = []
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            state = last_state(cell, windows)
            found += [state, torch.autograd.grad(state.sum(), windows)[0]]
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, found[:2] * 2, found[2:]))
