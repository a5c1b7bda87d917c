"""Encoders that estimate a distribution: losses, heads, members, files, training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from l63fast.assimilation.cycling import run_cycles
from l63fast.errors import ArgumentTypeError, ArgumentValueError, ModelFileError
from l63fast.learning import uncertainty
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.learning.losses import Batch, build_loss
from l63fast.learning.normaliser import Normaliser, fold
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.learning.training import train
from l63fast.learning.uncertainty import as_components, as_mixture
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment
from l63fast.verification import mixture_moments, score_mixtures
from learning_samples import CYCLES, GRU, TWIN, samples

GAUSSIAN = dataclasses.replace(GRU, uncertainty="gaussian")
FOLDED = EncoderSettings("gru", "x2", 1, 8, memory="carried", uncertainty="mixture")
WINDOW = EncoderSettings("mlp", "xy", 2, 8, 2, uncertainty="mixture")
KINDS = [GAUSSIAN, FOLDED, WINDOW]


def encoder(settings: EncoderSettings, size: float = 0.1) -> Encoder:
    """Return an encoder that nobody trained, yet whose outputs are not zero."""
    data = samples(str(settings.operator), 200, window=settings.window)
    built = build_encoder(settings, Normaliser.fit(data, str(settings.operator)))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for layer in (built.head.outer, getattr(built.head, "uncertainty", None)):
            if layer is not None:
                layer.weight.normal_(std=size)
                layer.bias.normal_(std=size)
    return built.eval()


def given(settings: EncoderSettings, n: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    data = samples(str(settings.operator), n, window=settings.window)
    tensors = (torch.from_numpy(a).float() for a in (data.background, data.obs_window))
    return *tensors, torch.zeros(n, encoder(settings).hidden_size)


def mixture_of(analysis: Tensor, outputs: Tensor, scale: Any, folds: bool) -> Tensor:
    places = uncertainty.places().to(outputs)
    return uncertainty.mixture_of(analysis, outputs, scale, places, folds)


def drawn(n: int, size: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=draw), torch.randn(n, size, generator=draw)


@pytest.mark.parametrize("size", [6, 16])
def test_losses_are_the_scores_of_verification(size: int) -> None:
    from scoringrules import crps_mixnorm

    truth, outputs = drawn(50, size)
    mixture = mixture_of(truth.flip(0), outputs, torch.tensor([1.0, 2.0, 0.5]), False)
    components, batch = as_components(mixture.numpy()), Batch(truth, truth, truth)
    log_score = build_loss("log_score", ObservationOperator("xy"))(mixture, batch)
    expected = score_mixtures(components, truth.numpy()).log_score
    np.testing.assert_allclose(log_score, expected, rtol=2e-4, atol=2e-5)
    crps = build_loss("crps", ObservationOperator("xy"))
    along = uncertainty.directions(truth).numpy().T
    turned = components["factor"].swapaxes(-1, -2) @ along
    sigma = np.sqrt((turned**2).sum(axis=-2))
    weight = np.broadcast_to(components["weight"][..., None], sigma.shape)
    given = truth.numpy() @ along, components["mean"] @ along, sigma, weight
    each = crps_mixnorm(*given, m_axis=1)
    np.testing.assert_allclose(crps(mixture, batch), each.sum(axis=1), rtol=2e-4)
    off = np.abs((truth.flip(0) - truth).numpy() @ along).sum(axis=1)
    np.testing.assert_allclose(crps(truth.flip(0), batch), off, rtol=1e-5)


@pytest.mark.parametrize("name", ["log_score", "crps"])
def test_the_best_normal_has_the_covariance_of_the_errors(name: str) -> None:
    A = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.2, 0.1, 2.0]])
    errors = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)) @ A.T
    outputs = torch.zeros(1, 6, requires_grad=True)
    loss = build_loss(name, ObservationOperator("xyz"))
    optimiser = torch.optim.LBFGS([outputs], max_iter=30, line_search_fn="strong_wolfe")
    batch = Batch(errors, errors, errors)

    def cost() -> Tensor:
        optimiser.zero_grad()
        mixture = mixture_of(torch.zeros(1, 3), outputs, torch.full((3,), 0.7), False)
        value = loss(mixture.expand(len(errors), -1, -1), batch).mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(cost)  # type: ignore[no-untyped-call]
    mixture = mixture_of(torch.zeros(1, 3), outputs, torch.full((3,), 0.7), False)
    found = mixture_moments(as_components(mixture.detach().numpy()))[1][0]
    wanted = (errors.T @ errors / len(errors)).numpy()
    # Only the log score has the moments of the sample for its minimum.
    limit = 1e-3 if name == "log_score" else 0.06
    np.testing.assert_allclose(found, wanted, atol=limit)


def test_folded_factors_are_those_of_the_states() -> None:
    state, outputs = drawn(40, 7)
    state = 5.0 * state.double() + torch.tensor([3.0, 0.0, 20.0])
    mixture = mixture_of(state, outputs.double(), torch.ones(3).double(), True)
    plain = mixture_of(state, outputs[:, :6].double(), torch.ones(3).double(), False)
    components, folded = (
        as_components(mixture.numpy()),
        plain[:, 0, 4:].reshape(-1, 3, 3),
    )
    step = 1e-6
    for j in range(3):
        moved = state + step * torch.from_numpy(components["factor"][:, 0, :, j])
        change = (fold(moved) - fold(state)) / step
        torch.testing.assert_close(change, folded[:, :, j], rtol=1e-4, atol=1e-4)
    mirror = np.array([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(components["mean"][:, 1], mirror * state.numpy())
    np.testing.assert_allclose(components["weight"].sum(axis=1), 1.0)
    covariance = [a @ a.swapaxes(1, 2) for a in components["factor"].swapaxes(0, 1)]
    np.testing.assert_allclose(covariance[1], covariance[0] * np.outer(mirror, mirror))


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: f"{s.model}-{s.uncertainty}")
def test_the_analysis_is_that_of_an_encoder_without_uncertainty(settings: Any) -> None:
    plain = encoder(dataclasses.replace(settings, uncertainty="none"))
    built = encoder(settings)
    for name, value in plain.state_dict().items():
        assert torch.equal(built.state_dict()[name], value) or "outer" in name
    built.load_state_dict(plain.state_dict(), strict=False)
    with torch.inference_mode():
        analysis, hidden, mixture = built(*given(settings))
        expected, memory = plain(*given(settings))
    assert torch.equal(analysis, expected)
    assert torch.equal(hidden, memory)
    mean = (mixture[..., :1] * mixture[..., 1:4]).sum(1)
    of_first = mixture[:, 0, 1:4] if settings.folds else mean
    torch.testing.assert_close(of_first, analysis)
    assert float(mixture.std(0)[:, 4].min()) > 0.0  # it depends on the sample


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: f"{s.model}-{s.uncertainty}")
def test_fifty_members_are_one_call(settings: EncoderSettings) -> None:
    function = EncoderFunction.of(encoder(settings))
    background, window, _ = (a.double().numpy() for a in given(settings))
    members = function.members(background, window, 50, seed=3)
    assert members.shape == (30, 50, 3)
    np.testing.assert_array_equal(
        members, function.members(background, window, 50, seed=3)
    )
    found = function.estimate(background, window)
    mean, _ = mixture_moments(found.components)
    many = function.members(background, window, 20_000)
    np.testing.assert_allclose(many.mean(axis=1), mean, atol=0.3)
    if not settings.folds:
        assert found.spread is not None
        np.testing.assert_allclose(many.std(axis=1), found.spread, rtol=0.05)
        np.testing.assert_allclose(mean, found.analysis, atol=1e-4)
    plain = EncoderFunction.of(encoder(GRU))
    with pytest.raises(ArgumentTypeError, match="components: expected"):
        plain.members(*(a.double().numpy() for a in given(GRU)[:2]), 50)


def test_cycles_keep_the_distributions() -> None:
    twin = TwinExperiment.generate(dataclasses.replace(TWIN, n_test=3))
    scheme = NeuralAnalysis(EncoderFunction.of(encoder(GAUSSIAN)))
    result = run_cycles(scheme, twin, n_cycles=5)
    assert result.components is not None
    assert result.components.shape == (3, 5, 1)
    assert result.spread is not None
    factor = result.components["factor"][..., 0, :, :]
    np.testing.assert_allclose(result.spread**2, (factor**2).sum(axis=-1), rtol=1e-6)
    np.testing.assert_allclose(
        result.components["mean"][..., 0, :], result.analysis, rtol=1e-6
    )
    assert result.draw_members(7, seed=1).shape == (3, 5, 7, 3)


def test_a_lost_trajectory_has_no_distribution() -> None:
    scheme = NeuralAnalysis(EncoderFunction.of(encoder(GAUSSIAN)))
    background = np.array([[1.0, 2.0, 20.0], [np.nan, 0.0, 20.0]])
    state = scheme.initial(background, np.random.default_rng(0))
    _, analysis = scheme.analyse(state, np.ones((2, 1, 2)))
    assert analysis.components is not None
    assert analysis.covariance is not None
    assert np.isfinite(analysis.covariance[0]).all()
    assert np.isnan(analysis.covariance[1]).all()
    assert np.isnan(analysis.state[1]).all()
    assert np.isfinite(analysis.draw_members(4)[0]).all()


@pytest.mark.parametrize("kind", ["spread", "members"])
def test_a_function_of_ones_own_may_give_spread_or_members(kind: str) -> None:
    def program(background: Tensor, window: Tensor, hidden: Tensor) -> Any:
        spread = 0.5 + background.abs()
        sides = torch.stack([background - spread, background + spread], 1)
        return background, hidden, spread if kind == "spread" else sides

    function = EncoderFunction.own(program, "xy")
    background, window = np.ones((600, 3)), np.ones((600, 1, 2))
    found = function.estimate(background, window)
    assert found.spread is not None
    expected = 1.5 if kind == "spread" else 1.5 * np.sqrt(2.0)
    np.testing.assert_allclose(found.spread, expected, rtol=1e-6)
    assert (found.members is None) == (kind == "spread")
    wrong = EncoderFunction.own(lambda b, w, h: (b, h, b[:, :2]), "xy")
    with pytest.raises(
        ArgumentValueError, match=r"expected spread \(600, 3\) or members"
    ):
        wrong.estimate(background, window)


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: f"{s.model}-{s.uncertainty}")
@pytest.mark.parametrize("format", ["safetensors", "torchscript"])
def test_files_hold_the_distribution(
    settings: EncoderSettings, format: str, tmp_path: Path
) -> None:
    built = encoder(settings)
    card = save_model(built, tmp_path, {"interval": 0.1}, formats=("torchscript",))
    assert card["outputs"]["mixture"]["shape"][2] == 13
    loaded = load_encoder(tmp_path, format=format, trust=True)
    background, window, _ = (a.double().numpy() for a in given(settings))
    found = loaded.estimate(background, window).components
    expected = EncoderFunction.of(built).estimate(background, window).components
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found["factor"], expected["factor"], atol=1e-4)


def test_onnx_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(ModelFileError, match="onnx: expected an encoder with unc"):
        save_model(encoder(GAUSSIAN), tmp_path, {}, formats=("onnx",))


@pytest.mark.parametrize(
    ("settings", "loss"), [(GRU, "crps"), (GAUSSIAN, "mse"), (FOLDED, "distance")]
)
def test_loss_and_uncertainty_must_fit(settings: EncoderSettings, loss: str) -> None:
    with pytest.raises(ArgumentValueError, match="loss: expected"):
        settings.check_loss(loss)


@pytest.mark.parametrize("loss", ["crps", "log_score"])
@pytest.mark.parametrize("settings", [GAUSSIAN, FOLDED], ids=lambda s: s.uncertainty)
def test_training_in_cycles_improves_the_score(
    settings: EncoderSettings, loss: str
) -> None:
    data = dataclasses.replace(TWIN, operator=settings.operator, sigma=1.0)
    recipe = TrainSettings(loss=loss, epochs=6, batch_size=32, learning_rate=0.01)
    trained = train_cycled(settings, recipe, CYCLES, TwinExperiment.generate(data))
    losses = [row["val_loss"] for row in trained.history]
    assert min(losses[3:]) < losses[0]


def test_training_on_windows_learns_the_spread() -> None:
    settings = EncoderSettings("mlp", "xyz", 2, 16, uncertainty="gaussian")
    recipe = TrainSettings(loss="crps", epochs=12, batch_size=64, mirror=False)
    data, other = samples("xyz", 3000), samples("xyz", 2000, seed=1)
    trained = train(settings, recipe, data, other)
    found = EncoderFunction.of(trained.encoder).estimate(
        other.background, other.obs_window
    )
    assert found.components is not None
    scores = score_mixtures(found.components[None], other.truth[None])
    assert scores.columns()["covered_90"][0] == pytest.approx(0.9, abs=0.03)


def test_mixtures_are_components() -> None:
    truth, outputs = drawn(5, 16)
    mixture = mixture_of(truth, outputs, torch.ones(3), False)
    torch.testing.assert_close(as_mixture(as_components(mixture.numpy())), mixture)
