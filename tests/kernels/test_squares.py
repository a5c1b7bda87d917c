"""The fast fall of squares against the careful iteration, on hard problems."""

from __future__ import annotations

import numpy as np
import pytest

from builds import REPOSITORY, output, tool
from l63fast._kernels import AnalysisJob, cpp, load_kernels
from l63fast.assimilation.scheme import Status
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.observation import ObservationOperator

N = 4000


def problems(name: str, condition: float) -> tuple[np.ndarray, ...]:
    """Return backgrounds, observations, and B of at most that condition number."""
    rng = np.random.default_rng(5)
    operator = ObservationOperator(name)
    axes, _ = np.linalg.qr(rng.standard_normal((N, 3, 3)))
    values = np.stack(
        [
            np.ones(N),
            condition ** -rng.uniform(0, 1, N),
            np.full(N, 1 / condition),
        ],
        axis=-1,
    ) * 10.0 ** rng.uniform(-2, 2, (N, 1))
    B = (axes * values[:, None]) @ axes.swapaxes(1, 2)
    B = (B + B.swapaxes(1, 2)) / 2
    background = rng.standard_normal((N, 3)) * [8, 9, 8.6] + [0, 0, 23.5]
    background[: N // 100] = 0
    step = (axes * np.sqrt(values)[:, None]) @ rng.standard_normal((N, 3, 1))
    truth = background + step[..., 0]
    variance = 10.0 ** rng.uniform(-2, 2, N)
    noise = rng.standard_normal((N, operator.obs_dim)) * np.sqrt(variance)[:, None]
    R = variance[:, None, None] * np.eye(operator.obs_dim)
    return background, operator(truth) + noise, B, R


def carefully(background, observation, name, B, R, **settings):
    """Return what the careful iteration finds: a covariance in R makes it be used."""
    hardly_dependent = R.copy()
    hardly_dependent[:, 0, 1] = hardly_dependent[:, 1, 0] = 1e-300
    return three_d_var(
        background, observation, name, B=B, R=hardly_dependent, **settings
    )


@pytest.mark.parametrize("condition", [10.0, 1e4, 1e8])
@pytest.mark.parametrize("name", ["x2y2", "x2z2", "x2y2z2"])
def test_no_analysis_is_worse_than_the_careful_one(name: str, condition: float) -> None:
    background, observation, B, R = problems(name, condition)
    fast = three_d_var(background, observation, name, B=B, R=R, max_iter=50)
    careful = carefully(background, observation, name, B, R, max_iter=50)
    assert np.array_equal(fast.status, careful.status)
    assert np.all(fast.cost <= careful.cost + 1e-8 * np.maximum(careful.cost, 1))
    done = (fast.status == Status.CONVERGED) & np.isclose(fast.cost, careful.cost)
    assert done.mean() > 0.98
    assert np.abs(fast.state - careful.state)[done].max() < 1e-6


def test_other_basins_are_tried_where_they_may_be_lower() -> None:
    # x and y move together in B, and their squares agree with either sign: the
    # background of x says plus, that of y, nearer to zero, says minus.
    B = np.array([[4.0, 3.9, 0.0], [3.9, 4.0, 0.0], [0.0, 0.0, 1.0]])
    background = np.array([[3.0, -0.2, 20.0]])
    observation, R = np.array([[16.0, 16.0]]), np.eye(2)
    args = (background, observation, "x2y2")
    one = three_d_var(*args, B=B, R=R, multi_start=False)
    every = three_d_var(*args, B=B, R=R)
    assert one.state[0, 1] < 0
    assert every.state[0, 1] > 3.5
    assert every.cost[0] < one.cost[0] / 2


@pytest.mark.parametrize("max_iter", [1, 2, 3, 5])
def test_few_iterations_end_as_the_careful_ones_do(max_iter: int) -> None:
    background, observation, B, R = problems("x2y2", 10.0)
    settings = {"max_iter": max_iter, "multi_start": False}
    fast = three_d_var(background, observation, "x2y2", B=B, R=R, **settings)
    careful = carefully(background, observation, "x2y2", B, R, **settings)
    left = fast.status == Status.MAX_ITER
    assert left.any()
    assert np.all(fast.n_iter <= max_iter)
    assert np.allclose(fast.state[left], careful.state[left], rtol=0, atol=1e-6)


# Backgrounds of x, one group of samples each, that are in and out of the range where
# AVX-512 replaces the division; and variances of the observation.
EXTREMES = (
    *(3.0, -7.5, 0.0, -0.0, -5e-324, -1e-310),
    *(1e-62, 1e-30, 1e12, 1e70, 1e150, np.nan),
)
VARIANCES = (1.0, 1e-11, 1e11, 1e-300, 1e300)


@pytest.mark.parametrize("variance", VARIANCES)
def test_bits_of_one_square_are_the_same_at_every_level(variance: float) -> None:
    background = np.full((len(EXTREMES) * 64, 3), 1.0)
    background[:, 0] = np.repeat(EXTREMES, 64)
    background[:, 0] *= 1.0 + np.tile(np.arange(64.0), len(EXTREMES)) / 97.0
    observation = (
        background[:, :1] ** 2 * np.linspace(-0.5, 2.0, len(background))[:, None]
    )
    R = np.full((1, 1, 1), variance)
    job = AnalysisJob(
        background, observation, 3.7 * np.eye(3)[None], R, (0,), (2,), 1, 30, 1e-300
    )
    expected = load_kernels("numba").analyse(job, 1)
    assert len(set(expected[1])) > 1
    for level in cpp.levels():
        for got, wanted in zip(
            cpp.kernels(level).analyse(job, 1), expected, strict=True
        ):
            assert got.tobytes() == wanted.tobytes(), level


@pytest.mark.slow
def test_quotients_without_the_divider_are_correctly_rounded(tmp_path) -> None:
    if "x86-64-v4" not in cpp.levels():
        pytest.skip("this processor has no AVX-512")
    program, sources = tmp_path / "quotient", REPOSITORY / "tests" / "native"
    flags = ("-std=gnu++17", "-O2", "-march=x86-64-v4", "-ffp-contract=off")
    headers = f"-I{REPOSITORY / 'cpp' / 'include'}"
    output(tool("c++"), *flags, headers, sources / "quotient.cpp", "-o", program)
    assert output(program) == "0\n"
