"""How often the intervals of scores hold the true one, where it is known.

    python tests/helpers/interval_coverage.py

prints the tables of docs/explanation/intervals.md.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from l63fast.verification.bootstrap import Resampled, resample

SIZES: Final = (20, 50, 200)
N_SAMPLES: Final = 4000
WORSE: Final = 1.2  # mean of the second of two methods
INTERVALS: Final = ("percentile", "widened", "BCa")
SCORES: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "rmse_a": lambda mean: mean,
    "rmse_pooled_a": np.sqrt,
}
CONTRASTS: Final[dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "difference, rmse_a": lambda a, b: a - b,
    "difference, rmse_pooled_a": lambda a, b: np.sqrt(a) - np.sqrt(b),
    "ratio, rmse_a": lambda a, b: a / b,
    "ratio, rmse_pooled_a": lambda a, b: np.sqrt(a / b),
}
# Widths of log x for skewness 1 and 2 of a lognormal x: its skewness is
# (exp s^2 + 2) (exp s^2 - 1)^(1/2).
_WIDTH: Final = {1: 0.3142, 2: 0.5513}

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return draws of mean 1 and standard deviation 0.2."""
    return 1.0 + 0.2 * rng.standard_normal(shape)


def lognormal(
    rng: np.random.Generator, shape: tuple[int, int], *, skewness: int
) -> np.ndarray:
    """Return draws of mean 1."""
    width = _WIDTH[skewness]
    return np.exp(width * rng.standard_normal(shape) - width**2 / 2.0)


def gamma(
    rng: np.random.Generator, shape: tuple[int, int], *, skewness: float
) -> np.ndarray:
    """Return draws of mean 1."""
    k = 4.0 / skewness**2
    return rng.gamma(k, 1.0 / k, shape)


DISTRIBUTIONS: Final[dict[str, Draw]] = {
    "normal": normal,
    "lognormal, skewness 1": partial(lognormal, skewness=1),
    "gamma, skewness 1": partial(gamma, skewness=1),
    "lognormal, skewness 2": partial(lognormal, skewness=2),
    "gamma, skewness 2": partial(gamma, skewness=2),
}


def correlated(
    rng: np.random.Generator, shape: tuple[int, int], draw: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return two methods of means 1 and 1.2 that find the same trajectories hard.

    Normal and lognormal ones have correlation 0.8 of the normals that they are made of.
    Gammas are sums of a common part, of 0.7 of the mean, and of one of their own, so
    that their skewness is that of the name; "mixed" is a normal one and a lognormal one
    of skewness 2, not correlated.
    """
    a, b = _equally_good(rng, shape, draw)
    return a, WORSE * b


def _equally_good(
    rng: np.random.Generator, shape: tuple[int, int], draw: str
) -> tuple[np.ndarray, np.ndarray]:
    kind, _, skewness = draw.partition(", skewness ")
    if kind == "mixed":
        return normal(rng, shape), lognormal(rng, shape, skewness=2)
    if kind == "gamma":
        k = 4.0 / int(skewness) ** 2
        common = rng.gamma(0.7 * k, 1.0 / k, shape)
        a, b = (common + rng.gamma(0.3 * k, 1.0 / k, shape) for _ in range(2))
        return a, b
    common = np.sqrt(0.8) * rng.standard_normal(shape)
    a, b = (common + np.sqrt(0.2) * rng.standard_normal(shape) for _ in range(2))
    if kind == "normal":
        return 1.0 + 0.2 * a, 1.0 + 0.2 * b
    width = _WIDTH[int(skewness)]
    return np.exp(width * a - width**2 / 2.0), np.exp(width * b - width**2 / 2.0)


PAIRS: Final = (*DISTRIBUTIONS, "mixed")


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals that hold the true score, for n trajectories."""

    case: str
    n: int
    shares: dict[str, float]


def of_scores(
    cases: Iterable[str], sizes: Iterable[int], n_samples: int, n_bootstrap: int = 1000
) -> Iterator[Coverage]:
    """Yield the coverage of scores, of which the interval is "BCa"."""
    for case, n in itertools.product(cases, sizes):
        rng = np.random.default_rng(0)
        means = DISTRIBUTIONS[case](rng, (n, n_samples))
        resampled = resample(means, n_bootstrap, seed=0)
        for name, score in SCORES.items():
            yield _coverage(f"{case}: {name}", n, resampled.apply(score), 1.0)


def of_contrasts(
    cases: Iterable[str], sizes: Iterable[int], n_samples: int, n_bootstrap: int = 1000
) -> Iterator[Coverage]:
    """Yield the coverage of contrasts, of which the interval is "widened"."""
    for case, n in itertools.product(cases, sizes):
        rng = np.random.default_rng(0)
        means = np.hstack(correlated(rng, (n, n_samples), case))
        resampled = resample(means, n_bootstrap, seed=0)
        for name, contrast in CONTRASTS.items():
            found = resampled.apply(partial(_halves, contrast))
            truth = float(contrast(np.float64(1.0), np.float64(WORSE)))
            yield _coverage(f"{case}: {name}", n, found, truth)


def _halves(contrast: Callable[..., np.ndarray], columns: np.ndarray) -> np.ndarray:
    return contrast(*np.split(columns, 2, axis=-1))


def _coverage(case: str, n: int, found: Resampled, truth: float) -> Coverage:
    columns = range(len(found.measured))
    ends = {
        "percentile": np.percentile(found.resampled, (2.5, 97.5), axis=0),
        "widened": np.transpose([found.interval(i, paired=True) for i in columns]),
        "BCa": np.transpose([found.interval(i) for i in columns]),
    }
    return Coverage(
        case,
        n,
        {
            name: float(((low <= truth) & (truth <= high)).mean())
            for name, (low, high) in ends.items()
        },
    )


def table(rows: Iterable[Coverage]) -> str:
    """Return coverages in per cent as a Markdown table, one line per case."""
    by_case: dict[str, dict[int, Coverage]] = {}
    for row in rows:
        by_case.setdefault(row.case, {})[row.n] = row
    heads = [f"n = {n}, {name}" for n in SIZES for name in INTERVALS]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for case, of in by_case.items():
        shares = [of[n].shares[name] for n in SIZES for name in INTERVALS]
        lines.append(f"| {case} | {' | '.join(f'{100 * s:.1f}' for s in shares)} |")
    return "\n".join(lines)


def at_the_bound(n_samples: int) -> Iterator[Coverage]:
    """Yield the coverage of scores of squares that are as skewed as is not marked."""
    for n in (50, 200, 500):
        rng, skewness = np.random.default_rng(0), 2.0 * np.sqrt(n / 50)
        resampled = resample(gamma(rng, (n, n_samples), skewness=skewness), 1000, 0)
        yield _coverage(
            "rmse_pooled_a", n, resampled.apply(SCORES["rmse_pooled_a"]), 1.0
        )


if __name__ == "__main__" and sys.argv[1:] == ["bound"]:
    for row in at_the_bound(1000):
        print(row.n, f"{100.0 * row.shares['BCa']:.1f}")
elif __name__ == "__main__":
    print(table(of_scores(DISTRIBUTIONS, SIZES, N_SAMPLES)), "\n")
    print(table(of_contrasts(PAIRS, SIZES, N_SAMPLES)))
