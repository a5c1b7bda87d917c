"""The columns of results.csv: time means of errors and CRPS, by their formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from experiment_samples import TINY_GRU, tiny_cycled
from l63fast.experiments.protocols import DISTRIBUTION, Estimates
from l63fast.experiments.results import (
    MEANS,
    MORE_MEANS,
    SMOOTHED_MEANS,
    Result,
    results_of,
)
from l63fast.experiments.scoring import scores

N, TIMES, MEMBERS = 4, 7, 5
SHAPE = (N, TIMES, 3)


def estimates(**more: Any) -> Estimates:
    """Return estimates that are off by a planted error; the background by more."""
    rng = np.random.default_rng(0)
    truth = 3.0 * rng.standard_normal(SHAPE)
    return Estimates(
        truth=truth,
        observations=truth,
        times=np.arange(float(TIMES)),
        background=truth + 2.0 * rng.standard_normal(SHAPE),
        analysis=truth + rng.standard_normal(SHAPE),
        status=np.zeros(SHAPE[:2], dtype=np.int8),
        **more,
    )


def claimed() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    members = 10.0 * rng.standard_normal((N, TIMES, MEMBERS, 3))
    return {"members": members, "spread": rng.uniform(0.5, 2.0, SHAPE)}


def fair(members: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS that does not depend on the size of the ensemble."""
    distance = np.abs(members - truth[:, :, None]).mean(axis=2)
    pairs = np.abs(members[:, :, :, None] - members[:, :, None]).sum(axis=(2, 3))
    m = members.shape[2]
    return (distance - pairs / (2 * m * (m - 1))).mean(axis=(1, 2))


def normal(mean: np.ndarray, spread: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS of normal distributions (Gneiting et al. 2005)."""
    z = (truth - mean) / spread
    inner = z * (2.0 * norm.cdf(z) - 1.0) + 2.0 * norm.pdf(z) - 1.0 / np.sqrt(np.pi)
    return (spread * inner).mean(axis=(1, 2))


def test_errors_are_of_analyses_and_of_backgrounds() -> None:
    given = estimates()
    found = given.trajectory_columns(blind=False)
    assert tuple(found) == (*MEANS, *MORE_MEANS)
    mirror = np.array([-1.0, -1.0, 1.0])
    for end, states in (("a", given.analysis), ("f", given.background)):
        square = ((states - given.truth) ** 2).mean(axis=2)
        other = ((mirror * states - given.truth) ** 2).mean(axis=2)
        for name, values in (
            *((f"rmse_{end}", np.sqrt(square)), (f"mse_{end}", square)),
            (f"mirror_rmse_{end}", np.sqrt(np.minimum(square, other))),
            (f"mirror_mse_{end}", np.minimum(square, other)),
        ):
            np.testing.assert_allclose(found[name], values.mean(axis=1), rtol=1e-12)
    # Planted: one is not the other, and the mirror image counts somewhere.
    assert (found["rmse_f"] > 1.2 * found["rmse_a"]).all()
    assert (found["mirror_mse_f"] < found["mse_f"]).any()


def test_the_crps_is_that_of_the_members_where_they_were_kept() -> None:
    given = estimates(**claimed())
    assert given.members is not None
    found = given.trajectory_columns(blind=False)["crps"]
    np.testing.assert_allclose(found, fair(given.members, given.truth), rtol=1e-12)
    placed = replace(given, members_are_drawn=False)
    expected = normal(given.analysis, given.spread, given.truth)
    found = placed.trajectory_columns(blind=False)["crps"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_crps_is_that_of_mean_and_spread_without_members() -> None:
    given = estimates(spread=claimed()["spread"])
    assert given.spread is not None
    expected = normal(given.analysis, given.spread, given.truth)
    found = given.trajectory_columns(blind=False)["crps"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # Of no spread at all it is the absolute error.
    sure = estimates(spread=np.zeros(SHAPE)).trajectory_columns(blind=False)["crps"]
    off = np.abs(given.analysis - given.truth).mean(axis=(1, 2))
    np.testing.assert_allclose(sure, off, rtol=1e-12)


@pytest.mark.parametrize(
    ("claims", "blind"), [((), False), (("members", "spread"), True)]
)
def test_there_is_no_crps_without_a_claim_or_of_two_halves(
    claims: tuple[str, ...], blind: bool
) -> None:
    given = estimates(**{name: claimed()[name] for name in claims})
    assert np.isnan(given.trajectory_columns(blind=blind)["crps"]).all()


def test_a_lost_trajectory_is_lost_alone() -> None:
    given = estimates(spread=claimed()["spread"])
    whole = given.trajectory_columns(blind=False)
    for states in (given.analysis, given.background, given.spread):
        assert states is not None
        states[2, 3, 1] = np.nan
    for name, values in given.trajectory_columns(blind=False).items():
        assert np.isnan(values[2]), name
        np.testing.assert_array_equal(np.delete(values, 2), np.delete(whole[name], 2))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Return cells of an ensemble, of a covariance, and of no claim, by their names."""
    root = tmp_path_factory.mktemp("columns")
    methods = {
        "extkf": {"scheme": "extkf", "inflation": 1.2},
        "background": {"scheme": "background"},
    }
    vary = {"operator": ["xyz", "x2"]}
    experiment = tiny_cycled("oi", "pf", vary=vary, methods=methods)
    experiment.run(root, keep_states=True)
    names = [cell.name for cell in experiment.cells()]
    return {name: Result.open(root / "tiny" / name) for name in names}


def test_a_cell_writes_these_columns(finished: dict[str, Result]) -> None:
    for name, result in finished.items():
        rows, states = result.trajectories, result.estimates
        assert list(rows) == ["trajectory", *MEANS, *MORE_MEANS, *SMOOTHED_MEANS]
        error = (states["background"] - states["truth"]).to_numpy()
        rmse = np.sqrt((error**2).mean(axis=2)).mean(axis=1)
        np.testing.assert_allclose(rows["rmse_f"], rmse, rtol=1e-12, err_msg=name)
    known = {n for n, r in finished.items() if r.trajectories["crps"].notna().all()}
    assert known == {"xyz-enkf", "xyz-extkf"}
    states = finished["xyz-extkf"].estimates
    expected = normal(
        *(states[name].to_numpy() for name in ("analysis", "spread", "truth"))
    )
    found = finished["xyz-extkf"].trajectories["crps"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    enkf = finished["xyz-enkf"]  # whose members are not kept
    for name in DISTRIBUTION:
        found = float(enkf.metrics["distribution"][name]["value"])
        expected = enkf.trajectories[name].mean()
        assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert finished["x2-enkf"].metrics["distribution"] is None


def test_all_cells_have_them_in_one_table(finished: dict[str, Result]) -> None:
    table = results_of(list(finished.values()))
    for name, rows in table.groupby("cell"):
        own = finished[str(name)].trajectories
        columns = [*MEANS, *MORE_MEANS]
        np.testing.assert_array_equal(rows[columns], own[columns])


def test_encoders_and_particles_are_judged_alike(tmp_path: Path) -> None:
    sure = TINY_GRU | {"uncertainty": "gaussian"}
    experiment = tiny_cycled(methods={"sure": sure})
    found = experiment.only("sure", "pf", "oi").run(tmp_path)
    table = found.set_index("method")
    for name in DISTRIBUTION:
        is_density = name == "log_score"
        assert table.loc["sure", name].notna().all(), name
        assert table.loc["pf", name].notna().all() != is_density, name
        assert table.loc["oi", name].isna().all(), name
    board = scores(found, "crps").set_index("method")
    assert set(board.index) == {"sure", "pf"}
    np.testing.assert_allclose(board["score"], board["crps"])
    assert (board["covered_90_low"] <= board["covered_90"]).all()
    metrics = Result.open(tmp_path / "tiny" / table.loc["sure", "cell"].iloc[0]).metrics
    assert np.array(metrics["pit"]["shares"]).shape == (3, 20)
