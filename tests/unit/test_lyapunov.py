"""Lyapunov exponents: known values, and the page that shows how to get them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.lorenz63 import Lorenz63, forecast, lyapunov_exponents, spin_up
from pages import blocks, page, printed_by

TEXT = page("howto/lyapunov")
EXAMPLES = list(zip(blocks(TEXT, "python"), blocks(TEXT, "text"), strict=True))


@pytest.mark.parametrize(("code", "expected"), EXAMPLES, ids=["all three", "leading"])
def test_the_page_prints_what_it_says(code: str, expected: str) -> None:
    assert printed_by(code).replace("-0.0000", " 0.0000") == expected


def test_the_page_gives_the_published_exponents() -> None:
    values = [float(v) for v in re.findall(r"(-?[\d.]+) \+-", EXAMPLES[0][1])]
    assert values == pytest.approx([0.9056, 0.0, -14.572], abs=3e-4)


def test_a_fixed_point_has_the_eigenvalues_of_its_jacobian() -> None:
    # At the origin: those of [[-sigma, sigma], [rho, -1]], and -beta, in falling order.
    sigma, rho, beta = Lorenz63().as_tuple()
    plane = np.linalg.eigvals([[-sigma, sigma], [rho, -1.0]])
    expected = sorted([*plane, -beta], reverse=True)
    found = lyapunov_exponents(np.zeros(3), 2000, dt=0.001, n_transient=20_000)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_interval_between_bases_does_not_matter() -> None:
    states = spin_up(4, seed=1)
    often = lyapunov_exponents(states, 500, steps_per_basis=7, n_transient=0)
    seldom = lyapunov_exponents(states, 500, steps_per_basis=50, n_transient=0)
    assert often.shape == (4, 3)
    assert np.allclose(often, seldom, rtol=0, atol=1e-9)


def test_a_transient_is_a_later_start() -> None:
    states = spin_up(50, seed=1)
    after = lyapunov_exponents(states, 1000, n_transient=4000)
    later = lyapunov_exponents(forecast(states, 2000), 1000, n_transient=2000)
    assert not np.allclose(after, lyapunov_exponents(states, 1000), atol=1e-3)
    assert np.allclose(after, later, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"n_steps": 0}, ArgumentValueError, "n_steps: expected at least 1"),
        ({"n_steps": 1.5}, ArgumentTypeError, "n_steps: expected an integer"),
        ({"n_transient": -1}, ArgumentValueError, "n_transient: expected at least 0"),
        ({"steps_per_basis": 0}, ArgumentValueError, "steps_per_basis: expected at"),
        ({"state": np.ones(4)}, ArgumentValueError, r"state: expected \(\.\.\., 3\)"),
        ({"dt": 0.2}, ArgumentValueError, "dt: expected at most"),
    ],
)
def test_bad_arguments_are_refused(wrong, kind, message) -> None:
    with pytest.raises(kind, match=message):
        lyapunov_exponents(**({"state": np.ones(3), "n_steps": 10} | wrong))
