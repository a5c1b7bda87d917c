"""Missing values in 3D-Var: the bits of a problem that has the present values only."""

import numpy as np
import pytest

import golden
from l63fast import three_d_var, variational_cost
from l63fast._kernels import AnalysisJob, cpp, load_kernels
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator

LEVELS = cpp.levels()
OTHER_NAN = np.array([0xFFF8_0000_DEAD_BEEF], np.uint64).view(np.float64)[0]


def problem(name, *, n=10_000, full=False, each=False, dtype=np.float64):
    """Return background, observations with gaps, the values below them, B and R."""
    rng = np.random.default_rng(7)
    operator = ObservationOperator(name)
    m, many = operator.obs_dim, (n if each else 1,)
    x_b = golden.states(n, np.float64)
    root, error = rng.normal(size=(*many, 3, 3)), rng.normal(size=(*many, m, m))
    B = root @ np.swapaxes(root, 1, 2) + np.eye(3)
    R = error @ np.swapaxes(error, 1, 2) + np.eye(m)
    R = R if full else np.where(np.eye(m, dtype=bool), R, 0.0)
    whole = operator(x_b) + rng.normal(size=(n, m))
    y = np.where(rng.random((n, m)) < 0.5, np.nan, whole)
    B, R = (B, R) if each else (B[0], R[0])
    return operator, *(array.astype(dtype) for array in (x_b, y, whole, B, R))


def parts(operator, y):
    """Return rows, values and operator of each pattern with any value present."""
    present = ~np.isnan(y)
    for pattern in range(1, 2**operator.obs_dim):
        chosen = np.flatnonzero(pattern >> np.arange(operator.obs_dim) & 1)
        wanted = np.isin(np.arange(operator.obs_dim), chosen)
        axes = zip(operator.components, operator.powers, strict=True)
        names = ["xyz"[c] + (str(p) if p > 1 else "") for c, p in axes]
        name = "".join(names[j] for j in chosen)
        yield np.flatnonzero((present == wanted).all(axis=1)), chosen, name


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["x", "xy", "xyz", "x2", "x2y", "x2y2z2", "xy2z3"])
def test_gaps_give_the_bits_of_the_present_values(name, full, dtype, backend):
    for each in (False, True):
        given = problem(
            name, n=1000 if each else 10_000, full=full, each=each, dtype=dtype
        )
        operator, x_b, y, whole, B, R = given
        found = three_d_var(x_b, y, name, B=B, R=R, missing="nan", backend=backend)
        seen = 0
        for rows, chosen, part in parts(operator, y):
            only = three_d_var(
                x_b[rows],
                np.ascontiguousarray(whole[np.ix_(rows, chosen)]),
                part,
                B=B[rows] if each else B,
                R=(R[rows] if each else R)[..., chosen[:, None], chosen],
                backend=backend,
            )
            for field in ("state", "status", "n_iter", "cost"):
                got = getattr(found, field)[rows]
                assert got.tobytes() == getattr(only, field).tobytes(), (part, field)
            residual = found.residual[rows]
            assert residual[:, chosen].tobytes() == only.residual.tobytes()
            assert np.isnan(np.delete(residual, chosen, axis=1)).all()
            seen += len(rows)
        none = np.isnan(y).all(axis=1)
        assert seen == len(y) - none.sum() < len(y)
        assert found.state[none].tobytes() == x_b[none].tobytes()
        assert not found.status[none].any()
        assert not found.n_iter[none].any()
        assert not found.cost[none].any()


@pytest.mark.parametrize("name", ["xyz", "x2y2z2", "xy2z3"])
def test_every_level_and_numba_give_the_same_bits(name):
    operator, x_b, y, _, B, R = problem(name, n=1013, full=name == "xyz", each=True)
    form = (operator.components, operator.powers, 8, 20, 1e-9, True)
    job = AnalysisJob(x_b, y, B, R, *form)
    wanted = golden.digest(*load_kernels("numba").analyse(job, 1))
    for level in LEVELS:
        for n_threads in (1, 2):
            found = load_kernels("cpp", level=level).analyse(job, n_threads)
            assert golden.digest(*found) == wanted, level


@pytest.mark.parametrize("full", [False, True])
def test_the_cost_of_a_state_is_that_of_the_present_values(full):
    operator, x_b, y, _, B, R = problem("x2yz", n=500, full=full)
    given = {"B": B, "R": R, "missing": "nan"}
    found = three_d_var(x_b, y, operator, **given)
    cost = variational_cost(found.state, x_b, y, operator, **given)
    np.testing.assert_allclose(cost, found.cost, rtol=1e-9, atol=1e-12)
    none = np.isnan(y).all(axis=1)
    assert none.any()
    assert not variational_cost(x_b, x_b, y, operator, **given)[none].any()
    with pytest.raises(ArgumentValueError, match="observation: expected finite values"):
        variational_cost(x_b, x_b, y, operator, B=B, R=R)


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_a_full_r_is_inverted_for_the_present_block(backend):
    """Not the block of the inverse: the closed form, to 1e-12."""
    operator, x_b, y, whole, B, R = problem("xyz", n=2000, full=True)
    found = three_d_var(x_b, y, operator, B=B, R=R, missing="nan", backend=backend)
    for rows, chosen, _ in parts(operator, y):
        H = np.eye(3)[chosen]
        K = B @ H.T @ np.linalg.inv(H @ B @ H.T + R[np.ix_(chosen, chosen)])
        wanted = x_b[rows] + (whole[rows][:, chosen] - x_b[rows] @ H.T) @ K.T
        np.testing.assert_allclose(found.state[rows], wanted, rtol=1e-12, atol=1e-12)


def own(name):
    operator = ObservationOperator(name)
    return ObservationOperator.custom(
        operator, operator.jacobian, obs_dim=operator.obs_dim, name="mine"
    )


@pytest.mark.parametrize("operator", ["xyz", "x2y", own("xyz"), own("x2y")])
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_what_stands_below_a_gap_has_no_influence(operator, backend):
    name = operator if isinstance(operator, str) else "xyz"
    name = name if isinstance(operator, str) or operator.obs_dim == 3 else "x2y"
    _, x_b, y, _, B, R = problem(name, n=200, full=True)
    other = np.where(np.isnan(y), OTHER_NAN, y)
    assert other.tobytes() != y.tobytes()
    found = [
        three_d_var(x_b, values, operator, B=B, R=R, missing="nan", backend=backend)
        for values in (y, other)
    ]
    for field in ("state", "status", "n_iter", "cost", "residual"):
        one, two = (getattr(analysis, field) for analysis in found)
        assert one.tobytes() == two.tobytes(), field


@pytest.mark.parametrize("name", ["xyz", "x2y"])
def test_an_operator_of_your_own_takes_gaps(name):
    _, x_b, y, _, B, R = problem(name, n=300, full=True)
    found, wanted = (
        three_d_var(x_b, y, operator, B=B, R=R, missing="nan", tol=1e-9)
        for operator in (own(name), name)
    )
    done = (wanted.status == 0) & (found.status == 0)
    assert done.mean() > 0.95
    np.testing.assert_allclose(
        found.cost[done], wanted.cost[done], rtol=1e-6, atol=1e-9
    )
    none = np.isnan(y).all(axis=1)
    assert found.state[none].tobytes() == x_b[none].tobytes()
    assert not found.status[none].any()


@pytest.mark.parametrize("operator", ["x", "x2", own("x")])
def test_gaps_are_declared_and_infinity_never_is(operator):
    x_b, y = np.ones((3, 3)), np.array([[1.0], [np.nan], [2.0]])
    errors = {"B": np.eye(3), "R": np.eye(1)}
    with pytest.raises(ArgumentValueError, match=r"observation: .* \(1, 0\) \(nan\)"):
        three_d_var(x_b, y, operator, **errors)
    y[2] = np.inf
    with pytest.raises(ArgumentValueError, match=r"got 1 .* \(2, 0\) \(inf\)"):
        three_d_var(x_b, y, operator, missing="nan", **errors)
    with pytest.raises(ArgumentValueError, match="background"):
        three_d_var(np.full((3, 3), np.nan), x_b[:, :1], operator, **errors)
    with pytest.raises(ArgumentValueError, match="missing: expected one of"):
        three_d_var(x_b, y, operator, missing="drop", **errors)
