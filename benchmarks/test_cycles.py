"""Cycles of forecast, analysis and score on sakov2012, beside DAPPER's."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from benchmarks.peers import Peer
from benchmarks.peers.dapper_cycles import N_CYCLES, dapper_cycles
from benchmarks.rows import Goal
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.iterative import IEnKS
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.experiments.experiment import Experiment
from l63fast.twin import TwinExperiment
from l63fast.verification import rmse

BURN_IN: Final = 20  # of the 200 that DAPPER's statistics leave out as well
# Scheme -> times faster asked for, DAPPER's scheme with settings, its rmse_a about.
SCHEMES: Final = {
    "3D-Var": (1000.0, "Var3D", {"xB": 0.1}, 1.05),
    "EnKF, N=10": (
        500.0,
        "EnKF",
        {"upd_a": "Sqrt", "N": 10, "infl": 1.02, "rot": True},
        0.58,
    ),
    "iEnKF, N=10": (
        300.0,
        "iEnKS",
        {"upd_a": "Sqrt", "N": 10, "infl": 1.02, "rot": True},
        0.31,
    ),
}


@pytest.fixture(scope="module")
def twin():
    [cell] = Experiment.preset("sakov2012").only("3dvar").cells()
    return TwinExperiment.generate(cell.data)


def scheme(name, twin):
    how = {"operator": "xyz", "R": twin.R}
    if name == "3D-Var":
        return ThreeDVar(**how, B=0.1 * twin.climatology.covariance)
    if name.startswith("iEnKF"):
        return IEnKS(**how, B=2.0 * np.eye(3), n_members=10, inflation=1.02)
    return EnKF(**how, B=2.0 * np.eye(3), n_members=10, inflation=1.02)


@pytest.mark.peer
@pytest.mark.parametrize("name", SCHEMES)
def test_cycles(timed, record, twin, name):
    goal, theirs, settings, about = SCHEMES[name]
    peer = Peer("DAPPER", dapper_cycles, ("dapper",)).made(theirs, settings)
    assert peer() == pytest.approx(about, rel=0.3)
    ours = scheme(name, twin)
    truth = twin.test.truth_at_observations
    start = twin.test.initial_state + 1.0

    def cycles():
        result = run_cycles(ours, twin, n_cycles=N_CYCLES, initial=start)
        scored = truth[:, BURN_IN:N_CYCLES]
        return rmse(result.analysis[:, BURN_IN:], scored)

    done = timed(cycles, dapper=peer)
    assert done.result == pytest.approx(about, rel=0.2)
    rates = len(truth) * N_CYCLES / done.seconds, N_CYCLES / done.against["dapper"]
    what = f"{name} cycles of sakov2012"
    record(Goal(what, rates[0], "cycles/s", rates[1], "DAPPER", goal))
