"""What must agree: schemes, encoders, backgrounds and samples with their twin."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l63fast.assimilation.agreement import Difference, FromTwin, Setup
from l63fast.assimilation.backgrounds import KINDS, Backgrounds
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.iterative import IEnKS
from l63fast.assimilation.joint import JointEnKF, JointParticleFilter
from l63fast.assimilation.kalman import (
    ClimatologicalMean,
    ExtendedKalman,
    OptimalInterpolation,
)
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Analysis
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.tuning import (
    tune_cycled,
    tune_cycled_b_scale,
    tune_inflation,
    tune_regularisation,
)
from l63fast.errors import ArgumentTypeError, ArgumentValueError, ModelFileError
from l63fast.learning.card import CARD
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.dynamics import DifferentiableForecast
from l63fast.learning.encoders import build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.learning.training import train
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator
from l63fast.storage import read_json, write_json
from l63fast.twin import ForecastModel, TwinExperiment, TwinSettings

SMALL = TwinSettings(
    operator="x", n_train=8, n_val=3, n_test=3, n_steps=60, spin_up_time=1.0
)
I3 = np.eye(3)
# Of everything that may differ: the setting of the twin that does, and both values as
# a message names them.
DIFFERENT: dict[str, tuple[dict[str, Any], str, str]] = {
    "dt": ({"dt": 0.02}, "dt 0.02", "dt 0.01"),
    "parameters": (
        {"parameters": Lorenz63(rho=35.0)},
        "parameters (10.0, 35.0, 2.666666667)",
        "parameters (10.0, 28.0, 2.666666667)",
    ),
    "R": ({"sigma": 2.0}, "R 4 I", "R 1 I"),
    "Q": ({"Q": 0.1}, "Q 0.1 I", "Q 0"),
}


def twin_of(**changed: Any) -> TwinExperiment:
    return TwinExperiment.generate(replace(SMALL, **changed))


def half_way(background, obs_window, hidden):
    """Return a background half way towards the x observed: somebody's encoder."""
    analysis = background.clone()
    analysis[:, 0] = 0.5 * (background[:, 0] + obs_window[:, -1, 0])
    return analysis, hidden


def neural(twin: TwinExperiment) -> NeuralAnalysis:
    encoder = EncoderFunction.for_twin(twin, half_way)
    return NeuralAnalysis.for_twin(twin, encoder=encoder)


SCHEMES: dict[str, Callable[[TwinExperiment], Any]] = {
    "mean": ClimatologicalMean.for_twin,
    "OI": OptimalInterpolation.for_twin,
    "3D-Var": lambda twin: ThreeDVar.for_twin(twin, B=I3),
    "4D-Var": lambda twin: FourDVar.for_twin(twin, B=I3, window=2),
    "extended": lambda twin: ExtendedKalman.for_twin(twin, B=I3),
    "EnKF": lambda twin: EnKF.for_twin(twin, B=I3, n_members=5),
    "particles": lambda twin: ParticleFilter.for_twin(twin, B=I3, n_particles=50),
    "neural": neural,
    "joint EnKF": lambda twin: JointEnKF.for_twin(twin, B=I3, n_members=7),
    "joint particles": lambda twin: JointParticleFilter.for_twin(twin, B=I3),
}


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return twin_of()


def test_every_scheme_of_the_package_takes_its_settings_from_a_twin():
    def kinds(kind: type) -> set[type]:
        below = {kind}.union(*(kinds(one) for one in kind.__subclasses__()))
        return {one for one in below if hasattr(one, "analyse")}

    twin = twin_of(
        operator="xz",
        dt=0.005,
        Q=0.2,
        parameters=Lorenz63(rho=30.0),
        R=((1, 0.5), (0.5, 1)),
    )
    made = {type(one(twin)): one(twin) for one in SCHEMES.values()}
    ours = {one for one in kinds(FromTwin) if one.__module__.startswith("l63fast")}
    # The iEnKS refuses a model error.
    ours = {one for one in ours if not inspect.isabstract(one)} - {IEnKS}
    assert ours == set(made)
    taken = {
        "operator": twin.operator,
        "R": twin.R,
        "Q": twin.Q,
        "dt": 0.005,
        "parameters": Lorenz63(rho=30.0),
        "climatology": twin.climatology,
    }
    for scheme in made.values():
        for field in fields(scheme):
            if field.name in taken:
                given = getattr(scheme, field.name)
                np.testing.assert_equal(given, taken[field.name], field.name)
        assert run_cycles(scheme, twin, n_cycles=1).imperfect_model == ()


def test_each_error_variance_is_compared_in_its_own_units():
    twin = twin_of(
        operator="xz2", sigma=(0.5 + 0.5e8) ** 0.5, R=((1.0, 0.0), (0.0, 1e8))
    )
    with pytest.raises(ArgumentValueError, match="R "):
        run_cycles(ThreeDVar("xz2", R=((90.0, 0.0), (0.0, 1e8)), B=I3), twin)


@pytest.mark.promise("G6", "R, Q, dt, parameters: refused, or asked for and recorded")
@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("what", DIFFERENT)
def test_another_model_or_error_is_refused_or_asked_for(twin, name, what):
    changed, expected, got = DIFFERENT[what]
    scheme, other = SCHEMES[name](twin), twin_of(**changed)
    stated = [
        getattr(one, what)
        for one in (scheme.made_for, scheme.made_for.encoder or Setup())
    ]
    if all(value is None for value in stated):
        if name != "neural":
            assert run_cycles(scheme, other).imperfect_model == ()
        return
    if name == "neural" and what == "dt":
        other = twin_of(**changed, steps_per_cycle=5)  # the interval stays
    with pytest.raises(ArgumentValueError) as refused:
        run_cycles(scheme, other)
    said = str(refused.value)
    assert said.startswith("scheme: expected ")
    assert expected in said.split(", got ")[0]
    assert got in said.split(", got ")[1]
    assert said.endswith("(imperfect_model=True allows it)")
    assert said.count("\n") == 0
    result = run_cycles(scheme, other, imperfect_model=True)
    assert {one.name.split(".")[-1] for one in result.imperfect_model} == {what}
    for one in result.imperfect_model:
        assert one.of == "scheme"
        np.testing.assert_equal(one.expected, getattr(Setup.of(other), what))
        np.testing.assert_equal(one.given, getattr(Setup.of(twin), what))


@pytest.mark.promise("G6", "another operator: refused")
@pytest.mark.parametrize("name", SCHEMES)
def test_another_operator_is_always_refused(twin, name):
    for imperfect_model in (False, True):
        with pytest.raises(
            ArgumentValueError, match=r"operator 'y' as in the data, got .*operator 'x'"
        ):
            run_cycles(
                SCHEMES[name](twin), twin_of(operator="y"),
                imperfect_model=imperfect_model,
            )  # fmt: skip


@pytest.mark.promise("G6", "an encoder of another interval: refused")
def test_an_encoder_of_another_interval_is_always_refused(twin):
    other = twin_of(steps_per_cycle=20)
    for imperfect_model in (False, True):
        with pytest.raises(
            ArgumentValueError,
            match=r"encoder\.interval 0\.2 as in the data, got encoder\.interval 0\.1",
        ):
            run_cycles(neural(twin), other, imperfect_model=imperfect_model)
    # Twice the steps of half the length are the same interval.
    halved = twin_of(dt=0.005, steps_per_cycle=20)
    scheme = NeuralAnalysis.for_twin(halved, encoder=neural(twin).encoder)
    result = run_cycles(scheme, halved, imperfect_model=True)
    assert result.imperfect_model == (Difference("scheme", "encoder.dt", 0.01, 0.005),)


def test_all_that_differs_is_named_at_once(twin):
    other = twin_of(operator="y", dt=0.02, sigma=2.0)
    with pytest.raises(ArgumentValueError) as refused:
        run_cycles(SCHEMES["EnKF"](twin), other)
    assert str(refused.value) == (
        "scheme: expected operator 'y', R 4 I as in the data, dt 0.02 as in the twin's "
        "model, got operator 'x', R 1 I, dt 0.01"
    )


def test_rounding_is_no_difference(twin):
    scheme = ThreeDVar.for_twin(twin, B=I3, R=twin.R * (1 + 1e-12), dt=0.1 / 10)
    assert run_cycles(scheme, twin).imperfect_model == ()


def test_another_dt_is_another_number_of_steps_to_the_same_time(twin):
    coarse = twin_of(dt=0.02, steps_per_cycle=5)
    as_it_is = run_cycles(SCHEMES["3D-Var"](coarse), coarse)
    finer = run_cycles(SCHEMES["3D-Var"](twin), coarse, imperfect_model=True)
    distance = np.abs(finer.background - as_it_is.background)[:, :3].max()
    assert 0.0 < distance < 0.02
    particles = run_cycles(SCHEMES["particles"](twin), coarse, imperfect_model=True)
    assert np.abs(particles.background - as_it_is.background)[:, 0].max() < 6.0
    uneven = ThreeDVar.for_twin(twin, B=I3, dt=0.03)
    with pytest.raises(ArgumentValueError, match=r"interval .*, 0\.1, got 0\.03"):
        run_cycles(uneven, twin, imperfect_model=True)
    fitted = Backgrounds.fit(twin, "forecast")
    drawn = fitted.draw(coarse, "train", imperfect_model=True)
    error = drawn - coarse.train.truth_at_observations
    assert np.sqrt((error**2).mean()) < 1.5 * np.sqrt(np.trace(fitted.B) / 3)


def test_a_warm_up_must_agree_as_well(twin):
    encoder = EncoderFunction.for_twin(twin, half_way, window=2)
    scheme = NeuralAnalysis.for_twin(twin, encoder=encoder)
    warm_up = ThreeDVar.for_twin(twin, B=I3, parameters=Lorenz63(rho=35.0))
    with pytest.raises(ArgumentValueError, match="warm_up: expected parameters"):
        run_cycles(scheme, twin, warm_up=warm_up)
    result = run_cycles(scheme, twin, warm_up=warm_up, imperfect_model=True)
    assert [(one.of, one.name) for one in result.imperfect_model] == [
        ("warm_up", "parameters")
    ]
    result = run_cycles(
        SCHEMES["3D-Var"](twin), twin, warm_up=warm_up
    )  # which is not used
    assert result.imperfect_model == ()


class Own:
    """Somebody's scheme: three methods, and no word about what it assumes."""

    window = 1

    def initial(self, background, rng):
        return background

    def forecast(self, state, n_steps):
        return state

    def analyse(self, state, obs_window):
        n = len(state)
        return state, Analysis(
            state, np.zeros(n, np.int8), np.zeros(n, np.int32), np.zeros(n),
            obs_window[:, -1], state,
        )  # fmt: skip


def test_a_scheme_that_states_nothing_runs_and_may_state_something(twin):
    scheme = Own()
    assert run_cycles(scheme, twin_of(dt=0.02, sigma=3.0)).imperfect_model == ()
    scheme.made_for = Setup(interval=0.1)  # type: ignore[attr-defined]
    run_cycles(scheme, twin)
    with pytest.raises(ArgumentValueError, match=r"interval 0\.2 .* got interval 0\.1"):
        run_cycles(scheme, twin_of(dt=0.02))
    with pytest.raises(ArgumentTypeError, match="dt: expected a real number, got '0"):
        run_cycles(EnKF.for_twin(twin, B=I3, dt="0.01"), twin)
    with pytest.raises(ArgumentTypeError, match="parameters: expected Lorenz63"):
        run_cycles(NeuralAnalysis(neural(twin).encoder, parameters=28.0), twin)  # type: ignore[arg-type]
    scheme.made_for = "x"  # type: ignore[attr-defined]
    with pytest.raises(ArgumentTypeError, match=r"scheme\.made_for: expected Setup"):
        run_cycles(scheme, twin)
    with pytest.raises(ArgumentTypeError, match="imperfect_model: expected True or"):
        run_cycles(SCHEMES["mean"](twin), twin, imperfect_model="yes")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="twin: expected TwinExperiment"):
        EnKF.for_twin(SMALL, B=I3)  # type: ignore[arg-type]


def test_tuning_goes_through_the_same_comparison(twin):
    other = twin_of(parameters=Lorenz63(rho=35.0))
    grid = np.geomspace(0.5, 2.0, 3)
    tunings = {
        "3D-Var": lambda s, **how: tune_cycled_b_scale(s, other, scales=grid, **how),
        "EnKF": lambda s, **how: tune_inflation(
            s, other, inflations=np.geomspace(1.0, 1.1, 3), **how
        ),
        "particles": lambda s, **how: tune_regularisation(
            s, other, regularisations=grid, **how
        ),
    }
    for name, tuned in tunings.items():
        scheme = SCHEMES[name](twin)
        with pytest.raises(ArgumentValueError, match=r"35\.0.*28\.0"):
            tuned(scheme)
        assert np.isfinite(tuned(scheme, imperfect_model=True).score)

    def with_model_error(q: float) -> EnKF:
        return EnKF.for_twin(other, B=I3, n_members=5, Q=q * I3, parameters=Lorenz63())

    with pytest.raises(ArgumentValueError, match=r"expected Q 0, .*got Q 0\.5 I"):
        tune_cycled(with_model_error, other, grid)
    assert tune_cycled(with_model_error, other, grid, imperfect_model=True).score > 0.0


def test_a_refusal_says_whose_model_was_expected(twin):
    wrong = twin.with_model(ForecastModel(Lorenz63(sigma=11.0)))
    with pytest.raises(ArgumentValueError) as refused:
        run_cycles(SCHEMES["EnKF"](twin), wrong)
    assert "parameters (11.0, 28.0, 2.666666667) as in the twin's model, got" in str(
        refused.value
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_backgrounds_are_drawn_for_the_setup_that_they_were_fitted_to(twin, kind):
    fitted = Backgrounds.fit(twin, kind)
    other_seed = twin_of(seed=1, n_train=2)
    AssimilationDataset.from_twin(other_seed, "train", fitted, window=1)
    climate = {"mean", "independent", "none"}
    refusing = {
        "operator": {"forecast", "cycled"},
        "R": {"forecast", "cycled"},
        "parameters": {"forecast", "cycled"} | climate,
    }
    for what, changed in {
        "operator": {"operator": "y"},
        "R": {"sigma": 2.0},
        "parameters": {"parameters": Lorenz63(rho=35.0)},
    }.items():
        other = twin_of(**changed)
        if kind not in refusing[what]:
            fitted.draw(other, "train")
            continue
        with pytest.raises(ArgumentValueError, match=f"backgrounds: expected {what}"):
            AssimilationDataset.from_twin(other, "train", fitted, window=1)
        if what != "operator":
            drawn = fitted.draw(other, "train", imperfect_model=True)
            assert drawn.shape == (8, 6, 3)


def dataset(twin: TwinExperiment, split: str) -> AssimilationDataset:
    backgrounds = twin.split(split).truth_at_observations + 0.5
    return AssimilationDataset.from_twin(twin, split, backgrounds, window=2)


def test_training_compares_settings_data_and_model(twin):
    encoder = EncoderSettings("mlp", "x", window=2, hidden=4, n_iterations=1)
    once = TrainSettings(epochs=1, batch_size=8)
    data, val = dataset(twin, "train"), dataset(twin, "val")
    with pytest.raises(
        ArgumentValueError, match=r"operator 'x' as in .*got operator 'y'"
    ):
        train(replace(encoder, operator="y"), once, data, val)
    with pytest.raises(ArgumentValueError, match=r"R: expected R 1 I .* got R 2 I"):
        train(encoder, once, data, val, R=2.0 * np.eye(1))
    with pytest.raises(ArgumentValueError, match=r"val_data: expected R 1 I .* R 4 I"):
        train(encoder, once, data, dataset(twin_of(sigma=2.0), "val"))
    with pytest.raises(ArgumentValueError, match="val_data: expected interval"):
        train(encoder, once, data, dataset(twin_of(steps_per_cycle=5), "val"))
    model = DifferentiableForecast(10, parameters=Lorenz63(rho=35.0))
    with pytest.raises(ArgumentValueError, match="model: expected parameters"):
        train(encoder, once, data, val, model=model)
    how: dict[str, Any] = {"model": model, "R": 2.0 * np.eye(1)}
    trained = train(encoder, once, data, val, imperfect_model=True, **how)
    assert trained.encoder.made_for.to_dict() == Setup.of(twin).to_dict()


def test_an_encoder_in_a_file_knows_what_it_was_trained_for(twin, tmp_path: Path):
    settings = EncoderSettings("mlp", "x", window=1, hidden=4)
    encoder = build_encoder(settings, Normaliser.identity("x"))
    encoder.made_for = Setup.of(twin)
    save_model(encoder, tmp_path, {"seed": 3}, formats=("torchscript",))
    for format in ("safetensors", "torchscript"):
        loaded = load_encoder(tmp_path, format=format, trust=True)
        scheme = NeuralAnalysis.for_twin(twin, encoder=loaded)
        assert run_cycles(scheme, twin).imperfect_model == ()
        for changed in ({"steps_per_cycle": 20}, {"sigma": 2.0}):
            with pytest.raises(ArgumentValueError, match=r"scheme: expected encoder\."):
                run_cycles(scheme, twin_of(**changed))
    card = read_json(tmp_path / CARD)
    assert card["training"]["seed"] == 3
    for wrong in ({"interval": "0.1"}, {"R": [[1], [1, 2]]}, {"parameters": {"c": 1}}):
        write_json(tmp_path / CARD, card | {"training": card["training"] | wrong})
        with pytest.raises(ModelFileError, match=f"training: {next(iter(wrong))}:"):
            load_encoder(tmp_path)


def test_an_operator_cannot_be_subclassed():
    with pytest.raises(
        ArgumentTypeError, match=r"expected no subclass.* got Saturating"
    ):

        class Saturating(ObservationOperator):  # type: ignore[misc]
            def __call__(self, states: Any) -> Any:
                return 10.0 * np.tanh(states[..., :1] / 10.0)
