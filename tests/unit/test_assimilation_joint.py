"""Filters of state and parameters: what they estimate, keep, refuse and repeat."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from experiment_samples import TINY_GRU
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.joint import JointEnKF, JointParticleFilter
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Status
from l63fast.errors import ArgumentValueError
from l63fast.experiments.diagnostics import DIAGNOSTICS
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.report.page import report
from l63fast.experiments.results import Result
from l63fast.lorenz63 import Lorenz63, forecast
from l63fast.twin import TwinExperiment, TwinSettings

B = 2.0 * np.eye(3)
SETTINGS = TwinSettings(
    operator="xyz", n_train=4, n_val=3, n_test=6, n_steps=2000, save_every=10,
    parameters_spread=0.1, seed=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(SETTINGS)


def joint(twin: TwinExperiment, kind: Any, **settings: Any) -> Any:
    if kind is JointEnKF:
        settings = {"n_members": 40, "inflation": 1.02, "walk": 0.05, **settings}
    else:
        settings = {"n_particles": 600, "regularisation": 1.0, "walk": 0.05, **settings}
    return kind.for_twin(twin, B=B, **settings)


KINDS = pytest.mark.parametrize("kind", [JointEnKF, JointParticleFilter])


@KINDS
def test_they_learn_the_parameters_and_beat_the_nominal_model(
    kind: Any, twin: TwinExperiment
) -> None:
    start = twin.test.initial_state + np.random.default_rng(0).normal(size=(6, 3))
    scheme = joint(twin, kind)
    result = run_cycles(scheme, twin, burn_in=100, initial=start)
    assert result.parameters is not None
    assert result.parameters_spread is not None
    truth = twin.test.parameters
    nominal = np.array(SETTINGS.parameters.as_tuple())
    learned = np.sqrt(((result.parameters[:, -1] - truth) ** 2).mean(axis=0))
    known = np.sqrt(((nominal - truth) ** 2).mean(axis=0))
    assert (learned < 0.6 * known).all()
    # They claim about what they achieve.
    ratio = learned / result.parameters_spread[:, -1].mean(axis=0)
    assert (ratio < 3.0).all()
    exact = twin.test.truth_at_observations[:, result.scored]
    nominal_filter = EnKF.for_twin(twin, B=B, n_members=40, inflation=1.2)
    plain = run_cycles(nominal_filter, twin, burn_in=100, initial=start)
    errors = [np.abs(r.analysis - exact).mean() for r in (result, plain)]
    assert errors[0] < 0.8 * errors[1]
    assert (result.parameters > 0.0).all()


@KINDS
def test_a_known_parameter_stays(kind: Any, twin: TwinExperiment) -> None:
    scheme = joint(twin, kind, prior_spread=(0.0, 0.1, 0.0))
    found = run_cycles(scheme, twin, n_cycles=30).parameters
    assert found is not None
    assert np.ptp(found[..., 0]) < 1e-12
    assert found[..., 0] == pytest.approx(10.0)
    assert np.ptp(found[..., 1]) > 0.1


@KINDS
def test_runs_repeat_and_trajectories_are_independent(
    kind: Any, twin: TwinExperiment
) -> None:
    scheme, rng = joint(twin, kind), np.random.default_rng
    start, y = twin.test.initial_state, twin.test.observations[:, :2]

    def cycled(some: slice) -> np.ndarray:
        state = scheme.initial(start[some], rng(5))
        for k in range(2):
            state, analysis = scheme.analyse(
                scheme.forecast(state, 10), y[some, k : k + 1]
            )
        return np.concatenate([analysis.state, analysis.parameters], axis=-1)

    every = cycled(slice(None))
    np.testing.assert_array_equal(every, cycled(slice(None)))
    np.testing.assert_allclose(every[:2], cycled(slice(0, 2)), rtol=1e-9)


@KINDS
def test_missing_values_and_lost_members(kind: Any, twin: TwinExperiment) -> None:
    scheme = (
        joint(twin, kind, inflation=1.0) if kind is JointEnKF else joint(twin, kind)
    )
    state = scheme.initial(twin.test.initial_state, np.random.default_rng(0))
    nothing = np.full((6, 1, 3), np.nan)
    after, analysis = scheme.analyse(state, nothing)
    np.testing.assert_allclose(after.members, state.members, atol=1e-12)
    np.testing.assert_allclose(after.logs, state.logs, atol=1e-12)
    assert np.isnan(analysis.residual).all()
    broken = state.members.copy()
    broken[1] = np.nan
    _, analysis = scheme.analyse(state._replace(members=broken), nothing + 1.0)
    assert analysis.status.tolist()[1] == Status.NON_FINITE
    assert np.isnan(analysis.state[1]).all()
    assert np.isfinite(np.delete(analysis.state, 1, axis=0)).all()


@pytest.mark.parametrize("kind", [ParticleFilter, JointParticleFilter])
def test_without_a_finite_particle_every_estimate_is_nan(
    kind: Any, twin: TwinExperiment
) -> None:
    scheme = kind.for_twin(twin, B=B, n_particles=50)
    state = scheme.initial(twin.test.initial_state, np.random.default_rng(0))
    broken = state[0].copy()
    broken[1] = np.nan
    state = state._replace(**{state._fields[0]: broken})
    _, analysis = scheme.analyse(state, np.ones((6, 1, 3)))
    assert analysis.status.tolist()[1] == Status.NON_FINITE
    names = ["state", "spread", "background", "innovation", "innovation_covariance"]
    names += ["effective_size", "parameters", "parameters_spread"]
    found = {name: getattr(analysis, name, None) for name in names}
    assert (found["parameters"] is None) == (kind is ParticleFilter)
    for name, values in found.items():
        if values is not None:
            assert np.isnan(values[1]).all(), name
            assert np.isfinite(np.delete(values, 1, axis=0)).all(), name


def test_states_can_get_less_noise_than_parameters(twin: TwinExperiment) -> None:
    start, y = twin.test.initial_state, twin.test.observations[:, :1]
    found = []
    for factor in (1.0, 0.5, 0.0):
        settings = {"threshold": 1.0, "rescue": False, "state_noise": factor}
        scheme = joint(twin, JointParticleFilter, **settings)
        state = scheme.initial(start, np.random.default_rng(0))
        found.append((state, scheme.analyse(state, y)[0]))
    (before, whole), (_, half), (_, none) = found
    np.testing.assert_array_equal(whole.logs, none.logs)
    noise = [one.members - none.members for one in (whole, half)]
    np.testing.assert_allclose(noise[0], 2.0 * noise[1], atol=1e-12)
    assert np.abs(noise[0]).max() > 0.01
    assert np.isin(none.members, before.members).all()  # the copies are alike


def test_wrong_settings_are_refused(twin: TwinExperiment) -> None:
    with pytest.raises(ArgumentValueError, match="sign of the state"):
        JointParticleFilter(operator="x2", B=B, R=np.eye(1))
    several: list[dict[str, Any]] = [{"prior_spread": 0.6}, {"walk": -1.0}]
    for wrong in (*several, {"n_members": 6}, {"smoother_lag": 2}):
        with pytest.raises(ArgumentValueError, match=next(iter(wrong))):
            joint(twin, JointEnKF, **wrong)
    with pytest.raises(ArgumentValueError, match="above 0"):
        joint(twin, JointEnKF, parameters=Lorenz63(sigma=-1.0))


@pytest.mark.parametrize("kind", [EnKF, ParticleFilter])
def test_filters_forecast_with_parameters_of_each_trajectory(
    kind: Any, twin: TwinExperiment
) -> None:
    own = dataclasses.replace(kind.for_twin(twin, B=B), parameters=twin.test.parameters)
    state = own.initial(twin.test.initial_state, np.random.default_rng(0))
    name = "members" if kind is EnKF else "states"
    before, after = getattr(state, name), getattr(own.forecast(state, 20), name)
    for i, parameters in enumerate(twin.test.parameters):
        expected = forecast(before[i], 20, parameters=Lorenz63(*parameters))
        np.testing.assert_array_equal(after[i], expected)
    known, nominal = (
        run_cycles(scheme, twin, burn_in=50).analysis
        for scheme in (own, kind.for_twin(twin, B=B, n_threads=1))
    )
    truth = twin.test.truth_at_observations[:, 50:]
    assert np.abs(known - truth).mean() < 0.8 * np.abs(nominal - truth).mean()


def test_experiments_score_the_parameters(tmp_path: Any) -> None:
    tables: dict[str, Any] = {
        "data": {
            **{"n_train": 6, "n_val": 3, "n_test": 4, "operator": "xyz"},
            "parameters_spread": 0.1,
        },
        "cycles": {"n_cycles": 60, "burn_in": 2.0},
        "methods": {
            "joint": {"scheme": "enkf-joint", "n_members": 20, "walk": 0.05},
            "pf": {"scheme": "pf-joint", "n_particles": 100, "walk": 0.05},
            "known": {"scheme": "enkf-known", "n_members": 20, "inflation": 1.02},
            "best": {"scheme": "optimum", "n_particles": 200, "max_particles": 200},
            "gru": {**TINY_GRU, "estimates_parameters": True},
        },
    }
    experiment = Experiment.from_tables("unknown", tables, source="it")
    assert Experiment.from_tables("unknown", experiment.to_tables(), source="it") == (
        experiment
    )
    rows = experiment.run(tmp_path)
    by_method = rows.groupby("method")
    estimated = by_method["rmse_rho"].count()
    assert estimated.to_dict() == {"best": 0, "gru": 4, "joint": 4, "known": 0, "pf": 4}
    score = by_method["rmse_a"].mean()
    assert score["known"] < score["joint"]
    assert rows["case"].str.contains("parameters").all()
    metrics = Result.open(tmp_path / "unknown" / "joint").metrics["parameters"]
    assert 0.0 <= metrics["rho"]["coverage_90"] <= 1.0
    assert metrics["rho"]["median_width_90"] > 0.0
    # The report draws them.
    stored = {
        name: Result.open(tmp_path / "unknown" / name).dataset(DIAGNOSTICS)
        for name in by_method.groups
    }
    drawn = {name for name, data in stored.items() if "parameter_error" in data}
    assert drawn == {"gru", "joint", "pf"}
    joint = rows.query("method == 'joint'")
    [of_first] = joint.query("trajectory == 0").to_dict("records")
    data = stored["joint"].sel(parameter="rho").isel(parameter_time=-1)
    rms = np.sqrt((joint["last_rho"] ** 2).mean())
    assert float(data["parameter_error"]) == pytest.approx(rms)
    error = float(data["parameter_estimate"] - data["parameter_truth"])
    assert error == pytest.approx(of_first["last_rho"])
    assert float(data["parameter_half_width"]) == pytest.approx(
        of_first["half_width_rho"]
    )
    page = report(tmp_path / "unknown")
    assert (page.parent / "figures" / "parameters.png").exists()
    assert "Parameters that are estimated with the state" in page.read_text()


@pytest.mark.parametrize("method", ["enkf-joint", "pf-joint"])
def test_single_windows_estimate_the_parameters(method: str, tmp_path: Any) -> None:
    size = "n_members" if method == "enkf-joint" else "n_particles"
    rows = Experiment.from_tables(
        "windows",
        {
            "data": {
                **{"n_train": 30, "n_val": 3, "n_test": 4, "operator": "xyz"},
                **{"n_steps": 400, "parameters_spread": 0.1},
            },
            "windows": {"window": 8, "stride": 8},
            "methods": {"joint": {"scheme": method, size: 200, "walk": 0.05}},
        },
        source="it",
    ).run(tmp_path)
    # Uniform within 10 %, known before; eight observations tell more.
    prior = 28.0 * 0.1 / np.sqrt(3.0)
    assert 0.0 < rows["rmse_rho"].mean() < 0.8 * prior
