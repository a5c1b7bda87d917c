"""Methods: each is fitted without the test split and has the numbers it was given."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_samples import TINY_GRU, tiny_cycled, tiny_windows, weights_only
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.scheme import Status
from l63fast.errors import ConfigurationError, DataFileError
from l63fast.experiments.methods import METHODS, TrainedEncoder, method_from_table
from l63fast.experiments.methods import optimum as module
from l63fast.experiments.methods.optimum import Optimum
from l63fast.experiments.protocols import Cycles, Fitted, Problem, Windows, Work
from l63fast.experiments.run_cell import problem_of
from l63fast.experiments.settings import MEASURES, Cell
from l63fast.learning.export import load_encoder
from l63fast.learning.inference import EncoderFunction
from l63fast.lorenz63 import forecast
from l63fast.twin import TwinExperiment
from l63fast.verification import rmse, rmse_pooled

# A moment's work each, and what tables call it in windows and in cycles.
TABLES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "background": ({}, ("background", "background")),
    "climatology": ({}, ("climatology", "climatology")),
    "oi": ({}, ("optimal interp.", "optimal interp.")),
    "3dvar": ({"b_scale": 0.5}, ("3D-Var", "3D-Var")),
    "4dvar": ({"b_scale": 0.5}, ("4D-Var, L=3", "4D-Var, L=4")),
    "extkf": ({"inflation": 1.5}, ("extended Kalman", "extended Kalman")),
    "enkf": ({"n_members": 5, "inflation": 1.1}, ("EnKF, N=5", "EnKF, N=5")),
    "ienks": (
        {"n_members": 5, "lag": 2, "inflation": 1.1},
        ("iEnKS, N=5, L=2", "iEnKS, N=5, L=2"),
    ),
    "pf": (
        {"n_particles": 20, "regularisation": 1.0},
        ("particle filter, N=20", "particle filter, N=20"),
    ),
    "optimum": (
        {"n_particles": 10, "max_particles": 20, "library": 2**13},
        ("optimum", "optimum (N>20)"),
    ),
    "enkf-joint": (
        {"n_members": 7, "walk": 0.05},
        ("joint EnKF, N=7", "joint EnKF, N=7"),
    ),
    "pf-joint": (
        {"n_particles": 20, "walk": 0.05},
        ("joint particle filter, N=20", "joint particle filter, N=20"),
    ),
    "encoder": (
        {k: v for k, v in TINY_GRU.items() if k != "scheme"},
        ("GRU, L=3", "GRU, carried"),
    ),
}
# They need cycles.
TABLES |= {
    "enkf-known": (
        {"n_members": 5, "inflation": 1.1},
        ("", "EnKF, N=5, parameters known"),
    ),
    "pf-known": (
        {"n_particles": 20, "regularisation": 1.0},
        ("", "particle filter, N=20, parameters known"),
    ),
}
# Of windows: these are given the background at the first observation.
FROM_THE_FIRST = {"4dvar", "extkf", "enkf", "ienks", "pf", "enkf-joint", "pf-joint"}


@pytest.fixture(scope="module")
def cells(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Cell, TwinExperiment]]:
    """Return a cell of windows and one in cycles, whose test splits are not there."""
    found = {}
    for name, tiny in (("windows", tiny_windows), ("cycles", tiny_cycled)):
        cell = tiny().cells()[0]
        folder = tmp_path_factory.mktemp("data") / name
        TwinExperiment.generate(cell.data).save(folder)
        (folder / "test.nc").unlink()
        found[name] = cell, TwinExperiment.load(folder)
    return found


@pytest.fixture(params=["windows", "cycles"])
def problem(
    request: pytest.FixtureRequest, cells: dict[str, tuple[Cell, TwinExperiment]]
) -> Problem:
    return problem_of(*cells[request.param])


@pytest.fixture
def cycled(cells: dict[str, tuple[Cell, TwinExperiment]]) -> Problem:
    return problem_of(*cells["cycles"])


@pytest.fixture
def in_windows(cells: dict[str, tuple[Cell, TwinExperiment]]) -> Problem:
    return problem_of(*cells["windows"])


@pytest.fixture(autouse=True)
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


def fitted(problem: Problem, **table: Any) -> Any:
    method = method_from_table(table, problem.protocol.name, source="a test", key="m")
    return method.fit(problem)


def scheme_of(problem: Problem, **table: Any) -> Any:
    return fitted(problem, **table).scheme


def of_measure(problem: Problem, measure: str) -> Problem:
    return dataclasses.replace(problem, kind=MEASURES[measure].kind)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["windows", "cycles"])
def test_every_method_is_fitted_in_both_protocols_without_the_test_split(
    cells: dict[str, tuple[Cell, TwinExperiment]], kind: str, name: str
) -> None:
    problem = problem_of(*cells[kind])
    table, labels = TABLES[name]
    if kind == "windows" and not labels[0]:
        with pytest.raises(ConfigurationError, match="needs cycles"):
            fitted(problem, scheme=name, **table)
        return
    found = fitted(problem, scheme=name, **table)
    in_windows = isinstance(problem.protocol, Windows)
    assert found.label == labels[0 if in_windows else 1]
    if in_windows:
        assert (found.start == "first") == (name in FROM_THE_FIRST)
    given = {"b_scale", "inflation", "regularisation", "walk"} & set(table)
    if given:
        assert found.value == table[given.pop()]
        assert found.tuning is None
    run = problem.run(found, "val")
    n = problem.twin.settings.n_val
    n_times = 4 if in_windows else 20
    assert run.analysis.shape == run.truth.shape == (n, n_times, 3)
    assert run.status.shape == (n, n_times)
    assert np.isfinite(run.analysis).all()
    truth = problem.twin.val.truth_at_observations
    assert np.array_equal(run.truth, truth[:, -n_times:])
    assert np.array_equal(run.observations, problem.twin.val.observations[:, -n_times:])
    assert run.times == pytest.approx(
        0.1 * (np.arange(n_times) + 1 + 5 - 3 * in_windows)
    )
    with pytest.raises(DataFileError):
        problem.run(found, "test")


def test_the_background_is_left_as_it_is(problem: Problem) -> None:
    run = problem.run(fitted(problem, scheme="background"), "val")
    assert np.array_equal(run.analysis, run.background)
    if isinstance(problem.protocol, Windows):
        assert np.array_equal(run.background, problem.drawn("val")[:, 2:])
        return
    free = problem.protocol.first_background(problem.twin, "val")
    assert np.allclose(run.background[:, 0], forecast(free, 60), rtol=1e-12)


def test_climatology_is_the_same_everywhere(problem: Problem) -> None:
    run = problem.run(fitted(problem, scheme="climatology"), "val")
    mean = problem.twin.climatology.mean
    assert np.array_equal(run.analysis, np.broadcast_to(mean, run.truth.shape))


# What is tuned


@pytest.mark.parametrize("scheme", ["3dvar", "4dvar"])
def test_the_scale_is_applied_once(problem: Problem, scheme: str) -> None:
    base = scheme_of(problem, scheme=scheme, b_scale=1.0)
    half = scheme_of(problem, scheme=scheme, b_scale=0.5)
    np.testing.assert_allclose(half.B, 0.5 * base.B, rtol=1e-14)
    tuned = fitted(problem, scheme=scheme)
    np.testing.assert_allclose(tuned.scheme.B, tuned.value * base.B, rtol=1e-14)
    assert tuned.tuning is not None
    assert tuned.value == tuned.tuning.scale
    assert tuned.parameter == "b"


def test_background_errors_are_of_the_forecasts_or_of_the_climate(
    cycled: Problem,
) -> None:
    climate = scheme_of(cycled, scheme="3dvar", B="climatology", b_scale=0.2)
    C = cycled.twin.climatology.covariance
    np.testing.assert_allclose(climate.B, 0.2 * C, rtol=1e-14)
    errors = cycled.cycled_errors
    own = scheme_of(cycled, scheme="3dvar", b_scale=errors.tuning.scale)
    np.testing.assert_allclose(own.B, errors.scheme.B, rtol=1e-14)
    window = scheme_of(cycled, scheme="4dvar", window=2, b_scale=1.0)
    np.testing.assert_allclose(window.B, errors.background, rtol=1e-14)
    assert window.window == 2


def test_background_errors_of_windows_are_of_what_is_drawn(in_windows: Problem) -> None:
    B = in_windows.backgrounds.B
    for scheme in ("3dvar", "4dvar"):
        one = scheme_of(in_windows, scheme=scheme, b_scale=1.0)
        np.testing.assert_allclose(one.B, B, rtol=1e-14)
    tuned = fitted(in_windows, scheme="3dvar")
    np.testing.assert_allclose(tuned.scheme.B, in_windows.window_covariance, rtol=1e-14)
    # The scale of all windows, where one is given, which that of a method overrules.
    protocol = dataclasses.replace(in_windows.protocol, b_scale=0.7)
    given = dataclasses.replace(in_windows, protocol=protocol)
    for table, scale in (({}, 0.7), ({"b_scale": 0.3}, 0.3)):
        found = fitted(given, scheme="3dvar", **table)
        assert found.tuning is None
        np.testing.assert_allclose(found.scheme.B, scale * B, rtol=1e-14)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    "table",
    [
        {"scheme": "3dvar"},
        {"scheme": "extkf"},
        {"scheme": "pf", "n_particles": 20},
        {"scheme": "optimum", "n_particles": 10, "max_particles": 20},
    ],
    ids=lambda table: table["scheme"],
)
def test_numbers_are_tuned_by_the_measure_that_decides(
    problem: Problem, table: dict[str, Any], measure: str
) -> None:
    if table["scheme"] == "optimum" and isinstance(problem.protocol, Windows):
        return  # there is nothing to tune
    problem = of_measure(problem, measure)
    found = fitted(problem, **table)
    run = problem.run(found, "val")
    rate = rmse if MEASURES[measure].kind == "rmse_a" else rmse_pooled
    expected = rate(run.analysis, run.truth)
    if found.tuning is not None:
        assert found.tuning.score == pytest.approx(expected, rel=1e-12)
        assert found.tuning.score == min(found.tuning.scores)
    else:
        stages = found.facts["convergence"]["stages"]
        assert stages[-1]["score"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "name", ["extkf", "enkf", "ienks", "4dvar", "pf", "encoder", "3dvar"]
)
def test_the_lag_of_the_protocol_gives_smoothed_states(
    cycled: Problem, name: str
) -> None:
    protocol = dataclasses.replace(cycled.protocol, lag=2)
    problem = dataclasses.replace(cycled, protocol=protocol)
    found = fitted(problem, scheme=name, **TABLES[name][0])
    run = problem.run(found, "val")
    columns = run.trajectory_columns(blind=False)
    if name == "encoder":
        assert found.facts["training"]["smoother"].keys() >= {"epoch", "val_rmse_s"}
    if name == "3dvar":
        assert run.smoothed is None
        assert "rmse_s" not in columns
        return
    assert run.smoother_lag == 2
    error = np.sqrt(((run.smoothed - run.truth)[:, :-2] ** 2).mean(axis=-1))
    np.testing.assert_allclose(columns["rmse_s"], error.mean(axis=1), rtol=1e-12)
    assert rmse(run.smoothed[:, :-2], run.truth[:, :-2]) == pytest.approx(
        problem.smoothed_score(run)
    )
    too_long = dataclasses.replace(protocol, lag=7)
    problem = dataclasses.replace(cycled, protocol=too_long)
    if name in ("ienks", "4dvar"):  # beyond their windows
        assert fitted(problem, scheme=name, **TABLES[name][0]).scheme.smoother_lag == 0


@pytest.mark.parametrize(
    "change",
    [
        {
            "uncertainty": "gaussian",
            "training": TINY_GRU["training"] | {"loss": "crps"},
        },
        {"training": TINY_GRU["training"] | {"loss": "var3d"}},
    ],
)
def test_encoders_that_cannot_be_smoothed_give_analyses_alone(
    cycled: Problem, change: dict[str, Any]
) -> None:
    protocol = dataclasses.replace(cycled.protocol, lag=2)
    problem = dataclasses.replace(cycled, protocol=protocol)
    run = problem.run(fitted(problem, **(TINY_GRU | change)), "val")
    assert run.smoothed is None
    assert np.isfinite(run.analysis).all()


def test_a_lag_leaves_cycles_to_score() -> None:
    with pytest.raises(ConfigurationError, match="lag: expected less than the 9"):
        Cycles(n_cycles=9, lag=9)


# What reaches the scheme


def test_settings_reach_the_scheme(problem: Problem) -> None:
    particles = scheme_of(
        problem, scheme="pf", n_particles=30, threshold=0.6, regularisation=1.7
    )
    assert (particles.n_particles, particles.threshold) == (30, 0.6)
    assert particles.regularisation == 1.7
    extended = scheme_of(problem, scheme="extkf", inflation=1.3)
    assert extended.inflation == 1.3
    prior = 1.5**2 * np.eye(3)
    if isinstance(problem.protocol, Windows):
        prior = problem.backgrounds.B
    np.testing.assert_array_equal(extended.B, prior)
    np.testing.assert_array_equal(particles.B, prior)


@pytest.mark.parametrize("rescue", [True, False])
def test_every_setting_of_a_filter_reaches_it(cycled: Problem, rescue: bool) -> None:
    table = {"scheme": "enkf", "n_members": 3, "variant": "finite_size"}
    finite_size = scheme_of(cycled, **table, inflation=1.0, prior_certainty=2.0)
    assert (finite_size.n_members, finite_size.prior_certainty) == (3, 2.0)
    turned = scheme_of(cycled, scheme="enkf", inflation=1.0, rotation=rescue)
    assert turned.rotation is rescue
    bootstrap = {"scheme": "pf", "n_particles": 9, "regularisation": 1.0}
    best = {"scheme": "optimum", "n_particles": 9, "max_particles": 9}
    for table in (bootstrap, best):
        assert scheme_of(cycled, **table, rescue=rescue).rescue is rescue
        assert scheme_of(cycled, **table, threshold=0.4).threshold == 0.4


def test_variants_of_a_method_are_told_apart(cycled: Problem) -> None:
    labels = set()
    for variant in ("square_root", "stochastic", "finite_size"):
        table = {"scheme": "enkf", "n_members": 6, "variant": variant, "inflation": 1.0}
        found = fitted(cycled, **table)
        assert isinstance(found.scheme, EnKF)
        assert (found.scheme.variant, found.scheme.n_members) == (variant, 6)
        labels.add(found.label)
    assert len(labels) == 3


def test_every_method_starts_from_backgrounds_of_the_spread_asked_for(
    cycled: Problem,
) -> None:
    wide = dataclasses.replace(cycled.protocol, initial_spread=3.0)
    truth = cycled.twin.val.initial_state
    errors = [
        protocol.first_background(cycled.twin, "val") - truth
        for protocol in (cycled.protocol, wide)
    ]
    assert 0.5 < errors[0].std() / 1.5 < 1.7
    np.testing.assert_allclose(errors[1], 2.0 * errors[0], rtol=1e-10)
    assert dataclasses.replace(cycled, protocol=wide).filter["B"][0, 0] == 9.0


# The optimum


def stage(n: int, width: float, score: float) -> dict[str, Any]:
    sizes = {"n_particles": n, "regularisation": width}
    return {**sizes, "score": score, "effective_size": 1.0}


def converged(problem: Problem, max_particles: int) -> dict[str, Any]:
    """Return how the doubling went, begun at ten particles with regularisation 0.8."""
    optimum = Optimum(n_particles=10, max_particles=max_particles, regularisation=0.8)
    return module._Doubling(optimum, problem).converged()


def test_the_optimum_is_doubled_until_its_score_settles(cycled: Problem) -> None:
    def found(**settings: Any) -> Fitted:
        return Optimum(n_particles=20, max_particles=80, **settings).fit(cycled)

    restless = found(tolerance=1e-9)
    convergence = restless.facts["convergence"]
    assert [s["n_particles"] for s in convergence["stages"]] == [20, 40, 80]
    assert convergence["settled"] is False
    assert restless.label == "optimum (N>80)"  # not settled
    widths = [s["regularisation"] for s in convergence["stages"]]
    assert widths == sorted(widths, reverse=True)
    assert restless.value == restless.scheme.regularisation == widths[-1]
    assert restless.scheme.n_particles == 80
    few = found(tolerance=1e-9, n_trajectories=2).facts["convergence"]
    fewer = module._with_validation(cycled, 2).twin
    observations = cycled.twin.val.observations
    assert np.array_equal(fewer.val.observations, observations[:2])
    assert few["stages"][0]["score"] != convergence["stages"][0]["score"]
    calm = found(tolerance=10.0)
    stages = calm.facts["convergence"]["stages"]
    assert [s["n_particles"] for s in stages] == [20, 40, 80]
    assert calm.facts["convergence"]["settled"] is True
    assert calm.label == "optimum (N=80)"


def test_one_step_that_changes_nothing_may_be_chance(
    cycled: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([1.0, 1.001, 0.97, 0.971, 0.972, 0.5])
    monkeypatch.setattr(
        module._Doubling, "_best", lambda self, n, width: stage(n, 0.5, next(scores))
    )
    found = converged(cycled, max_particles=10_000)
    assert found["stages"][-1]["n_particles"] == 160
    assert [s["score"] for s in found["stages"]] == [1.0, 1.001, 0.97, 0.971, 0.972]
    assert found["settled"]


def test_the_optimum_is_regularised_less_for_as_long_as_that_helps(
    cycled: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*scores: float) -> tuple[float, int]:
        left = iter(scores)
        monkeypatch.setattr(
            module._Doubling,
            "_stage",
            lambda self, n, width: stage(n, width, next(left)),
        )
        last = converged(cycled, max_particles=10)["stages"][-1]
        return last["regularisation"], len(list(left))

    nan = float("nan")
    assert found(1.0, 0.9, 0.8, 0.81, 0.1) == (pytest.approx(0.4), 1)
    assert found(1.0, 1.0, 0.1) == (0.8, 1)
    assert found(nan, 1.0, nan, 0.1) == (pytest.approx(0.8 * 2**-0.5), 1)
    assert found(nan, nan, 0.1) == (0.8, 1)


def test_what_a_doubling_keeps_is_of_its_own_settings(
    cycled: Problem, tmp_path: Path
) -> None:
    said: list[str] = []
    problem = dataclasses.replace(cycled, work=Work(tmp_path, say=said.append))
    optimum = Optimum(n_particles=10, max_particles=20, tolerance=1e-9)
    facts = optimum.fit(problem).facts
    n = len(said)
    assert optimum.fit(problem).facts == facts
    assert len(said) == n > 0  # nothing was computed again
    of_others = [
        (dataclasses.replace(optimum, threshold=0.3), problem),
        (optimum, dataclasses.replace(problem, kind="rmse_pooled_a")),
        (dataclasses.replace(optimum, n_trajectories=2), problem),
    ]
    for k, (other, its_problem) in enumerate(of_others, 1):
        before = len(said)
        other.fit(its_problem)
        assert len(said) > before
        assert len(list(tmp_path.iterdir())) == k + 1


def test_the_optimum_of_windows_is_known_for_some_backgrounds(
    in_windows: Problem,
) -> None:
    protocol = dataclasses.replace(in_windows.protocol, background="cycled")
    cycled = dataclasses.replace(in_windows, protocol=protocol)
    with pytest.raises(
        ConfigurationError, match=r"none, forecast, gauss\), got 'cycled'"
    ):
        Optimum().fit(cycled)


def test_the_optimum_of_windows_takes_some_trajectories_and_judges_itself(
    in_windows: Problem,
) -> None:
    found = Optimum(library=2**13, n_trajectories=4).fit(in_windows)
    run = in_windows.run(found, "val")
    assert run.analysis.shape == (4, 4, 3)
    assert (run.status == Status.CONVERGED).all()
    drawn = in_windows.drawn("val")[:4, 2:]
    assert np.array_equal(run.background, drawn)
    least = rmse_pooled(run.analysis, run.truth)
    assert least < rmse_pooled(drawn, run.truth)
    assert found.judge is not None
    claimed = float(np.sqrt((run.spread**2).mean()))
    for low, thinnest, settled in (
        (0.9 * claimed, 20.0, True),
        (1.2 * claimed, 20.0, False),  # its errors are larger than it says
        (0.9 * claimed, 5.0, False),  # too few states fit
    ):
        sizes = np.full(run.status.shape, thinnest)
        judged = dataclasses.replace(run, effective_size=sizes)
        scores = {"ci95": {"rmse_pooled_a": (low, 2 * claimed)}}
        facts = found.judge(in_windows, judged, scores)["convergence"]
        assert facts == {"stages": [], "settled": settled, "thinnest": thinnest}


# Encoders


def test_an_encoder_says_how_it_was_trained(problem: Problem, tmp_path: Path) -> None:
    table, kind = {**TINY_GRU, "n_iterations": 2}, problem.protocol.name
    method = method_from_table(table, kind, source="a test", key="m")
    assert isinstance(method, TrainedEncoder)
    found = method.fit(problem)
    in_windows = isinstance(problem.protocol, Windows)
    updates = None if in_windows else 2
    training = {"epochs": 1, "best_epoch": 1, "updates": updates}
    assert found.facts["training"] == training
    assert ("fixed_point" in found.facts) == in_windows
    assert "K=2" in found.label
    assert found.export is not None
    found.export(tmp_path)
    # What is exported analyses alike.
    loaded = method.as_trained(load_encoder(tmp_path), problem)
    runs = [problem.run(one, "val").analysis for one in (found, loaded)]
    assert np.array_equal(*runs)


def test_an_encoder_at_the_start_of_a_window_is_carried_to_its_end(
    in_windows: Problem,
) -> None:
    table = {
        **TINY_GRU,
        "training": {**TINY_GRU["training"], "loss": "var3d_window"},
    }
    found = fitted(in_windows, **table)
    assert found.start == "first"
    run = in_windows.run(found, "val")
    drawn = in_windows.drawn("val")[:, :-2]
    assert np.allclose(run.background, forecast(drawn, 20), rtol=1e-12)
    assert isinstance(found.scheme.function, EncoderFunction)


def test_encoders_of_other_settings_have_other_labels(in_windows: Problem) -> None:
    method = TrainedEncoder()
    for settings, label in (
        ({}, "GRU, L=3"),
        ({"model": "mlp", "n_iterations": 4}, "MLP, L=3, K=4"),
        ({"iteration": "legacy", "n_iterations": 2}, "GRU, L=3, K=2, legacy"),
        ({"training": dataclasses.replace(method.training, loss="var3d")}, "var3d"),
    ):
        one = dataclasses.replace(method, **settings)
        text = one._label(one.settings("xy", in_windows.protocol), in_windows.protocol)
        assert text.endswith(label)


def test_equal_data_elsewhere_do_without_the_folder_of_the_first(
    tmp_path: Path,
) -> None:
    cell = tiny_windows("gru", data={"seed": 77}).cells()[0]
    TwinExperiment.generate(cell.data).save(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first = problem_of(cell, TwinExperiment.load(tmp_path / "one"))
    scale = cell.method.fit(first).value
    shutil.rmtree(tmp_path / "one")
    # What was fitted is shared, as the hashes of the data are the same.
    second = problem_of(cell, TwinExperiment.load(tmp_path / "two"))
    found = cell.method.fit(second)
    assert found.value == scale
    assert np.isfinite(second.run(found, "test").analysis).all()
