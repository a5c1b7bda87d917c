"""Results of finished cells: reading of their folders, and one tidy table of all."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from l63fast import _checks, storage
from l63fast.errors import (
    DataFileError,
    L63Error,
    MissingPackageError,
    ResultError,
    all_printable,
    printable,
)
from l63fast.experiments.describe import describe_outcome
from l63fast.experiments.methods import HISTORY, TrainedEncoder
from l63fast.experiments.protocols import DISTRIBUTION
from l63fast.experiments.settings import REPORT, RESERVED_NAMES, Cell
from l63fast.experiments.settings_file import parse_tables
from l63fast.observation import as_operator

if TYPE_CHECKING:
    import pandas as pd
    import xarray

    from l63fast.experiments.protocols import Estimates

CONFIG: Final = "config.toml"
METRICS: Final = "metrics.json"
RESULTS: Final = "results.csv"
TIMING: Final = "timing.json"
ESTIMATES: Final = "estimates.nc"
_READ: Final = (CONFIG, METRICS, TIMING, RESULTS, HISTORY)
# Where and when a cell ran: keys of `timing.json`, for the provenance in a report.
PROVENANCE: Final = ("python", "backend", "machine", "platform", "started")

# Columns that identify a case: methods are compared within one case.
CASE: Final = ("operator", "sigma", "interval", "missing", "case")
# Columns that describe a method.
METHOD_COLUMNS: Final = (
    *("method", "label", "role", "scheme", "cell", "parameter", "start"),
    "mirror_aware",
)
# Time means of one trajectory, of the error of the analysis: of the instantaneous root
# mean square error over x, y, z, and of its square. In the mirror-aware ones the error
# is that of the analysis or of its mirror image, whichever is nearer to the truth.
MEANS: Final = ("rmse_a", "mse_a", "mirror_rmse_a", "mirror_mse_a")
# The same of the background, and the scores of the estimated distributions.
MORE_MEANS: Final = (*(name.removesuffix("a") + "f" for name in MEANS), *DISTRIBUTION)
# The same of smoothed states; NaN without them.
SMOOTHED_MEANS: Final = tuple(name.removesuffix("a") + "s" for name in MEANS)
# Errors of parameters that a method has estimated, in its rows: the root of the mean
# square over all times; the last error; half the width of its 90 % interval.
PARAMETERS: Final = tuple(
    f"{what}_{name}"
    for what in ("rmse", "last", "half_width")
    for name in ("sigma", "rho", "beta")
)
# Numbers of a whole cell, the same in each of its rows; NaN where they do not exist.
TIMES: Final = (
    *("seconds_per_cycle", "seconds_per_analysis", "training_seconds", "resumed"),
)
FACTS: Final = (
    *("p95", "sign_flips", "diverged", "truth_lost", "spread_ratio"),
    *("innovation_ratio", "innovation_low", "innovation_high", "effective_size"),
    *("cost_ratio", "tuned", "settled", "lag", *TIMES),
)


@dataclass(frozen=True)
class Result:
    """The content of a result folder, which is verified when it is opened.

    Attributes
    ----------
    directory : Path
    manifest : storage.Manifest
    settings : Cell
    metrics, timing : dict
        The contents of `metrics.json` and `timing.json`.
    tables : dict of bytes
        The contents of all files that are read at once, by name.
    """

    directory: Path
    manifest: storage.Manifest
    settings: Cell
    metrics: Mapping[str, Any]
    timing: Mapping[str, Any]
    tables: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Result:
        """Return the result in a folder.

        Raises
        ------
        DataFileError
            If the folder is missing or damaged, or holds no result of this version.
        """
        directory = _checks.path("result_dir", path)
        manifest, files = storage.read_directory(directory, *_READ)
        for name in (CONFIG, METRICS, TIMING):
            if name not in files:
                raise DataFileError(
                    f"{directory}: expected the result of a cell, got a folder "
                    f"without {name}"
                )
        with storage.content_errors(directory):
            return cls._of(directory, manifest, files)

    @classmethod
    def _of(
        cls, directory: Path, manifest: storage.Manifest, files: Mapping[str, bytes]
    ) -> Result:
        """Return the result after a check that tables can be made from its files."""
        tables, metrics, earlier = _described(directory, files)
        if earlier:
            raise DataFileError(
                f"{directory}: expected a result of this version, got one of l63fast "
                f"{earlier}, which has another form: run `l63fast experiment` or "
                "`l63fast train` again, into another folder or with --overwrite"
            )
        with storage.content_errors(directory / CONFIG):
            settings = Cell.from_tables(tables, source=str(directory / CONFIG))
        timing = all_printable(json.loads(files[TIMING]))
        result = cls(directory, manifest, settings, metrics, timing, files)
        # Everything that tables and reports read: wrong content must fail here, not in
        # the middle of a report.
        _ = describe_outcome(metrics), str(metrics["versions"]["l63fast"])
        _ = [str(timing[name]) for name in ("data", *PROVENANCE)], result.history
        if settings.tune_only:
            tuned_numbers([result])
            return result
        columns_of(result)
        expected = metrics["n_trajectories"]
        got = len(result.trajectories[["trajectory", *MEANS, *MORE_MEANS]])
        if got != expected:
            raise DataFileError(
                f"{directory}: expected {expected} rows in {RESULTS}, got {got}"
            )
        return result

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """The rows of `history.csv`, one per epoch; empty without a training."""
        if HISTORY not in self.tables:
            return []
        rows: list[dict[str, float]] = self._table(HISTORY).to_dict("records")
        return rows

    @cached_property
    def trajectories(self) -> pd.DataFrame:
        """The rows of `results.csv`, one per test trajectory."""
        table = self._table(RESULTS)
        # Earlier results have only the CRPS of a distribution, and no smoothed states.
        optional = (*DISTRIBUTION, *SMOOTHED_MEANS)
        return table.reindex(columns=[*dict.fromkeys((*table, *optional))])

    @cached_property
    def estimates(self) -> xarray.Dataset:
        """Truth, observations and states of the test split.

        Raises
        ------
        DataFileError
            If the states were not written, or are damaged.
        """
        if ESTIMATES not in self.manifest.files:
            raise DataFileError(
                f"{self.directory}: expected the states of the test split in "
                f"{ESTIMATES}, got none: run it again with --keep_states (in Python "
                "keep_states=True)"
            )
        return self.dataset(ESTIMATES)

    def dataset(self, name: str) -> xarray.Dataset:
        """Return one of the netCDF files of the result.

        Raises
        ------
        DataFileError
            If the file is damaged, or the result was replaced since it was opened.
        """

        def read() -> xarray.Dataset:
            storage.verify_file(self.directory, name, self.manifest)
            return storage.read_dataset(self.directory / name)

        return storage.read_unchanged(self.directory, read, self.manifest)

    def _table(self, name: str) -> pd.DataFrame:
        """Return a CSV file as a table; its first column has integers."""
        import pandas as pd

        content = io.BytesIO(self.tables[name])
        # Converted by Python's float: before version 3.1 pandas rounds the last digit.
        table = pd.read_csv(content, dtype=object).astype(float)
        return table.astype({table.columns[0]: int})


def earlier_version(directory: Path) -> str:
    """Return the version that made a result of an old form; empty for a current one.

    Raises
    ------
    DataFileError
        If the folder has no result that can be read.
    """
    files = {name: storage.read_bytes(directory, name) for name in (CONFIG, METRICS)}
    return _described(directory, files)[2]


def _described(
    directory: Path, files: Mapping[str, bytes]
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return `config.toml`, `metrics.json`, and the version if their form is old."""
    with storage.content_errors(f"{directory}: {CONFIG} or {METRICS}"):
        _checks.file_name("name", directory.resolve().name)
        tables = all_printable(parse_tables(files[CONFIG].decode()))
        metrics = all_printable(json.loads(files[METRICS]))
        known = "cell" in tables and "role" in metrics
        maker = metrics.get("versions", {}).get("l63fast", "of an earlier version")
        return tables, metrics, "" if known else str(maker)


@dataclass(frozen=True)
class Source:
    """The results in the folder of an experiment.

    Attributes
    ----------
    folder : Path
    results : list of Result
        The cells that could be read and verified.
    left_out : dict of str
        The reason why a cell is missing, by the name of the cell.
    """

    folder: Path
    results: list[Result]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: str | Path, failures: Mapping[str, str] | None = None
    ) -> Source:
        """Return the experiment in a folder.

        Parameters
        ----------
        path : path
        failures : dict of str, optional
            Reasons of cells that are known to have failed, by name.

        Raises
        ------
        DataFileError
            If it is not the folder of an experiment, or no cell in it can be read.
        """
        folder = _checks.path("results", path)
        there = folder.iterdir() if folder.is_dir() else ()
        cells = sorted(path for path in there if _is_cell(path))
        if not cells:
            raise DataFileError(
                f"{folder}: expected the folder of an experiment, got {_kind(folder)}"
            )
        results, left_out = [], dict(failures or {})
        for cell in cells:
            try:
                results.append(Result.open(cell))
            except MissingPackageError:
                raise
            except L63Error as error:
                left_out[printable(cell.name)] = " ".join(str(error).split())
        if not results:
            why = "; ".join(left_out.values())
            raise DataFileError(f"{folder}: no cell can be read: {why}")
        return cls(folder, sorted(results, key=_place), left_out)

    @classmethod
    def of(cls, results: Sequence[Result]) -> Source:
        """Return the experiment of results that are open already."""
        return cls(results[0].directory.parent, sorted(results, key=_place))

    @property
    def name(self) -> str:
        """Name of the experiment, which is that of the folder."""
        return printable(self.folder.resolve().name)

    @cached_property
    def cells(self) -> dict[str, Result]:
        """The results by the names of their folders."""
        return {result.directory.name: result for result in self.results}


def _is_cell(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in RESERVED_NAMES
    marks = (storage.MANIFEST, CONFIG)
    return not hidden and path.is_dir() and any((path / n).exists() for n in marks)


def _kind(folder: Path) -> str:
    """Return what a path has instead of an experiment, and a hint where one is."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "nothing"
    if (folder / CONFIG).exists():
        return f"the folder of a cell; the experiment is {folder.parent}"
    inner = sorted(p.name for p in folder.iterdir() if (p / REPORT).is_dir())
    hint = f"; choose one of {', '.join(inner)} in it" if inner else ""
    return f"one without cells{hint}"


def _place(result: Result) -> tuple[Any, ...]:
    """Return the sort key of a result: operator, interval, missing, sigma, name."""
    data, name = result.settings.data, result.directory.name
    given = (len(data.operator_name), data.operator_name, data.steps_per_cycle)
    return (*given, data.missing, data.sigma, name)


def trajectory_table(cell: Cell, estimates: Estimates) -> pd.DataFrame:
    """Return the table `results.csv` of a cell: time means, a row per trajectory."""
    import pandas as pd

    blind = as_operator(cell.data.operator).is_mirror_blind
    columns = estimates.trajectory_columns(blind=blind)
    return pd.DataFrame(columns).rename_axis("trajectory").reset_index()


def open_results(folder: str | Path) -> pd.DataFrame:
    """Return the error of every method on every test trajectory of an experiment.

    The files are verified with their manifests. The user's own models and operators are
    not imported.

    Parameters
    ----------
    folder : path
        Folder of an experiment.

    Returns
    -------
    DataFrame
        A row per case, method, seed, training and trajectory. The columns: `CASE`;
        `method` (key in the experiment), `label` (name in tables), `role` ("method",
        "baseline" or "optimum"), `scheme`; `cell` (folder); `parameter` (the tuned
        one); `start` (in windows: "first" or "last", the observation at whose time the
        background is given); `mirror_aware` (True if the observations do not show the
        sign of x and y); `seed` of the data, `training` (its seed; -1 without
        training), `data` (hash of the test split), `trajectory`; the time means `MEANS`
        of the analyses, `MORE_MEANS` and `SMOOTHED_MEANS`; `PARAMETERS`, if a method
        has estimated them; `FACTS`. If methods were only tuned: a row per cell with
        `parameter`, the best value `tuned`, its `score` on the validation split, the
        `lowest` and `highest` value tried, `diverged` (number of values
        without a finite score), and `is_bracketed` (the best value is not at an end).

    Raises
    ------
    DataFileError
        If it is not the folder of an experiment, or no cell in it can be read.
    ResultError
        If cells of one case and seed have different data.
    """
    return results_of(Source.open(folder).results)


def results_of(results: Sequence[Result]) -> pd.DataFrame:
    """Return the table of `open_results` for results that are open already."""
    if results[0].settings.tune_only:
        frame = tuned_numbers(results)
    else:
        frame = joined([r.trajectories.assign(**columns_of(r)) for r in results])
    # `report` reads the other files there.
    frame.attrs["folder"] = str(results[0].directory.parent)
    return frame


def tuned_numbers(results: Sequence[Result]) -> pd.DataFrame:
    """Return the table of `open_results` for methods that were only tuned."""
    import pandas as pd

    rows = []
    for result in results:
        tuning, number = result.metrics["tuning"], result.metrics["parameter"]
        row = {
            "parameter": number["name"],
            "tuned": float(number["value"]),
            "score": float(tuning["score"]),
            "lowest": min(map(float, tuning["scales"])),
            "highest": max(map(float, tuning["scales"])),
            "diverged": sum(math.isnan(float(score)) for score in tuning["scores"]),
            "is_bracketed": tuning["is_bracketed"],
        }
        rows.append(_identity(result) | row)
    return pd.DataFrame(rows)


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one table made of the tables of all cells.

    Raises
    ------
    ResultError
        If cells of one case and seed have different data.
    """
    import pandas as pd

    frame = pd.concat(tables, ignore_index=True)
    first = [*CASE, *METHOD_COLUMNS, "seed", "training", "data", "trajectory"]
    estimated = [name for name in PARAMETERS if name in frame]
    frame = frame.reindex(
        columns=[*first, *MEANS, *MORE_MEANS, *SMOOTHED_MEANS, *estimated, *FACTS]
    )
    for (*_, seed), rows in frame.groupby([*CASE, "seed"], sort=False):
        cells = rows.drop_duplicates("data")["cell"].tolist()
        if len(cells) > 1:
            raise ResultError(
                f"{' and '.join(cells)}: expected the same data for seed {seed}, got "
                "different data, which cannot be compared"
            )
    return frame


def columns_of(result: Result) -> dict[str, Any]:
    """Return the columns whose values all rows of a cell share."""
    method, metrics = result.settings.method, result.metrics
    seconds = result.timing.get("seconds", {})
    facts = facts_of(metrics, seconds, method.role)
    facts["lag"] = getattr(result.settings.protocol, "lag", 0) or None
    training = -1
    if isinstance(method, TrainedEncoder):
        training = method.training.seed
        facts["training_seconds"] = seconds.get("fit")
        facts["resumed"] = seconds.get("fit_resumed")
    parameter = ""
    if metrics["tuning"] or (metrics["convergence"] and metrics["parameter"]):
        parameter = metrics["parameter"]["name"]
        facts["tuned"] = metrics["parameter"]["value"]
    return {
        **_identity(result),
        "parameter": parameter,
        "start": metrics["start"],
        "training": training,
        "data": str(metrics["data"].get("test")),
        **numbers(facts),
    }


def _identity(result: Result) -> dict[str, Any]:
    """Return the columns that identify the case and the method of a cell."""
    cell, data = result.settings, result.settings.data
    return {
        "operator": data.operator_name,
        "sigma": data.sigma,
        "interval": data.steps_per_cycle * data.dt,
        "missing": data.missing,
        "case": cell.note,
        "method": cell.key,
        "label": result.metrics["label"],
        "role": cell.method.role,
        "scheme": cell.method.scheme,
        "cell": result.directory.name,
        "mirror_aware": result.metrics["mirror_aware"],
        "seed": data.seed,
    }


def facts_of(
    metrics: Mapping[str, Any], seconds: Mapping[str, Any], role: str
) -> dict[str, Any]:
    """Return the `FACTS` that follow from the scores, claims and times of a method.

    Parameters
    ----------
    metrics : mapping
        The metrics of `run_cell.scored`, with others of the method if there are any.
    seconds : mapping
        Times "per_cycle" and "per_analysis" (seconds).
    role : {"method", "baseline", "optimum"}
    """
    scores, status = metrics["scores"], metrics["status"]
    facts: dict[str, Any] = {
        "p95": scores["p95"],
        "sign_flips": scores["sign_flip_rate"],
        "seconds_per_cycle": seconds.get("per_cycle"),
        "seconds_per_analysis": seconds.get("per_analysis"),
        "effective_size": (metrics["effective_size"] or {}).get("mean"),
        "settled": (metrics.get("convergence") or {}).get("settled"),
    }
    for name in ("spread", "innovation", "cost"):
        facts[f"{name}_ratio"] = (metrics.get(name) or {}).get("ratio")
    if metrics["innovation"]:
        ends = metrics["innovation"]["ci95"]["ratio"]
        facts["innovation_low"], facts["innovation_high"] = ends
    if role != "baseline":  # filter divergence is defined by climatology
        facts["diverged"] = scores["divergence_rate"]
        facts["truth_lost"] = status["diverged"] / sum(status.values())
    return facts


def numbers(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return a number for each of `FACTS`, NaN where it is not known."""
    import pandas as pd

    values: dict[str, float] = pd.Series(facts, list(FACTS), dtype=float).to_dict()
    return values


def write_text(folder: Path, name: str, text: str) -> None:
    """Write a text file of a result folder."""
    storage.write_bytes(folder / name, text.encode())


def versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that results depend on, and of `more`."""
    from importlib.metadata import PackageNotFoundError, version

    known = dict.fromkeys(("l63fast", "numpy", "torch"), "not installed")
    for package in (*known, *more):
        with suppress(PackageNotFoundError):
            known[package] = version(package)
    return known
