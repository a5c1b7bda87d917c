"""Facts of Lorenz-63: symmetry, fixed points, order, averages, divergence."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from l63fast.errors import (
    ArgumentValueError,
    DivergenceError,
    LargeTimeStepWarning,
)
from l63fast.lorenz63 import (
    climatology,
    forecast,
    mirror,
    second_moment,
    simulate,
    spin_up,
)
from l63fast.lorenz63.model import Integration

# 30-digit integration from (1, 0, 0); agrees with Kehlet & Logg (2010).
REFERENCE = {
    1: (-9.40845056705603620539, -9.09619907118647896834, 28.58162762439233910846),
    5: (-6.97457047268481795425, -7.02106089082253044232, 25.11961649212759373613),
    10: (-5.85768538242409002022, -5.83108248642610044292, 23.93213298702756264741),
    20: (-8.02114361331743706771, -11.90546474917175037521, 19.85637485839811841312),
}


def test_reference_trajectory(backend: str) -> None:
    path = simulate(np.array([1.0, 0, 0]), 200_000, dt=1e-4, save_every=10_000,
                    backend=backend)  # fmt: skip
    for (time, state), tolerance in zip(
        REFERENCE.items(), (2e-12, 4e-11, 4e-9, 4e-5), strict=True
    ):
        assert np.abs(path[time] - state).max() < tolerance


def test_order_is_four(backend: str) -> None:
    errors = [
        np.abs(forecast(np.array([1.0, 0, 0]), n, dt=1 / n, backend=backend)
               - REFERENCE[1]).max()
        for n in (1600, 3200)
    ]  # fmt: skip
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.1)


def test_the_model_commutes_with_its_mirror_bit_for_bit(backend: str) -> None:
    states = spin_up(100, seed=1)
    there = mirror(forecast(states, 2000, backend=backend))
    back = forecast(mirror(states), 2000, backend=backend)
    assert np.array_equal(there, back)


def test_fixed_points_and_the_z_axis(backend: str) -> None:
    c = np.sqrt(72.0)
    fixed = np.array([[c, c, 27.0], [-c, -c, 27.0], [0, 0, 0]])
    after = forecast(fixed, 10, backend=backend)
    assert np.abs(after - fixed).max() < 1e-13
    q = -8.0 / 3.0 * 0.01
    factor = 1 + q + q**2 / 2 + q**3 / 6 + q**4 / 24
    axis = simulate(np.array([0.0, 0.0, 20.0]), 100, backend=backend)
    assert np.all(axis[:, :2] == 0)
    assert np.allclose(axis[1:, 2] / axis[:-1, 2], factor, rtol=1e-14, atol=0)


def test_time_averages_obey_their_identities() -> None:
    path = simulate(spin_up(200, seed=2), 50_000, save_every=10).reshape(-1, 3)
    x, y, z = path.T
    beta, rho = 8.0 / 3.0, 28.0
    assert np.mean(x * x) == pytest.approx(beta * z.mean(), rel=1e-3)
    assert np.mean(x * y) == pytest.approx(beta * z.mean(), rel=1e-3)
    assert np.mean(x * y * z) == pytest.approx(beta * np.mean(z * z), rel=1e-3)
    assert np.mean(y * y) == pytest.approx(
        rho * np.mean(x * y) - np.mean(x * y * z), rel=1e-3
    )
    assert z.mean() == pytest.approx(23.551, abs=0.02)
    assert np.mean(x * x) == pytest.approx(62.80, rel=2e-3)
    assert np.abs(x).max() < 21
    assert np.abs(y).max() < 29
    assert z.min() > 0
    assert z.max() < 50


def test_spin_up_is_keyed_by_member_seed_and_split() -> None:
    many = spin_up(30, seed=3, split="train")
    assert np.array_equal(many[:7], spin_up(7, seed=3, split="train"))
    assert np.array_equal(many[7:], spin_up(23, seed=3, split="train", first=7))
    assert not np.any(many == spin_up(30, seed=4, split="train"))
    assert not np.any(many == spin_up(30, seed=3, split="test"))
    assert len(np.unique(many.round(6), axis=0)) == 30


def test_climatology_is_symmetric() -> None:
    clim = climatology(simulate(spin_up(100, seed=5), 5000, save_every=10))
    assert np.array_equal(clim.mean[:2], [0, 0])
    assert np.array_equal(clim.covariance[2, :2], [0, 0])
    expected = [[62.8, 62.8, 0], [62.8, 81.2, 0], [0, 0, 74.3]]
    assert np.allclose(clim.covariance, expected, rtol=0.05)


@pytest.mark.promise("N3", "flagged equals poisoned, neighbours' bits equal")
def test_divergence_names_members_step_and_time_and_spares_neighbours(backend) -> None:
    states = spin_up(50, seed=6)
    alone = forecast(states, 100, backend=backend)
    poisoned = states.copy()
    poisoned[[3, 44]] = 1e200
    poisoned[20] = 400.0, -400.0, 900.0
    with pytest.raises(DivergenceError) as caught:
        forecast(poisoned, 100, dt=0.01, backend=backend)
    path = simulate(poisoned, 100, backend=backend, on_divergence="nan")
    bad = np.flatnonzero(~np.isfinite(path[:, -1]).all(axis=-1))
    assert {3, 44} <= set(bad.tolist())
    assert caught.value.members.tolist() == bad.tolist()
    step = caught.value.step
    finite = np.isfinite(path).all(axis=(0, 2))
    assert finite[:step].all()
    assert not finite[step]
    assert caught.value.time == pytest.approx(step * 0.01)
    quiet = forecast(poisoned, 100, backend=backend, on_divergence="nan")
    good = np.setdiff1d(np.arange(50), [3, 20, 44])
    assert quiet[good].tobytes() == alone[good].tobytes()
    assert np.unique(quiet[3].view(np.uint64)).size == 1  # the one canonical NaN


@pytest.mark.parametrize("n_steps", [1, 1000])
@pytest.mark.promise("N3", "naming it: as many steps, memory of 3 forecasts at most")
def test_naming_a_divergence_costs_no_more_than_the_forecast(
    backend: str, n_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    states = 10.0 ** rng.uniform(1.5, 200.0, (20_000, 3))  # end at many a step
    states[::2] = 20.0
    forecast(states[:1], 1, backend=backend)  # Numba compiles
    steps, integrate = [0], Integration._integrate

    def counted(
        self: Integration, initial: np.ndarray, out: np.ndarray, save_every: int
    ) -> int:
        steps[0] += len(initial) * out.shape[1] * save_every
        return integrate(self, initial, out, save_every)

    monkeypatch.setattr(Integration, "_integrate", counted)
    tracemalloc.start()
    with pytest.raises(DivergenceError):
        forecast(states, n_steps, backend=backend)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert steps[0] <= 2 * len(states) * n_steps
    assert peak < 3 * states.nbytes


def test_denormals_and_negative_zero_are_kept(backend: str) -> None:
    path = simulate(np.array([-0.0, 0.0, 1e-310]), 1, backend=backend)
    assert np.signbit(path[0, 0])
    assert 0 < path[1, 2] < 1e-310


@pytest.mark.parametrize("dt", [0.10001, 0.12, 0.13, 0.15, 0.25, 1.0])
@pytest.mark.promise("N4", "6 time steps")
def test_a_dt_that_is_wrong_is_refused_even_where_it_stays_finite(dt: float) -> None:
    with pytest.raises(ArgumentValueError, match=r"dt: expected at most 0\.1"):
        forecast(np.ones(3), 10, dt=dt)
    with pytest.warns(LargeTimeStepWarning, match="dt: "):
        forecast(np.ones(3), 1, dt=dt, allow_large_dt=True)


def test_a_large_dt_warns_once_and_a_good_one_does_not() -> None:
    with pytest.warns(LargeTimeStepWarning) as caught:
        forecast(np.ones(3), 10, dt=0.06)
    assert len(caught) == 1
    forecast(np.ones(3), 10, dt=0.05)


ONES = np.ones((4, 3))


def test_edges(backend: str) -> None:
    assert simulate(np.empty((0, 3)), 5, backend=backend).shape == (0, 6, 3)
    assert np.array_equal(simulate(ONES, 0, backend=backend), ONES[:, None])
    still = forecast(ONES, 0, backend=backend)
    assert np.array_equal(still, ONES)
    assert not np.shares_memory(still, ONES)
    assert forecast(ONES, np.int64(5), n_threads=100_000, backend=backend).size == 12
    single = simulate(np.ones(3, np.float32), 4, save_every=2, backend=backend)
    assert single.shape == (3, 3)
    assert single.dtype == np.float32
    grid = golden_grid = np.arange(24.0).reshape(2, 4, 3)
    out = np.empty((2, 4, 3, 3))
    simulate(grid, 2, out=out, backend=backend)
    assert np.array_equal(out, simulate(golden_grid, 2, backend=backend))


def test_the_climatology_has_the_same_bits_on_every_processor() -> None:
    code = (
        "import l63fast as l63, numpy as np\n"
        "states = np.random.default_rng(0).normal(size=(4002, 3))\n"
        "print(l63.climatology(states).covariance.tobytes().hex())\n"
        "print(l63.lorenz63.second_moment(states.reshape(-1, 9)).tobytes().hex())"
    )
    # Products of matrices as on another processor: they round differently.
    other = {"OPENBLAS_CORETYPE": "Sandybridge"}
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | changed,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for changed in ({}, other)
    }
    assert len(found) == 1


def test_second_moments_of_any_number_of_columns_are_products() -> None:
    d = np.random.default_rng(0).normal(size=(20, 5, 4))
    expected = np.einsum("abi,abj->ij", d, d) / 100
    np.testing.assert_allclose(second_moment(d), expected, rtol=1e-12)
