"""Scores and comparisons of the methods in each case, from the table of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import _checks
from l63fast._user_code import file_name
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.experiments.describe import observed
from l63fast.experiments.diagnostics import DIAGNOSTICS
from l63fast.experiments.protocols import DISTRIBUTION
from l63fast.experiments.published import published_columns
from l63fast.experiments.results import (
    CASE,
    FACTS,
    MEANS,
    METHOD_COLUMNS,
    SMOOTHED_MEANS,
    Result,
    Source,
    results_of,
)
from l63fast.experiments.settings import MEASURES, Measure
from l63fast.verification import Comparison, Repetitions

if TYPE_CHECKING:
    import pandas as pd
    import xarray

Rows = Sequence[Any]  # rows of one case in a table of scores, best first

# The scores of trainings that differ only in the seed differ by up to this share.
TRAINING_SCATTER: Final = 0.02
_POOLED: Final = MEASURES["rmse_pooled_a"]
_CRPS: Final = MEASURES["crps"]
_CELL: Final = (*CASE, "method")
_UNRANKED: Final = {"rank": None, "ties": (), "worst_rank": None}
_ONE_ROW: Final = (*CASE, "method", "seed", "training", "data", "trajectory")


def scores(
    results: pd.DataFrame,
    measure: str = "rmse_a",
    versus: str = "3dvar",
    *,
    n_bootstrap: int = 1000,
    seed: _checks.Seed = 0,
) -> pd.DataFrame:
    """Return score, interval, rank and paired ratios of each method in each case.

    Parameters
    ----------
    results : DataFrame
        As `open_results` gives it.
    measure : str
        "rmse_a", "rmse_pooled_a", "decibel", "rmse_s", "rmse_pooled_s", "crps" or
        "energy".
        Time mean of the instantaneous root mean square error (DAPPER's rmse.a), root of
        the mean square error over everything, or the latter in dB; mirror-aware where
        the observations cannot tell a state from its mirror image. Those that end with
        s are of smoothed states; CRPS and energy score are those of estimated
        distributions; methods without such are left out.
    versus : str
        Key of the method by which `ratio_to_3dvar` divides; NaN in cases without it.
    n_bootstrap : int
        Number of bootstrap resamples for the intervals.
    seed : int, SeedSequence or Generator
        Seed of the resampling.

    Returns
    -------
    DataFrame
        A row per case and method, best first: the columns of the case and the method,
        the means of `FACTS`, and

        - `score`, with its 95 % interval `low`, `high`; `rmse_a`, `rmse_pooled_a`,
          `rmse_s` (NaN without smoothed states);
        - `rank`: 1 for the best and its ties; missing for baselines, the optimum, and
          scores that rare losses make; `worst_rank`: the rank if such scores that are
          lower are better indeed; `wins`: True if better than all others;
        - `ties`: keys of the methods from which it is not distinguishable (the paired
          95 % interval of the difference contains 0; or two networks, one of them
          trained once, differ by less than `TRAINING_SCATTER`);
        - paired ratios, each with `_low` and `_high`: `ratio_to_best` (lowest score of
          rank 1), `ratio_to_3dvar`, and `ratio_to_optimum` (of CRPS, energy score and
          `rmse_pooled_s` if these are scored, else of `rmse_pooled_a`; to the best
          optimum);
        - of estimated distributions `crps`, `energy`, `log_score`, `covered_50` and
          `covered_90`, each with `_low` and `_high`, and `crps_to_optimum`, paired;
        - `rare_losses`, `median`, `lost` (share of lost trajectories, with `_low` and
          `_high`); `n_data`, `n_trainings` (0 without training), `n_trajectories`.

        An optimum that a method beats has the role "not settled", and no ratio to it is
        given.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the measure is unknown, no method has the key `versus` (only the default may
        be missing), or the results lack a column or have a row twice.
    """
    import pandas as pd

    if not isinstance(results, pd.DataFrame):
        raise ArgumentTypeError(
            "results: expected the table of open_results(...), got "
            f"{type(results).__name__}"
        )
    columns = dict.fromkeys((*_ONE_ROW, *METHOD_COLUMNS, *MEANS, *FACTS))
    missing = [column for column in columns if column not in results]
    if missing or results.empty:
        raise ArgumentValueError(
            "results: expected a table as open_results gives it, got one without "
            f"{', '.join(missing) or 'rows'}"
        )
    if results.duplicated(list(_ONE_ROW)).any():
        raise ArgumentValueError(
            "results: expected each trajectory of a method, seed and training once, "
            "got some twice"
        )
    if versus != "3dvar":
        _checks.choice("versus", versus, dict.fromkeys(results["method"]))
    chosen = MEASURES[_checks.choice("measure", measure, MEASURES)]
    bootstrap = {"n_bootstrap": _checks.count("n_bootstrap", n_bootstrap, minimum=1)}
    bootstrap["seed"] = _checks.seed("seed", seed)
    absent = [name for name in SMOOTHED_MEANS if name not in results]
    results = results.assign(**dict.fromkeys(absent, math.nan))
    if chosen.column in (*DISTRIBUTION, *SMOOTHED_MEANS):
        known = results[chosen.column].notna().groupby([results[c] for c in _CELL])
        results = results[known.transform("any")]
        if results.empty:
            smoothed = chosen.column in SMOOTHED_MEANS
            expected = "smoothed states" if smoothed else "an estimated distribution"
            raise ArgumentValueError(
                f"measure: expected {expected} for {chosen.name!r}, got results of "
                "methods without"
            )
    rows = []
    for case, group in results.groupby(list(CASE), sort=False):
        given = dict(zip(CASE, case, strict=True))
        rows += [given | row for row in _Case(group, chosen, bootstrap).rows(versus)]
    return pd.DataFrame(rows).astype(dict.fromkeys(("rank", "worst_rank"), "Int64"))


class _Case:
    """The time means of the methods of one case, and their comparisons."""

    def __init__(
        self, results: pd.DataFrame, measure: Measure, bootstrap: Mapping[str, int]
    ) -> None:
        self.measure, self.bootstrap = measure, bootstrap
        self.blind = bool(results["mirror_aware"].iloc[0])
        self.methods = dict(iter(results.groupby("method", sort=False)))
        self.role = {key: m["role"].iloc[0] for key, m in self.methods.items()}
        self.start = {key: str(m["start"].iloc[0]) for key, m in self.methods.items()}
        self.known = [name for name in DISTRIBUTION if name in results]
        self.pooled = _POOLED
        if measure.column in SMOOTHED_MEANS:
            self.pooled = MEASURES["rmse_pooled_s"]
        if measure.column in DISTRIBUTION:
            self.pooled = measure
        means = [*MEANS, *SMOOTHED_MEANS, *self.known]
        # Time means by method and data: a row per training, a column per trajectory.
        self.blocks = {
            key: {
                data: rows.pivot(index="training", columns="trajectory", values=means)
                for data, rows in method.groupby("data")
            }
            for key, method in self.methods.items()
        }
        self._shapes = {
            key: tuple((d, len(b), tuple(b["rmse_a"])) for d, b in blocks.items())
            for key, blocks in self.blocks.items()
        }
        self._resampled: dict[Any, Repetitions | None] = {}
        self.n_trainings = {
            key: sum(map(len, self.blocks[key].values())) * (m["training"].min() >= 0)
            for key, m in self.methods.items()
        }

    def repetitions(self, keys: list[str], measure: Measure) -> Repetitions | None:
        """Return the resampled scores of methods on their common trajectories.

        None if they have no data in common. Methods with the same trajectories and
        trainings have the same resamples, so that all of these are computed together
        and cached; the result may then contain more methods.
        """
        shapes = {self._shapes[key] for key in keys}
        if len(shapes) == 1:
            keys = [key for key, shape in self._shapes.items() if shape in shapes]
        asked = (tuple(keys), measure)
        if asked not in self._resampled:
            self._resampled[asked] = self._common(keys, measure)
        return self._resampled[asked]

    def _common(self, keys: list[str], measure: Measure) -> Repetitions | None:
        """Return the resampled scores of methods on their common trajectories.

        Of methods that were trained several times, but not equally often, only the
        first trainings are used.
        """
        blocks = {key: self.blocks[key] for key in keys}
        data = sorted(set.intersection(*map(set, blocks.values())))
        tried = {
            d: sorted(set.intersection(*(set(b[d]["rmse_a"]) for b in blocks.values())))
            for d in data
        }
        n = min(map(len, tried.values()), default=0)
        if n == 0:
            return None
        trained = {key: min(len(b[d]) for d in data) for key, b in blocks.items()}
        most = min((number for number in trained.values() if number > 1), default=1)

        def means(column: str) -> dict[str, np.ndarray]:
            mirrored = self.blind and column in MEANS
            name, by_method = f"mirror_{column}" if mirrored else column, {}
            for key, block in blocks.items():
                tables = (block[d][name][tried[d][:n]].to_numpy(float) for d in data)
                kept = min(trained[key], most)
                by_method[key] = np.stack([table[:kept] for table in tables])
            return by_method

        return Repetitions.of(
            means(measure.column),
            measure=measure.kind,
            rmse_means=means("rmse_a"),
            **self.bootstrap,
        )

    def _alone(self, key: str, measure: Measure) -> tuple[Repetitions, float]:
        """Return resampled scores that contain a method, and the method's score."""
        resampled = self.repetitions([key], measure)
        assert resampled is not None
        return resampled, float(resampled.scores[resampled.names.index(key)])

    def compared(self, a: str, b: str | None, measure: Measure) -> Comparison | None:
        """Return the paired comparison of two methods; None if there is none."""
        if b is None or b == a or b not in self.methods:
            return None
        both = self.repetitions([a, b], measure)
        return None if both is None else both.compare(a, b)

    def rows(self, versus: str) -> list[dict[str, Any]]:
        """Return the row of each method, best first, non-finite scores last."""
        optima = self._sorted("optimum", self.pooled)
        optimum = optima[0] if optima else None  # the lowest score of several
        if optimum is not None and self._is_beaten(optimum):
            self.role |= dict.fromkeys(optima, "not settled")
            optimum = None
        competing = self._sorted("method", self.measure)
        ranks = self._ranks(competing)
        best = next((k for k in competing if ranks[k]["rank"] == 1), None)
        # A method without a rank may be the best: then no method wins.
        sure = best is not None and best == competing[0] and not ranks[best]["ties"]
        # One whose score is not finite is beaten nevertheless.
        sure &= sum(role == "method" for role in self.role.values()) > 1
        rows = []
        for key, method in self.methods.items():
            row = method[list(METHOD_COLUMNS)].iloc[0].to_dict()
            row |= {"role": self.role[key], "mirror_aware": self.blind}
            if row["role"] == "not settled":
                row["label"] = "not settled"
            row |= self._score(key) | ranks.get(key, _UNRANKED)
            row["wins"] = sure and key == best
            bound = optimum if self._is_bounded(key, optimum) else None
            for name, other, measure in (
                ("ratio_to_best", best, self.measure),
                ("ratio_to_3dvar", versus, self.measure),
                ("ratio_to_optimum", bound, self.pooled),
            ):
                row |= _ratio(name, self.compared(key, other, measure))
            row |= self._distribution(key, bound)
            row |= method[list(FACTS)].drop_duplicates().mean().to_dict()
            rows.append(row)
        return sorted(rows, key=lambda row: np.nan_to_num(row["score"], nan=np.inf))

    def _score(self, key: str) -> dict[str, Any]:
        score = self._alone(key, self.measure)[0].score(key)
        if self.role[key] == "baseline":  # losses are defined by climatology
            nan = (math.nan, math.nan)
            score = replace(score, lost=math.nan, lost_ci95=nan, rare_losses=False)
        value, blocks = self.measure.value, self.blocks[key].values()
        return {
            "score": value(score.value),
            "low": value(score.ci95[0]),
            "high": value(score.ci95[1]),
            "rmse_a": self._alone(key, MEASURES["rmse_a"])[1],
            "rmse_pooled_a": self._alone(key, _POOLED)[1],
            "rmse_s": self._smoothed(key),
            "rare_losses": score.rare_losses,
            "median": value(score.median),
            "lost": score.lost,
            "lost_low": score.lost_ci95[0],
            "lost_high": score.lost_ci95[1],
            "n_data": len(blocks),
            "n_trainings": self.n_trainings[key],
            "n_trajectories": sum(len(tuple(b["rmse_a"])) for b in blocks),
        }

    def _distribution(self, key: str, optimum: str | None) -> dict[str, Any]:
        """Return the scores of a method's estimated distribution; NaN without one."""
        row: dict[str, Any] = {}
        for name in DISTRIBUTION:
            values, ends = math.nan, (math.nan, math.nan)
            if name in self.known and self.methods[key][name].notna().any():
                score = self._alone(key, Measure(name, name, "rmse_a"))[0].score(key)
                values, ends = score.value, score.ci95
            row |= {name: values, f"{name}_low": ends[0], f"{name}_high": ends[1]}
        known = math.isfinite(row["crps"])
        of_both = self.compared(key, optimum, _CRPS) if known else None
        return row | _ratio("crps_to_optimum", of_both)

    def _smoothed(self, key: str) -> float:
        """Return the rmse_s of a method, NaN without smoothed states."""
        if self.methods[key]["rmse_s"].isna().all():
            return math.nan
        return self._alone(key, MEASURES["rmse_s"])[1]

    def _sorted(self, role: str, measure: Measure) -> list[str]:
        """Return the keys of a role's methods with a finite score, best first."""
        keys = (key for key, its in self.role.items() if its == role)
        values = {key: self._alone(key, measure)[1] for key in keys}
        able = [key for key, value in values.items() if math.isfinite(value)]
        return sorted(able, key=values.__getitem__)

    def _ranks(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        together = self.repetitions(keys, self.measure) if keys else None
        if together is None:
            return dict.fromkeys(keys, _UNRANKED)
        ranks = together.standings(tuple(keys), tie=self._is_scatter)
        return {
            key: {"rank": r.rank, "ties": r.ties, "worst_rank": r.worst}
            for key, r in ranks.items()
        }

    def _is_scatter(self, a: str, b: str, comparison: Comparison) -> bool:
        """Whether two networks differ less than two trainings of the same network."""
        numbers = (self.n_trainings[a], self.n_trainings[b])
        return min(numbers) == 1 and abs(comparison.ratio - 1.0) < TRAINING_SCATTER

    def _is_bounded(self, key: str, optimum: str | None) -> bool:
        """Whether the optimum bounds a method: both have the same background."""
        return optimum is not None and self.start[key] == self.start[optimum]

    def _is_beaten(self, optimum: str) -> bool:
        """Whether the score of a method is certainly lower than that of the optimum."""
        able = (key for key, role in self.role.items() if role == "method")
        bounded = (key for key in able if self._is_bounded(key, optimum))
        comparisons = (self.compared(key, optimum, self.pooled) for key in bounded)
        return any(c is not None and c.ratio_ci95[1] < 1.0 for c in comparisons)


def _ratio(name: str, pair: Comparison | None) -> dict[str, float]:
    ratio, low, high = (pair.ratio, *pair.ratio_ci95) if pair else [math.nan] * 3
    return {name: ratio, f"{name}_low": low, f"{name}_high": high}


class Summary:
    """The results and scores of an experiment, from which tables and figures are made.

    Attributes
    ----------
    source : Source
    measure : Measure
        The score by which methods are ranked.
    is_tuning : bool
        Whether methods were only tuned.
    """

    def __init__(self, source: Source) -> None:
        settings = source.results[0].settings
        self.source = source
        self.measure = MEASURES[settings.measure]
        self.is_tuning = settings.tune_only
        self._diagnostics: dict[str, xarray.Dataset] = {}

    @cached_property
    def results(self) -> pd.DataFrame:
        """The table of `open_results`."""
        return results_of(self.source.results)

    @cached_property
    def board(self) -> pd.DataFrame:
        """The table of `scores`, with columns for published scores.

        Methods of a case with the same label have their keys added to it.
        """
        import pandas as pd

        options = asdict(self.source.results[0].settings.scores)
        board = scores(self.results, self.measure.name, **options)
        cells = (self.cell(row).settings for row in board.itertuples())
        beside = map(published_columns, cells, board.itertuples())
        keyed = board["label"] + " [" + board["method"] + "]"
        twice = board.duplicated([*CASE, "label"], keep=False)
        labels = board["label"].mask(twice, keyed)
        board = board.assign(in_decibel=self.measure.in_decibel, label=labels)
        return board.join(pd.DataFrame(beside))

    @cached_property
    def cases(self) -> list[Rows]:
        """The rows of each case, best first; a `rank` is an int or None."""
        ranks = self.board["rank"].astype(object)
        board = self.board.assign(rank=ranks.where(ranks.notna(), None))
        return [
            list(rows.itertuples(index=False))
            for _, rows in board.groupby(list(CASE), sort=False)
        ]

    @property
    def rows(self) -> Rows:
        """The rows of all cases."""
        return [row for rows in self.cases for row in rows]

    @cached_property
    def featured(self) -> list[Rows]:
        """The cases whose states are shown: for each operator the middle one."""
        by_operator: dict[str, list[Rows]] = {}
        for rows in self.cases:
            by_operator.setdefault(rows[0].operator, []).append(rows)
        return [cases[len(cases) // 2] for cases in by_operator.values()]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind of each method by label; it decides the colour in all figures."""
        methods = {row.label: self.cell(row).settings.method for row in self.rows}
        return {k: str(getattr(m, "model", m.scheme)) for k, m in methods.items()}

    def suffix(self, rows: Rows) -> str:
        """Return the suffix of a featured case in file names; empty for one case."""
        return f"_{file_name(rows[0].operator)}" if len(self.featured) > 1 else ""

    def cell(self, row: Any) -> Result:
        """Return the cell, of the first seed, that a row was made from."""
        return self.source.cells[row.cell]

    def diagnostics(self, row: Any) -> xarray.Dataset:
        """Return the diagnostics of a row, of the first seed, in double precision."""
        if row.cell not in self._diagnostics:
            data = self.cell(row).dataset(DIAGNOSTICS)
            self._diagnostics[row.cell] = data.astype(float)
        return self._diagnostics[row.cell]


def best_of(rows: Rows) -> Any:
    """Return the row of the method with the lowest score; None if none is finite."""
    able = (r for r in rows if r.role == "method" and math.isfinite(r.score))
    return next(able, None)


def case_title(row: Any) -> str:
    """Return the title of a case: operator, sigma, interval and gaps."""
    more = f", {100.0 * row.missing:.4g} % missing" if row.missing else ""
    more += f", {row.case}" if row.case else ""
    return (
        f"{observed(row.operator)} observed with σ = {row.sigma:.3g} every "
        f"{row.interval:g} time units{more}"
    )
