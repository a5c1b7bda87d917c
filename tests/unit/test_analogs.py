"""The optimum of single windows: against all weights at once, and its own claims."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from l63fast.assimilation import analogs
from l63fast.assimilation.analogs import (
    ClimatologicalPrior,
    WindowObservations,
    WindowPosterior,
    window_posterior,
)
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import Lorenz63, mirror, simulate, spin_up
from l63fast.observation import ObservationOperator

CLIMATE = ClimatologicalPrior(0.01, Lorenz63(), seed=5)
N, LENGTH, STEPS = 60, 4, 5
P = np.diag([0.3, 0.4, 0.5]) ** 2


def twin(
    name: str, sigma: float, *, background: bool, lag: int = 1
) -> tuple[np.ndarray, WindowObservations]:
    """Return truths (n, 3) at the end of windows, and what is known of them."""
    operator, rng = ObservationOperator(name), np.random.default_rng(0)
    path = simulate(spin_up(N, seed=9), (LENGTH - 1) * STEPS, save_every=STEPS)
    seen = np.asarray(operator(path))
    earlier = path[:, -1 - lag] + rng.normal(size=(N, 3)) @ np.sqrt(P)
    return path[:, -1], WindowObservations(
        seen + sigma * rng.normal(size=seen.shape),
        operator,
        sigma**2 * np.eye(operator.obs_dim),
        STEPS,
        *((earlier, P, lag) if background else ()),
    )


def of_first(evidence: WindowObservations, n: int) -> WindowObservations:
    assert evidence.earlier is not None
    return dataclasses.replace(
        evidence, observations=evidence.observations[:n], earlier=evidence.earlier[:n]
    )


def rmse(estimate: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(((estimate - truth) ** 2).mean()))


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("enough", [64.0, np.inf])
def test_neighbours_and_samples_give_what_all_states_give(
    monkeypatch: pytest.MonkeyPatch, lag: int, enough: float
) -> None:
    monkeypatch.setattr(analogs, "_ENOUGH", enough)  # infinite: always sampled
    monkeypatch.setattr(analogs, "_NEIGHBOURS", 2**15)
    _, evidence = twin("xy", 0.5, background=True, lag=lag)
    evidence = of_first(evidence, 6)
    found = window_posterior(evidence, CLIMATE, library=2**16)
    states, _ = CLIMATE.states(2**18)
    path = CLIMATE.carried(states, evidence.steps_of_cycles)
    misfit = evidence.whitened_path(path) - evidence.whitened()[:, None]
    weights = np.exp(-0.5 * (misfit**2).sum(axis=2))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = weights @ path[:, -1]
    variance = (weights @ path[:, -1] ** 2 - mean**2).mean(axis=1)
    off = np.abs(found.mean - mean) / np.sqrt(variance)[:, None]
    assert off.max() < 0.35
    assert np.sqrt((off**2).mean()) < 0.12
    np.testing.assert_allclose(found.variance, variance, rtol=0.25)


@pytest.mark.parametrize(
    ("lag", "enough"), [(1, 64.0), pytest.param(0, np.inf, marks=pytest.mark.slow)]
)
def test_gaps_and_irregular_times_give_what_all_states_give(
    monkeypatch: pytest.MonkeyPatch, lag: int, enough: float
) -> None:
    monkeypatch.setattr(analogs, "_ENOUGH", enough)  # infinite: always sampled
    monkeypatch.setattr(analogs, "_NEIGHBOURS", 2**15)
    steps, R = (7, 20, 11), np.array([[1.0, 0.5], [0.5, 1.5]])
    rng, starts = np.random.default_rng(2), spin_up(8, seed=5)
    path = CLIMATE.carried(starts, steps)
    for k, n_steps in enumerate(np.cumsum(steps), start=1):
        at = simulate(starts, int(n_steps), save_every=int(n_steps))[:, -1]
        assert at.tobytes() == path[:, k].tobytes()
    y = path[..., :2] + rng.normal(size=(8, 4, 2)) @ np.linalg.cholesky(R).T
    y[rng.random(y.shape) < 0.4] = np.nan
    y[:2] = np.where(np.isnan(y[:2]), path[:2, :, :2], y[:2])
    wide = 9.0 * P
    earlier = path[:, -1 - lag] + rng.normal(size=(8, 3)) @ np.sqrt(wide)
    operator = ObservationOperator("xy")
    evidence = WindowObservations(y, operator, R, steps, earlier, wide, lag)
    found = window_posterior(evidence, CLIMATE, library=2**16)
    states, _ = CLIMATE.states(2**18)
    path = CLIMATE.carried(states, steps)
    at = path[:, -1 - lag]
    for i in range(8):
        square = ((at - earlier[i]) ** 2 / np.diag(wide)).sum(axis=1)
        for k in range(4):
            some = ~np.isnan(y[i, k])
            d = (path[:, k, :2] - y[i, k])[:, some]
            inverse = np.linalg.inv(R[np.ix_(some, some)])
            square += np.einsum("ni,ij,nj->n", d, inverse, d)
        weights = np.exp(-0.5 * (square - square.min()))
        weights /= weights.sum()
        mean = weights @ path[:, -1]
        variance = (weights @ path[:, -1] ** 2 - mean**2).mean()
        assert np.abs(found.mean[i] - mean).max() < 0.35 * np.sqrt(variance)
        assert found.variance[i] == pytest.approx(variance, rel=0.25)
    # The misfits of the thinned library are those of its trajectories.
    library = analogs._Library(evidence, CLIMATE, 2**13)
    seen = analogs._Seen(evidence.whitened(), evidence.of_present())
    shown = np.repeat(library._coarse[0][None], 8, axis=0)
    squares = library._coarse_squares(seen)
    np.testing.assert_allclose(squares, seen.misfits(shown), rtol=1e-9, atol=1e-9)
    # Windows without gaps do not depend on those with gaps; a gap hides its value.
    alone = window_posterior(of_first(evidence, 2), CLIMATE, library=2**16)
    assert alone.mean.tobytes() == found.mean[:2].tobytes()
    with pytest.raises(ArgumentValueError, match="steps: expected one per cycle, 3"):
        window_posterior(
            dataclasses.replace(evidence, steps=(7, 20)), CLIMATE, library=2**13
        )


@pytest.mark.parametrize(
    ("name", "sigma", "background", "lag"),
    [("xy", 1.0, False, 1), ("x", 2.0, True, 1), ("x", 2.0, True, 0)],
)
def test_its_error_is_what_it_claims(
    name: str, sigma: float, background: bool, lag: int
) -> None:
    truth, evidence = twin(name, sigma, background=background, lag=lag)
    found = window_posterior(evidence, CLIMATE, library=2**14)
    claimed = float(np.sqrt(found.variance.mean()))
    assert rmse(found.mean, truth) == pytest.approx(claimed, rel=0.25)
    assert np.median(found.effective_size) > 50.0


@pytest.mark.parametrize(
    ("name", "sigma"),
    [("xy", 0.1), pytest.param("xy", 0.02, marks=pytest.mark.slow), ("x2", 1.0)],
)
def test_samples_claim_their_error_between_the_states_of_a_library(
    name: str, sigma: float
) -> None:
    truth, evidence = twin(name, sigma, background=True)
    truth, evidence = truth[:32], of_first(evidence, 32)
    found = window_posterior(evidence, CLIMATE, library=2**13)
    estimate = found.folded if name == "x2" else found.mean
    error = np.minimum(
        ((estimate - truth) ** 2).mean(axis=1),
        ((mirror(estimate) - truth) ** 2).mean(axis=1) if name == "x2" else np.inf,
    )
    assert 0.7 < np.sqrt((error / found.variance).mean()) < 1.4
    assert found.effective_size.min() > 100.0
    again = window_posterior(evidence, CLIMATE, library=2**15)
    off = (again.folded - found.folded) ** 2
    assert np.sqrt(np.median(off.mean(axis=1) / found.variance)) < 0.15


def test_a_window_does_not_depend_on_those_beside_it() -> None:
    _, evidence = twin("xy", 0.1, background=True)
    every = window_posterior(of_first(evidence, 34), CLIMATE, library=2**13)
    some = window_posterior(of_first(evidence, 5), CLIMATE, library=2**13)
    assert some.mean.tobytes() == every.mean[:5].tobytes()


@pytest.mark.parametrize("n_known", [pytest.param(32, marks=pytest.mark.slow), 37])
def test_going_on_from_a_report_gives_the_same_bits(n_known: int) -> None:
    _, evidence = twin("xy", 0.1, background=True)
    evidence = of_first(evidence, 40)
    reports: list[WindowPosterior] = []
    whole = window_posterior(evidence, CLIMATE, library=2**13, report=reports.append)
    assert [len(found.mean) for found in reports] == [32, 40]
    known = WindowPosterior(*(v[:n_known].copy() for v in vars(whole).values()))
    known.mean[0] = 7.0  # planted: what is known is not computed again
    known.mean[32:] = 7.0  # but a part of a chunk is
    reports.clear()
    again = window_posterior(
        evidence, CLIMATE, library=2**13, known=known, report=reports.append
    )
    assert [len(found.mean) for found in reports] == [40]
    assert (again.mean[0] == 7.0).all()
    again.mean[0] = whole.mean[0]
    for name, values in vars(whole).items():
        assert getattr(again, name).tobytes() == values.tobytes(), name


def test_it_is_better_than_3d_var_of_the_same_background() -> None:
    truth, evidence = twin("xy", 1.0, background=True)
    assert evidence.earlier is not None
    background = simulate(evidence.earlier, STEPS)[:, -1]
    error = background - truth
    analysis = three_d_var(
        background, evidence.observations[:, -1], "xy",
        B=error.T @ error / N, R=evidence.R,
    )  # fmt: skip
    found = window_posterior(evidence, CLIMATE, library=2**13)
    assert rmse(found.mean, truth) < 0.95 * rmse(analysis.state, truth)


def test_a_sign_that_cannot_be_known_is_not_guessed() -> None:
    truth, evidence = twin("x2", 1.0, background=False)
    found = window_posterior(evidence, CLIMATE, library=2**13)
    assert (found.mean[:, :2] == 0.0).all()
    nearer = np.minimum(
        ((found.folded - truth) ** 2).sum(axis=1),
        ((mirror(found.folded) - truth) ** 2).sum(axis=1),
    )
    assert np.sqrt(nearer.mean() / 3.0) < 0.5 * rmse(found.mean, truth)
    # With a background that knows it, it is.
    truth, evidence = twin("x2", 1.0, background=True)
    found = window_posterior(of_first(evidence, 8), CLIMATE, library=2**13)
    assert rmse(found.mean, truth[:8]) < 1.0
