"""Encoders that read observations with gaps, and their training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import l63fast as l63
from encoder_parity import moving_encoder
from experiment_samples import TINY_GRU, tiny_cycled, tiny_windows
from l63fast.errors import ArgumentValueError
from l63fast.experiments.protocols import Problem, Windows
from l63fast.learning import cycles
from l63fast.learning.batches import FixedBatches, Jittered
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.cycles import CycledBatches, TruthChains
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.dynamics import DifferentiableForecast
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.learning.losses import Batch, build_loss
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import ChainSettings, EncoderSettings, TrainSettings
from l63fast.learning.training import train
from l63fast.lorenz63 import forecast
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment
from learning_samples import GRU, LSTM, MLP, TWIN
from learning_samples import B as B_ERROR

HOLED = dataclasses.replace(
    TWIN, missing=0.5, interval=(0.05, 0.2), steps_per_cycle=None, save_every=1
)
R_FULL = np.array([[1.0, 0.5], [0.5, 2.0]])


@pytest.fixture(scope="module")
def holed() -> TwinExperiment:
    return TwinExperiment.generate(dataclasses.replace(HOLED, n_train=6, n_test=4))


def dataset(twin: TwinExperiment, **more: Any) -> AssimilationDataset:
    truth = twin.train.truth_at_observations
    return AssimilationDataset.from_twin(twin, "train", truth + 1.0, window=3, **more)


def untrained(settings: EncoderSettings, twin: TwinExperiment) -> Encoder:
    scales = dataclasses.replace(
        Normaliser.fit(dataset(twin), twin.operator), increment_std=np.ones(3)
    )
    built = build_encoder(settings, scales)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        built.head.outer.weight.normal_(std=0.3)
    return built.eval()


# What an encoder reads


@pytest.mark.parametrize("settings", [GRU, LSTM, MLP], ids=lambda s: s.model)
def test_flags_tell_a_missing_value_from_the_mean_and_times_are_read(
    settings: EncoderSettings, holed: TwinExperiment
) -> None:
    settings = dataclasses.replace(settings, gaps=True)
    built = untrained(settings, holed)
    function = EncoderFunction.of(built)
    mean = built.obs_mean.double().numpy()
    window = np.tile(mean, (1, settings.window, 1))
    background = np.array([[1.0, 2.0, 20.0]])
    whole = function(background, window)
    # An innovation of zero, too: then the flag alone differs.
    background[0, :2] = mean[:2]
    whole, holes, later = function(background, window), window.copy(), window.copy()
    holes[:, -1, 0] = np.nan
    later[:, -1, 2] *= 2.0
    nothing = holes.copy()
    nothing[..., :2] = np.nan
    found = [function(background, w) for w in (holes, later, nothing)]
    for analysis in found:
        assert np.isfinite(analysis).all()
        assert np.abs(analysis - whole).max() > 1e-4
    assert np.abs(found[2] - background).max() > 1e-4  # it is the network's
    for wrong in (np.nan, np.inf):
        later[:, 0, 2] = wrong
        with pytest.raises(ArgumentValueError, match="obs_window: times: expected fin"):
            function(background, later)
    holes[0, 0, 0] = np.inf
    with pytest.raises(ArgumentValueError, match="obs_window: expected finite"):
        function(background, holes)


def test_encoders_without_flags_refuse_nan_by_name() -> None:
    function = EncoderFunction.of(moving_encoder("gru", "xy"))
    window = np.zeros((2, 4, 2))
    window[1, 2, 0] = np.nan
    with pytest.raises(
        ArgumentValueError, match=r"obs_window: .*\(gaps=False\), got 1"
    ):
        function(np.zeros((2, 3)), window)


@pytest.mark.parametrize("operator", ["xy", "x2"])
def test_what_is_hidden_under_nan_has_no_influence(operator: str) -> None:
    """Neither the value, nor the other bits of a NaN."""
    settings = dataclasses.replace(HOLED, operator=operator, n_train=6, n_test=4)
    twin = TwinExperiment.generate(settings)
    built = untrained(dataclasses.replace(GRU, operator=operator, gaps=True), twin)
    scheme = NeuralAnalysis.for_twin(twin, encoder=EncoderFunction.of(built))
    seen = twin.test.timed_observations[:, :1]
    other = seen.copy()
    bits = other.view(np.uint64)
    bits[np.isnan(other)] = 0xFFF8_0000_0000_0BAD
    state = scheme.initial(twin.test.initial_state, np.random.default_rng(0))
    before, after = (scheme.analyse(state, s) for s in (seen, other))
    assert np.isnan(seen).any()
    for a, b in ((before[0], after[0]), (before[1], after[1])):
        for name in ("estimate", "hidden", "state", "residual"):
            if hasattr(a, name):
                assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
    assert np.array_equal(np.isnan(before[1].residual), np.isnan(seen[:, 0, :-1]))


def test_scales_are_those_of_what_is_present(holed: TwinExperiment) -> None:
    data = dataset(holed)
    scales = Normaliser.fit(data, "xy")
    assert np.allclose(scales.obs_mean[:2], np.nanmean(data.obs_window, (0, 1))[:2])
    assert np.allclose(scales.obs_std[:2], np.nanstd(data.obs_window, (0, 1))[:2])
    innovation = data.obs_window[:, -1, 0] - data.background[:, 0]
    low, high = np.nanquantile(innovation, (0.16, 0.84))
    assert np.isclose(scales.innovation_std[0], (high - low) / 2)
    assert scales.obs_mean[2] == scales.obs_std[2] == 0.12  # the mean, in steps
    assert data.obs_dim == 2
    empty = data.obs_window.copy()
    empty[:, -1, 0] = np.nan
    with pytest.raises(ArgumentValueError, match="a value of each component"):
        Normaliser.fit(dataclasses.replace(data, obs_window=empty), "xy")


# Training


def test_gaps_of_the_training_have_the_law_of_the_data() -> None:
    settings = dataclasses.replace(HOLED, missing=0.3)
    chains = TruthChains(settings, 50, seed=3, n_threads=1, gaps=True)
    segments = [chains.advance(40, draw) for draw in range(3)]
    steps = np.concatenate([segment.steps for segment in segments])
    seen = np.concatenate([segment.observations for segment in segments])
    truth = np.concatenate([segment.truth for segment in segments])
    assert set(steps) == set(range(5, 21))
    assert abs(steps.mean() - 12.5) < 1.5
    assert np.array_equal(seen[..., 2], np.repeat(steps[:, None] * 0.01, 50, 1))
    missing = np.isnan(seen[..., :2])
    assert abs(missing.mean() - 0.3) < 0.02
    assert abs(np.corrcoef(missing.reshape(-1, 2).T)[0, 1]) < 0.05
    assert np.array_equal(forecast(truth[0], int(steps[1])), truth[1])
    # The errors of the values that stay are those without gaps.
    whole = dataclasses.replace(settings, missing=0.0)
    plain = TruthChains(whole, 50, seed=3, n_threads=1).advance(40, 0).observations
    present = ~missing[:40]
    assert np.array_equal(plain[present], seen[:40, :, :2][present])
    given = dataclasses.replace(
        settings,
        interval=None,
        steps_per_cycle=None,
        observation_steps=(3, 10, 40, 45, 80),
    )
    drawn = TruthChains(given, 2, seed=3, n_threads=1).advance(200, 0).steps
    assert set(drawn) == {3, 7, 30, 5, 35}


@pytest.mark.parametrize("settings", [GRU, LSTM, MLP], ids=lambda s: s.model)
def test_compiled_chains_are_the_loop_of_torch(
    settings: EncoderSettings, holed: TwinExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(settings, gaps=True)
    unroll = ChainSettings(updates=3, unroll=4, first_unroll=4, through_model=0.0)
    found = []
    for is_fast in (True, False):
        if not is_fast:
            monkeypatch.setattr(cycles, "compiled", lambda *_: None)
        built = untrained(settings, holed)
        source = CycledBatches(
            built, unroll, HOLED, n=16, n_epochs=1, seed=0, n_threads=1
        )
        loss = build_loss("mse", ObservationOperator("xy"))
        for analysis, batch in source.epoch(0, built):
            built.zero_grad()
            loss(analysis, batch).mean().backward()
        parts = (p.grad for p in built.parameters() if p.grad is not None)
        found.append((analysis.detach(), torch.cat([p.flatten() for p in parts])))
    (fast, slope), (slow, expected) = found
    assert torch.allclose(fast, slow, atol=2e-3)
    assert torch.allclose(slope, expected, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("R", [np.diag([1.0, 2.0]), R_FULL], ids=["diagonal", "full"])
def test_missing_values_have_no_row_in_h_and_r(R: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    states, background = rng.normal(size=(2, 40, 3))
    seen = rng.normal(size=(40, 1, 3))
    seen[..., :2][rng.random((40, 1, 2)) < 0.4] = np.nan
    arrays = (background, seen, background)
    batch = Batch(*(torch.from_numpy(a).float() for a in arrays))
    loss = build_loss("var3d", ObservationOperator("xy"), B=B_ERROR, R=R)
    analysis = torch.from_numpy(states).float().requires_grad_()
    cost = loss(analysis, batch)
    cost.sum().backward()
    assert bool(analysis.grad.isfinite().all())  # type: ignore[union-attr]
    for i in range(40):
        there = ~np.isnan(seen[i, 0, :2])
        d = (seen[i, 0, :2] - states[i, :2])[there]
        step = states[i] - background[i]
        J = step @ np.linalg.inv(B_ERROR) @ step
        J += d @ np.linalg.inv(R[np.ix_(there, there)]) @ d if there.any() else 0.0
        assert np.isclose(cost[i].item(), J / 2, rtol=1e-4)


def test_the_cost_of_a_window_goes_by_its_times(holed: TwinExperiment) -> None:
    data = dataset(holed, analysis_at="first")[:50]
    model = DifferentiableForecast(12)
    operator, R = ObservationOperator("xy"), np.eye(2)
    loss = build_loss("var3d_window", operator, B=B_ERROR, R=R, model=model)
    arrays = (data.background, data.obs_window, data.truth)
    batch = Batch(*(torch.from_numpy(a).float() for a in arrays))
    found = loss(batch.truth, batch).numpy()
    step = data.truth - data.background
    J = np.einsum("ni,ij,nj->n", step, np.linalg.inv(B_ERROR), step)
    steps = holed.settings.cycle_steps
    for i, k in enumerate(data.time_index):
        state = data.truth[i]
        for j in range(3):
            if j:
                state = forecast(state, int(steps[k + j]))
            J[i] += np.nansum((data.obs_window[i, -1 - j, :2] - state[:2]) ** 2)
    assert np.allclose(found, J / 2, rtol=1e-2)


def test_mirror_images_and_noise_leave_gaps_and_times(holed: TwinExperiment) -> None:
    data = dataset(holed)
    scales = Normaliser.fit(data, "xy")
    source = FixedBatches(data, len(data), seed=0, mirror=ObservationOperator("xy"))
    [plain] = FixedBatches(data, len(data), seed=0).batches(0)
    [other] = Jittered(source, 0.1, scales, seed=0).batches(0)
    assert torch.equal(plain.obs_window[..., 2], other.obs_window[..., 2])
    assert torch.equal(plain.obs_window.isnan(), other.obs_window.isnan())
    changed = (plain.obs_window != other.obs_window)[..., :2]
    assert bool(changed.all())


def test_trainings_read_gaps_if_the_data_have_them(holed: TwinExperiment) -> None:
    data = dataset(holed)
    mlp = dataclasses.replace(MLP, window=3)
    trained = train(mlp, TrainSettings(epochs=2, batch_size=64), data, data)
    assert trained.encoder.settings.gaps
    assert trained.history[-1]["val_loss"] < 100.0
    whole = dataclasses.replace(mlp, gaps=True)
    plain = TwinExperiment.generate(TWIN)
    with pytest.raises(ArgumentValueError, match="a dataset with gaps=True, got False"):
        train(whole, TrainSettings(epochs=1), dataset(plain), dataset(plain))
    both = dataset(plain, gaps=True)
    trained = train(whole, TrainSettings(epochs=1), both, both)
    assert trained.encoder.settings.gaps


# Files and cycles


def test_an_encoder_with_gaps_in_files_and_cycles(
    holed: TwinExperiment, tmp_path: Path
) -> None:
    cycles_ = ChainSettings(updates=3, unroll=3, first_unroll=2)
    training = TrainSettings(epochs=1, batch_size=16)
    trained = train_cycled(GRU, training, cycles_, holed).encoder
    card = save_model(trained, tmp_path, {}, formats=("torchscript", "pt2"))
    law = {"interval": 0.12, "interval_width": pytest.approx(0.15), "missing": 0.5}
    assert {name: card["training"][name] for name in law} == law
    assert card["inputs"]["obs_window"]["shape"] == ["n", 1, 3]
    own = EncoderFunction.of(trained)
    expected = l63.run_cycles(NeuralAnalysis.for_twin(holed, encoder=own), holed)
    for format in ("safetensors", "torchscript", "pt2"):
        loaded = load_encoder(tmp_path, format=format, trust=True)
        scheme = NeuralAnalysis.for_twin(holed, encoder=loaded)
        run = l63.run_cycles(scheme, holed)
        assert np.allclose(run.analysis, expected.analysis, atol=1e-3)
    # By hand.
    state, hidden, seen = holed.climatology.mean + np.zeros((4, 3)), None, holed.test
    for k, n_steps in enumerate(holed.settings.cycle_steps.tolist()):
        state = forecast(state, n_steps)
        window = np.column_stack([seen.observations[:, k], np.full(4, n_steps * 0.01)])
        state, hidden = own.step(state, window[:, None], hidden)
        assert np.array_equal(state, expected.analysis[:, k])
    scheme = NeuralAnalysis.for_twin(holed, encoder=load_encoder(tmp_path))
    other = dataclasses.replace(holed.settings, missing=0.2)
    twin = TwinExperiment.generate(other)
    with pytest.raises(ArgumentValueError, match=r"encoder\.missing 0\.2 as in the"):
        l63.run_cycles(scheme, twin)
    [differs] = l63.run_cycles(scheme, twin, imperfect_model=True).imperfect_model
    assert str(differs) == "encoder.missing 0.5 instead of 0.2"
    regular = dataclasses.replace(holed.settings, interval=None, steps_per_cycle=12)
    with pytest.raises(ArgumentValueError, match=r"encoder\.interval_width 0 as in"):
        l63.run_cycles(scheme, TwinExperiment.generate(regular))


@pytest.mark.parametrize("loss", ["mse", "var3d", "var3d_window"])
def test_windows_with_gaps(loss: str) -> None:
    data = {"interval": [0.05, 0.2], "missing": 0.3, "n_steps": 150}
    method = {"scheme": "encoder", "model": "mlp", "hidden": 4, "fresh": 4}
    method["training"] = {"epochs": 1, "batch_size": 16, "loss": loss}
    experiment = tiny_windows("3dvar", "gru", data=data, methods={"it": method})
    [cell] = experiment.cells()
    twin = TwinExperiment.generate(cell.data)
    protocol = cell.protocol
    assert isinstance(protocol, Windows)
    problem = Problem(twin, protocol, "rmse_a")
    fitted = cell.method.fit(problem)
    found = problem.run(fitted, "test").analysis
    assert np.isfinite(found).all()
    at = "first" if loss == "var3d_window" else "last"
    samples = problem.samples("test", analysis_at=at)
    scheme: Any = fitted.scheme
    function = scheme.function if at == "first" else scheme.encoder
    expected = function(samples.background, samples.obs_window).reshape(found.shape)
    if at == "first":
        steps = twin.settings.cycle_steps
        for k, last in enumerate(protocol.last_observations(cell.data)):
            n_steps = int(steps[last - 1 : last + 1].sum())
            expected[:, k] = forecast(expected[:, k], n_steps)
    assert np.allclose(found, expected, atol=1e-3)


@pytest.mark.slow
def test_an_experiment_with_gaps_trains_encoders(tmp_path: Path) -> None:
    experiment = tiny_cycled("oi", "enkf", "pf", methods={"gru": TINY_GRU})
    frame = experiment.vary(missing=[0, 0.5]).run(tmp_path)
    assert np.isfinite(frame["rmse_a"]).all()
    for case, gaps in (("m0", False), ("m0.5", True)):
        loaded = load_encoder(tmp_path / "tiny" / f"{case}-gru")
        assert loaded.settings.gaps == gaps
    assert loaded.card["training"]["gaps"] == "50 % missing"  # type: ignore[index]
