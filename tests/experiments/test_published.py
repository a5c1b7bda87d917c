"""Published scores: which cells they stand beside, and what is said of the two."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from l63fast.experiments.experiment import Experiment
from l63fast.experiments.protocols import Windows
from l63fast.experiments.published import PUBLISHED, published_for, verdict


def test_every_method_of_the_published_presets_has_its_score_beside_it() -> None:
    found = {
        name: {
            cell.name: published_for(cell) for cell in Experiment.preset(name).cells()
        }
        for name in ("sakov2012", "wiljes2017", "bach2025")
    }
    without = {
        name: [key for key, published in cells.items() if published is None]
        for name, cells in found.items()
    }
    ours = ["3dvar", "4dvar-4", "4dvar-8"]
    assert without["sakov2012"] == [*ours, "ienks-10", "ienks-3"]
    assert set(without["bach2025"]) == {"s1-3dvar", "s0.7-3dvar"}
    assert set(without["wiljes2017"]) == {
        *ours,
        *("climatology", "extkf", "enkf-30", "pf-1000", "pf-4000"),
    }
    knet = Experiment.preset("knet").only("extkf").cells()
    values = [p.paper for cell in knet if (p := published_for(cell))]
    assert values == [-10.45, -20.37, -30.40, -40.39, -49.89]
    # Every value is found by some cell: none stands there for settings nobody runs.
    assert sum(p is not None for cells in found.values() for p in cells.values()) + len(
        values
    ) == len(PUBLISHED)


def test_a_published_score_stands_beside_its_own_settings_only() -> None:
    wiljes = Experiment.preset("wiljes2017").only("pf-35")

    def beside(**table: Any) -> float:
        method = {"scheme": "pf", "threshold": 0.3, **table}
        [cell] = wiljes.updated(methods={"mine": method}).only("mine").cells()
        found = published_for(cell)
        return math.nan if found is None else found.file

    assert beside(n_particles=35, regularisation=1.4) == 2.05
    assert math.isnan(beside(n_particles=4000, regularisation=1.4))
    assert math.isnan(beside(n_particles=35))  # tuned
    assert math.isnan(beside(n_particles=35, regularisation=1.4, threshold=0.2))


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"sigma": 1.0}},
        {"data": {"operator": "xy"}},
        {"data": {"steps_per_cycle": 10}},
        {"data": {"Q": 0.1}},
        {"data": {"parameters": {"rho": 30.0}}},
        {"data": {"dt": 0.005, "steps_per_cycle": 50}},
        {"experiment": {"measure": "rmse_pooled_a"}},
        {"cycles": {"burn_in": 1.0}},
        {"methods": {"enkf-10": {"inflation": 5.0}}},
        {"methods": {"enkf-10": {"n_members": 11}}},
        {"methods": {"enkf-10": {"rotation": False}}},
    ],
)
def test_other_settings_have_no_published_score(change: dict[str, Any]) -> None:
    sakov = Experiment.preset("sakov2012").only("enkf-10")
    [same] = sakov.cells()
    assert published_for(same) is not None
    # More or longer trajectories of another seed are the same experiment.
    more = dataclasses.replace(same.data, n_test=7, seed=9)
    assert published_for(dataclasses.replace(same, data=more)) is not None
    [other] = sakov.updated(**change).cells()
    assert published_for(other) is None


def test_a_window_is_no_published_cycle() -> None:
    [same] = Experiment.preset("sakov2012").only("enkf-10").cells()
    alone = dataclasses.replace(same, protocol=Windows(), measure="rmse_a")
    assert published_for(alone) is None


@pytest.mark.parametrize(
    ("value", "word"),
    [
        # 0.57 and 0.60, each give or take hypot(0.03, 1.96 * 0.02) + 0.005 = 0.054.
        *((0.585, "within"), (0.518, "within"), (0.514, "lower"), (0.653, "within")),
        *((0.656, "higher"), (math.nan, "not finite")),
    ],
)
def test_published_values_widen_by_both_errors(value: float, word: str) -> None:
    published = next(p for p in PUBLISHED if (p.file, p.rerun) == (0.60, 0.57))
    assert verdict(published, value, value - 0.03, value + 0.03) == word


def test_without_an_interval_there_is_no_verdict() -> None:
    assert verdict(PUBLISHED[1], 4.0, math.nan, math.nan) == ""
