"""A trained encoder cycles like any scheme, beside members that were lost."""

import numpy as np
import pytest
import torch

from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.scheme import Status
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.learning.encoders import build_encoder
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings
from l63fast.lorenz63 import forecast
from l63fast.twin import TwinExperiment, TwinSettings


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(
        TwinSettings(n_train=3, n_val=2, n_test=4, n_steps=100, spin_up_time=1.0)
    )


@pytest.fixture(scope="module")
def scheme() -> NeuralAnalysis:
    settings = EncoderSettings("lstm", "xy", window=3, hidden=8, n_iterations=3)
    encoder = build_encoder(settings, Normaliser.identity("xy"))
    encoder.head.outer.bias.data.fill_(0.25)
    return NeuralAnalysis(EncoderFunction.of(encoder))


def test_cycles_are_forecast_and_encoder(
    twin: TwinExperiment, scheme: NeuralAnalysis
) -> None:
    warm_up = ThreeDVar("xy", B=np.eye(3), R=twin.R)
    result = run_cycles(scheme, twin, "test", warm_up=warm_up)
    assert result.first_cycle == 2
    assert (result.status == Status.CONVERGED).all()
    assert np.allclose(result.analysis, result.background + 0.25, atol=1e-5)
    later = forecast(np.ascontiguousarray(result.analysis[:, 0]), 10)
    assert np.array_equal(later, result.background[:, 1])
    seen = np.ascontiguousarray(twin.test.observations[:, 2:5])
    last = np.ascontiguousarray(result.background[:, 2])
    assert np.array_equal(scheme.encoder(last, seen), result.analysis[:, 2])


def test_a_lost_member_stays_lost_and_alone(
    twin: TwinExperiment, scheme: NeuralAnalysis
) -> None:
    observations = twin.test.observations[:, :3]
    good = twin.test.truth_at_observations[:, 1]
    bad = good.copy()
    bad[1] = np.nan
    rng = np.random.default_rng(0)
    whole, lost = (
        scheme.analyse(
            scheme.forecast(scheme.initial(background, rng), 10), observations
        )
        for background in (good, bad)
    )
    others = [0, 2, 3]
    assert np.array_equal(lost[1].state[others], whole[1].state[others])
    assert np.isnan(lost[1].state[1]).all()
    assert lost[1].status.tolist() == [0, Status.NON_FINITE, 0, 0]
    assert lost[1].n_iter.tolist() == [3, 0, 3, 3]
    assert lost[0].hidden.shape == (4, 0)
    assert np.allclose(
        whole[1].residual, observations[:, -1] - whole[1].state[:, :2], atol=1e-12
    )


class Halfway(torch.nn.Module):
    """Somebody's own: goes half the way to x, y, and counts its analyses."""

    def forward(self, background, obs_window, hidden):
        analysis = background.clone()
        analysis[:, :2] = 0.5 * (background[:, :2] + obs_window[:, -1])
        return analysis, hidden + 1.0


def test_a_module_of_ones_own_cycles(twin: TwinExperiment) -> None:
    own = EncoderFunction.own(Halfway(), "xy", window=2, hidden_size=1)
    warm_up = ThreeDVar("xy", B=np.eye(3), R=twin.R)
    result = run_cycles(NeuralAnalysis(own), twin, "test", warm_up=warm_up)
    middle = 0.5 * (
        result.background[..., :2] + twin.test.observations[:, result.scored]
    )
    assert np.allclose(result.analysis[..., :2], middle, atol=1e-5)
    assert np.array_equal(
        result.analysis[..., 2], np.float32(result.background)[..., 2]
    )
    _, counted = own.step(np.zeros((600, 3)), np.zeros((600, 2, 2)), np.ones((600, 1)))
    assert (counted == 2.0).all()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda b, o, h: (b[:1], h), r"analysis \(4, 3\), got \(1, 3\)"),
        (lambda b, o, h: (b, h[:, :0]), r"hidden \(4, 1\), got \(4, 0\)"),
    ],
)
def test_a_program_of_another_shape_is_refused(program, message: str) -> None:
    own = EncoderFunction.own(program, "x", hidden_size=1)
    with pytest.raises(ArgumentValueError, match=message):
        own(np.zeros((4, 3)), np.zeros((4, 1, 1)))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"window": 0}, "window"), ({"hidden_size": -1}, "hidden_size")],
)
def test_own_settings_are_checked(wrong: dict[str, int], name: str) -> None:
    with pytest.raises(ArgumentValueError, match=name):
        EncoderFunction.own(Halfway(), "xy", **wrong)


def test_a_module_itself_is_no_encoder(twin: TwinExperiment) -> None:
    with pytest.raises(
        ArgumentTypeError, match=r"^encoder: expected .*EncoderFunction\.own.* Linear$"
    ):
        NeuralAnalysis.for_twin(twin, encoder=torch.nn.Linear(3, 3))
