"""Losses are the costs they are named after, and var3d leads to the analytic gain."""

import numpy as np
import pytest
import torch

from l63fast.assimilation.four_d_var import WindowCost, carrier
from l63fast.assimilation.gauss_newton import minimise
from l63fast.assimilation.three_d_var import variational_cost
from l63fast.errors import ArgumentValueError
from l63fast.learning.batches import as_batch
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.dynamics import DifferentiableForecast
from l63fast.learning.inference import EncoderFunction
from l63fast.learning.losses import build_loss
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.learning.training import train
from l63fast.lorenz63 import Lorenz63, simulate, spin_up
from l63fast.observation import ObservationOperator
from learning_samples import B, samples


def test_mse_is_the_squared_error() -> None:
    data = samples("xy", 30)
    loss = build_loss("mse", ObservationOperator("xy"))
    value = loss(torch.from_numpy(data.background).float(), as_batch(data))
    expected = ((data.background - data.truth) ** 2).sum(1)
    assert np.allclose(value, expected, rtol=1e-4)


def test_distance_is_the_root_of_it_with_a_gradient_even_at_the_truth() -> None:
    data = samples("xy", 30)
    loss = build_loss("distance", ObservationOperator("xy"))
    batch = as_batch(data)
    expected = np.sqrt(((data.background - data.truth) ** 2).sum(1))
    assert np.allclose(loss(batch.background, batch), expected, rtol=1e-4)
    analysis = torch.cat([batch.truth[:15], batch.background[15:]]).requires_grad_()
    loss(analysis, batch).sum().backward()
    assert analysis.grad is not None
    size = analysis.grad.norm(dim=1)
    assert (size[:15] == 0.0).all()
    assert torch.allclose(size[15:], torch.ones(15))


@pytest.mark.parametrize("name", ["mse", "distance"])
@pytest.mark.parametrize(("operator", "blind"), [("x2", True), ("x", False)])
def test_the_mirror_is_forgiven_where_it_cannot_be_seen(
    operator: str, blind: bool, name: str
) -> None:
    data = samples(operator, 30)
    batch = as_batch(data)
    mirrored = batch.truth * torch.tensor([-1.0, -1.0, 1.0])
    value = build_loss(name, ObservationOperator(operator))(mirrored, batch)
    assert bool((value < 1e-5).all()) is blind


@pytest.mark.parametrize("operator", ["x", "xyz", "x2", "xz2"])
def test_var3d_is_the_variational_cost(operator: str) -> None:
    h = ObservationOperator(operator)
    data = samples(operator, 30)
    R = np.eye(h.obs_dim) + 0.3
    loss = build_loss("var3d", h, B=B, R=R)
    state = data.truth + 0.5
    value = loss(torch.from_numpy(state).float(), as_batch(data))
    last = np.ascontiguousarray(data.obs_window[:, -1])
    expected = variational_cost(state, data.background, last, h, B=B, R=R)
    assert np.allclose(value, expected, rtol=2e-3)


@pytest.mark.parametrize("operator", ["xy", "x2"])
def test_var3d_window_is_the_cost_of_4d_var(operator: str) -> None:
    h = ObservationOperator(operator)
    data = samples(operator, 30, window=4)
    R = np.eye(h.obs_dim) + 0.3
    model = DifferentiableForecast(5)
    loss = build_loss("var3d_window", h, B=B, R=R, model=model)
    state = data.truth + 0.5
    start = torch.from_numpy(state).float()
    expected = WindowCost(
        data.background,
        np.ascontiguousarray(data.obs_window[:, ::-1]),
        (5, 5, 5),
        h,
        root=np.linalg.cholesky(B),
        whitening=np.linalg.inv(np.linalg.cholesky(R)),
        carry=carrier(dt=0.01, parameters=Lorenz63(), n_threads=1, backend="auto"),
    )
    batch = as_batch(data)
    for share, cost in ((0.0, expected.of_first(1)), (0.5, expected.of_first(3))):
        value = loss.at(share)(start, batch)
        assert np.allclose(value, cost.expanded(cost.control(state)).cost, rtol=2e-3)
    whole = expected.expanded(expected.control(state)).cost
    assert np.allclose(loss(start, batch), whole, rtol=2e-3)
    assert np.allclose(loss.at(2.0)(start, batch), whole, rtol=2e-3)


def test_var3d_window_brings_encoders_to_the_minima_of_4d_var() -> None:
    h, R, model = ObservationOperator("xy"), np.eye(2), DifferentiableForecast(5)
    train_data, test = (_courses(h, n, seed) for seed, n in enumerate((4000, 500)))
    result = train(
        EncoderSettings("mlp", "xy", window=3, hidden=32, analysis_at="first"),
        TrainSettings(
            loss="var3d_window", epochs=12, batch_size=64, learning_rate=1e-2,
            mirror=False,
        ),
        train_data,
        test,
        B=B,
        R=R,
        model=model,
    )  # fmt: skip
    loss = build_loss("var3d_window", h, B=B, R=R, model=model)
    cost = WindowCost(
        test.background,
        np.ascontiguousarray(test.obs_window[:, ::-1]),
        (5, 5),
        h,
        root=np.linalg.cholesky(B),
        whitening=np.eye(2),
        carry=carrier(dt=0.01, parameters=Lorenz63(), n_threads=1, backend="auto"),
    )
    start = np.zeros_like(test.background)
    oracle = minimise(cost, start, max_iter=20, tol=1e-6).at.cost.mean()
    batch = as_batch(test)
    analysis = EncoderFunction.of(result.encoder)(test.background, test.obs_window)
    reached = float(loss(torch.from_numpy(analysis).float(), batch).mean())
    assert -1e-3 < reached / oracle - 1.0 < 0.05
    assert float(loss(batch.background, batch).mean()) / oracle - 1.0 > 0.2


def _courses(h: ObservationOperator, n: int, seed: int) -> AssimilationDataset:
    """Windows of three observations, five steps apart, of states on the attractor."""
    rng = np.random.default_rng(seed)
    truth = spin_up(n, seed=seed)
    course = simulate(truth, 10, save_every=5)
    seen = h(course) + rng.normal(size=(n, 3, h.obs_dim))
    return AssimilationDataset(
        background=truth + rng.multivariate_normal(np.zeros(3), B, size=n),
        obs_window=np.ascontiguousarray(seen[:, ::-1]),
        truth=truth,
        trajectory=np.arange(n),
        time_index=np.zeros(n, dtype=np.int64),
    )


def test_var3d_needs_its_covariances() -> None:
    with pytest.raises(ArgumentValueError, match="B: expected a covariance"):
        build_loss("var3d", ObservationOperator("x"), R=np.eye(1))
    with pytest.raises(ArgumentValueError, match="R: expected a positive definite"):
        build_loss("var3d", ObservationOperator("x"), B=B, R=-np.eye(1))
    for R in (np.full((1, 1), 1e-80), np.full((1, 1), 1e100)):
        with pytest.raises(ArgumentValueError, match=r"R: .* within float32, got 1e"):
            build_loss("var3d", ObservationOperator("x"), B=B, R=R)
    with pytest.raises(ArgumentValueError, match="loss: expected one of"):
        build_loss("mae", ObservationOperator("x"))
    with pytest.raises(ArgumentValueError, match="model: expected the model between"):
        build_loss("var3d_window", ObservationOperator("x"), B=B, R=np.eye(1))


@pytest.mark.parametrize(
    ("model", "operator"),
    [
        ("mlp", "x"),
        ("gru", "xy"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("mlp", "xy"), ("gru", "x"), ("lstm", "x"), ("lstm", "xy"))
        ),
    ],
)
def test_var3d_leads_to_the_analytic_gain(model: str, operator: str) -> None:
    h = ObservationOperator(operator)
    R = np.eye(h.obs_dim)
    recipe = TrainSettings(
        loss="var3d", epochs=8, batch_size=64, learning_rate=1e-2, mirror=False
    )
    result = train(
        EncoderSettings(model, operator, window=2, hidden=16, n_iterations=2),
        recipe,
        samples(operator, 3000),
        samples(operator, 500, seed=1),
        B=B,
        R=R,
    )
    test = samples(operator, 2000, seed=2)
    last = np.ascontiguousarray(test.obs_window[:, -1])
    H = np.eye(3)[list(h.components)]
    gain = B @ H.T @ np.linalg.inv(H @ B @ H.T + R)
    oracle = test.background + (last - test.background @ H.T) @ gain.T

    def cost(state: np.ndarray) -> float:
        J = variational_cost(state, test.background, last, h, B=B, R=R)
        return float(J.mean())

    analysis = EncoderFunction.of(result.encoder)(test.background, test.obs_window)
    excess = cost(analysis) / cost(oracle) - 1.0
    assert 0.0 <= excess < 0.01
    assert cost(test.background) / cost(oracle) - 1.0 > 0.1
