"""Experiments: data, a protocol, methods, and what varies between the cells."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from l63fast import _checks
from l63fast._progress import Progress, shown
from l63fast._user_code import file_name
from l63fast.errors import (
    ArgumentValueError,
    ConfigurationError,
    L63Warning,
    ResultError,
)
from l63fast.experiments.data import SavedSettings, saved_settings
from l63fast.experiments.describe import counted, describe_data
from l63fast.experiments.methods import (
    Method,
    TrainedEncoder,
    method_from_table,
    method_table,
)
from l63fast.experiments.protocols import Cycles, Protocol
from l63fast.experiments.results import CONFIG, results_of, write_text
from l63fast.experiments.runner import chosen_cells, run_cells
from l63fast.experiments.settings import (
    AXES,
    BESIDE_PATH,
    MEASURES,
    NO_CELLS,
    TUNABLE,
    Cell,
    ScoreSettings,
    Vary,
    common_settings,
    data_table,
    folder_of,
    said_of,
    with_operator_by_name,
)
from l63fast.experiments.settings_file import (
    PRESETS,
    Checked,
    build,
    dump_tables,
    limited,
    merged,
    preset_tables,
    read_tables,
    refuse,
    to_table,
)
from l63fast.experiments.tasks import Progress as TaskProgress
from l63fast.twin import TwinSettings

if TYPE_CHECKING:
    import pandas as pd

_MOST_CELLS: Final = 20_000  # making the settings of each takes half a millisecond
_OF_CASES: Final = tuple(AXES)[:7]
_OF_DATA: Final = ("operator", "sigma", "interval", "seed")
_OF_WINDOWS: Final = ("window", "background", "regime")
_NOTED: Final = {"window": "window {}", "background": "background {}"}
AXES_OF_ENCODERS: Final = ("loss", "n_iterations", "training_seed")
# Axes that vary what others do as well.
AXES_OF_SEVERAL: Final = {"seed": ("training_seed",), "regime": ("background", "loss")}


@dataclass(frozen=True)
class Experiment(Checked):
    """Every method on every case.

    Attributes
    ----------
    name : str
        Also the folder of its results.
    data : TwinSettings
        Of which the axes replace what they vary; or the folder of a saved
        `TwinExperiment`, over whose settings no axis goes.
    protocol : Windows or Cycles
    methods : dict of str to Method
    axes : Vary
    measure : str
        The score that decides, a name in `settings.MEASURES`.
    model_error : float
        Variance of the model error over that of the observation error, in each case;
        0 leaves Q as the data have it.
    scores : ScoreSettings
    tune_only : bool
        Fit the methods and leave the test split closed.

    Examples
    --------
    >>> experiment = Experiment.preset("sakov2012").vary(sigma=[0.5, 1.0])
    >>> results = experiment.only("3dvar", "enkf-10").run("results")  # doctest: +SKIP
    """

    name: str
    data: TwinSettings
    protocol: Protocol
    methods: Mapping[str, Method]
    axes: Vary = field(default_factory=Vary)
    measure: str = limited("", _checks.choice, allowed=MEASURES)
    model_error: float = limited(0.0, minimum=0.0)
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    tune_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.file_name("name", self.name)
        if isinstance(self.data, (str, Path)):
            object.__setattr__(self, "data", saved_settings(self.data))
        if isinstance(self.data, SavedSettings):
            self._keep_to_saved_data()
        object.__setattr__(self, "data", with_operator_by_name(self.data))
        object.__setattr__(self, "measure", self.measure or self.protocol.measure)
        for key in self.methods:
            _checks.file_name("methods", key)
            if key in NO_CELLS:
                raise ConfigurationError(
                    f"methods.{key}: expected another name: the experiment has a "
                    "folder of its own of that name"
                )
        for axis in _OF_WINDOWS:
            refused = isinstance(self.protocol, Cycles) and self._axis(axis)
            refuse(refused, f"vary.{axis}", "none with cycles", list(self._axis(axis)))
        most = f"at most {_MOST_CELLS} cells (vary less, or make several experiments)"
        refuse(self.n_cells > _MOST_CELLS, "vary", most, self.n_cells)
        self.cells()

    def _keep_to_saved_data(self) -> None:
        """Refuse what would change saved data; score as many cycles as they have."""
        changes: dict[str, Any] = {"experiment.model_error": self.model_error}
        changes |= {f"vary.{axis}": list(self._axis(axis)) for axis in _OF_DATA}
        for place, value in changes.items():
            refuse(value, place, BESIDE_PATH, value)
        if isinstance(self.protocol, Cycles):
            object.__setattr__(self, "protocol", self.protocol.within(self.data))

    @classmethod
    def preset(cls, name: str) -> Experiment:
        """Return a named experiment of this package.

        Raises
        ------
        ArgumentValueError
            If there is none of that name.
        """
        _checks.choice("name", name, PRESETS)
        return cls.from_tables(name, preset_tables(name), source=name)

    @classmethod
    def from_toml(cls, path: str | Path) -> Experiment:
        """Return the experiment in a TOML file, with the file's name."""
        return cls.from_tables(Path(path).stem, read_tables(path), source=str(path))

    @classmethod
    def from_tables(
        cls, name: str, tables: Mapping[str, Any], *, source: str
    ) -> Experiment:
        """Return an experiment from its tables.

        [experiment] measure and model_error, [vary] the axes, [data], [windows] or
        [cycles], [methods.KEY] with the name of a scheme, [scores].

        Raises
        ------
        ConfigurationError
            If a table or key is unknown, or a value has the wrong type or makes no
            sense.
        """
        with said_of(source):
            common = common_settings(tables, ("experiment", "vary"), "methods", source)
            protocol, methods = common["protocol"].name, tables.get("methods", {})
            if not methods:
                raise ConfigurationError(
                    f"{source}: methods: expected at least one table"
                )
            axes = build(Vary, tables.get("vary", {}), source=source, key="vary")
            _refuse_fixed_and_varied(vars(axes), tables, source)
            built = {
                key: method_from_table(
                    table, protocol, source=source, key=f"methods.{key}"
                )
                for key, table in methods.items()
            }
            general = tables.get("experiment", {})
            general = build(_General, general, source=source, key="experiment")
            return cls(name, methods=built, axes=axes, **common, **vars(general))

    def to_tables(self) -> dict[str, Any]:
        """Return the tables that `from_tables` reads."""
        varied = [p for a, (places, _) in AXES.items() if self._axis(a) for p in places]
        data = data_table(self.data, self.protocol)
        if isinstance(self.data, SavedSettings):
            data = {"path": self.data.path}
        tables = {
            "data": data,
            self.protocol.name: to_table(self.protocol),
        }
        fixed = {
            name: {k: v for k, v in table.items() if f"{name}.{k}" not in varied}
            for name, table in tables.items()
        }
        return {
            "experiment": {"measure": self.measure, "model_error": self.model_error},
            "vary": {k: v for k, v in to_table(self.axes).items() if v},
            **fixed,
            "scores": to_table(self.scores),
            "methods": {k: method_table(m) for k, m in self.methods.items()},
        }

    def to_toml(self) -> str:
        """Return the experiment as TOML."""
        return dump_tables(self.to_tables())

    def write(self, folder: Path) -> None:
        """Write the file that makes a folder's cells again; none if it has others."""
        path, names = folder / f"{self.name}.toml", {c.name for c in self.cells()}
        if {cell.parent.name for cell in folder.glob(f"[!.]*/{CONFIG}")} <= names:
            write_text(folder, path.name, self.to_toml())
        else:
            path.unlink(missing_ok=True)

    def vary(self, **axes: Any) -> Experiment:
        """Return the experiment with other axes, such as operator=["x", "xy"].

        An axis is a name in `Vary`; what it replaces in data and protocol gives way.
        """
        chosen = {
            name: tuple(v) if isinstance(v, (list, tuple)) else (v,)
            for name, v in axes.items()
        }
        unknown = [name for name in chosen if name not in AXES]
        if unknown:
            raise ArgumentValueError(
                f"vary: expected some of {', '.join(AXES)}, got {unknown[0]!r}"
            )
        return dataclasses.replace(self, axes=dataclasses.replace(self.axes, **chosen))

    def updated(self, **tables: Mapping[str, Any]) -> Experiment:
        """Return the experiment with other settings, such as data={"n_test": 50}.

        With data={"path": "folder"} it is on a twin experiment that was saved there.
        """
        laid = laid_over(self.to_tables(), tables)
        return type(self).from_tables(self.name, laid, source="updated")

    def only(self, *keys: str) -> Experiment:
        """Return the experiment with some of its methods, in the order given.

        Raises
        ------
        ConfigurationError
            If it has no such method.
        """
        refuse(not keys, "methods", "at least one", "none")
        unknown = [key for key in keys if key not in self.methods]
        if unknown:
            raise ConfigurationError(
                f"methods: {self.name} has no method {unknown[0]!r} (it has "
                f"{', '.join(self.methods)})"
            )
        chosen = {key: self.methods[key] for key in keys}
        return dataclasses.replace(self, methods=chosen)

    def tuning(self) -> Experiment:
        """Return an experiment that only tunes every number that can be, given or not.

        Raises
        ------
        ConfigurationError
            If no method has a number to tune.
        """
        methods: dict[str, Any] = dict(self.methods)
        opened = {}
        for key, method in methods.items():
            fields = (f for f in dataclasses.fields(method) if f.default is None)
            numbers = dict.fromkeys({f.name for f in fields} & set(TUNABLE))
            if numbers:
                opened[key] = dataclasses.replace(method, **numbers)
        one = f"one with a number to tune ({', '.join(TUNABLE)})"
        refuse(not opened, "methods", one, ", ".join(methods))
        name = f"{self.name}-tuning"
        return dataclasses.replace(self, name=name, methods=opened, tune_only=True)

    def run(
        self,
        root: str | Path = "results",
        *,
        workers: int = 1,
        progress: Progress = False,
        **how: Any,
    ) -> pd.DataFrame:
        """Run every cell, write tables, and return the results as `open_results` does.

        Parameters
        ----------
        root : path
            Folder of results; the experiment takes the folder of its name in it.
        workers : int
            Processes on this machine; the results do not depend on them.
        progress : bool or callable
            Show each cell that ends, on standard error; a callable is given each line.
        **how
            As in `run_cells`.

        Raises
        ------
        ResultError
            If every cell failed; where some did, there is a warning.
        """
        folder, cells = Path(root).expanduser() / self.name, self.cells()
        n_cells = len(chosen_cells(cells, how.get("only", "*")))
        with shown(progress) as say:
            how["progress"] = TaskProgress.of_lines(say, n_cells)
            try:
                outcome = run_cells(cells, folder, n_workers=workers, **how)
            except KeyboardInterrupt as error:
                error.add_note("run(..., resume=True) goes on from what is there")
                raise
        failed = "; ".join(f"{cell}: {why}" for cell, why in outcome.failures.items())
        if not outcome.results:
            raise ResultError(f"{folder}: every cell failed: {failed}")
        self.write(folder)
        if failed:
            warnings.warn(f"failed: {failed}", L63Warning, stacklevel=2)
        return results_of(outcome.results)

    def describe(self) -> list[str]:
        """Return the lines that say what will be done."""
        cells = self.cells()
        first = cells[0]
        cases = list(dict.fromkeys(cell.case for cell in cells))
        data = describe_data(first.data)
        if len(cases) > 1:
            data = f"{len(cases)} cases: {', '.join(cases)}; the first: {data}"
        in_windows = [getattr(self.axes, name) for name in _OF_WINDOWS]
        return [
            f"experiment  {self.name}: {', '.join(self.methods)}: "
            f"{counted(len(cells), 'cell')}",
            f"data        {data}",
            first.protocol.describe() + "; that of the first case" * any(in_windows),
        ]

    def _axis(self, name: str) -> tuple[Any, ...]:
        values: tuple[Any, ...] = getattr(self.axes, name)
        return values

    def _combined(self, axes: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return every combination of the values of those of the axes that vary."""
        given = {name: self._axis(name) for name in axes if self._axis(name)}
        return [
            dict(zip(given, values, strict=True)) for values in product(*given.values())
        ]

    def cases(self) -> list[dict[str, Any]]:
        """Return what each case has of the axes that make cases."""
        return self._combined(_OF_CASES)

    @property
    def n_cells(self) -> int:
        """How many cells there are, without making them."""

        def n_of(axes: tuple[str, ...]) -> int:
            return math.prod(max(len(self._axis(name)), 1) for name in axes)

        n_encoders = sum(isinstance(m, TrainedEncoder) for m in self.methods.values())
        n_others = len(self.methods) - n_encoders
        return n_of(_OF_CASES) * (n_encoders * n_of(AXES_OF_ENCODERS) + n_others)

    def cells(self) -> list[Cell]:
        """Return the cells, all methods of one case together.

        A cell is named by its case, its method and the axes that are given, so that a
        value added to one of them later renames nothing.

        Raises
        ------
        ConfigurationError
            If two of them would have one name, or settings do not fit together.
        """
        cells = [cell for case in self.cases() for cell in self._cells_of(case)]
        for name, n in Counter(cell.name for cell in cells).items():
            refuse(n > 1, "methods", "names that differ", f"{name} twice")
        return cells

    def _cells_of(self, case: dict[str, Any]) -> Iterator[Cell]:
        protocol: Any = dataclasses.replace(self.protocol, **_changes("windows", case))
        changes = _changes("data", case)
        if self.model_error:
            sigma = changes.get("sigma", self.data.sigma)
            changes["Q"] = self.model_error * sigma**2
        data = protocol.completed(self.data, **changes)
        if self.axes.window:
            longest = max(self.axes.window)
            dataclasses.replace(protocol, window=longest).completed(data)
            start = max(protocol.start, longest)
            protocol = dataclasses.replace(protocol, start=start)
        note = [] if data.R is None else [f"R {[list(row) for row in data.R]}"]
        note += [words.format(case[a]) for a, words in _NOTED.items() if a in case]
        if "regime" in case:
            note.append(f"background {case['regime'].partition(':')[0]}")
        for key, method in self.methods.items():
            for more, repeat, variant in self._variants(method, case):
                yield Cell(
                    key="-".join([key, *more]),
                    data=data,
                    protocol=protocol,
                    method=variant,
                    scores=self.scores,
                    measure=self.measure,
                    case="_".join(_tags(case, _OF_CASES)),
                    repeat=repeat,
                    note=", ".join(note),
                    data_name="_".join(_tags(case, _OF_DATA)) or folder_of(data),
                    tune_only=self.tune_only,
                )

    def _variants(
        self, method: Method, case: dict[str, Any]
    ) -> Iterator[tuple[list[str], str, Method]]:
        """Yield what an encoder's variants are called, and their settings."""
        if not isinstance(method, TrainedEncoder):
            yield [], "", method
            return
        for values in self._combined(AXES_OF_ENCODERS):
            chosen, own = {**case, **values}, method.training
            training = dataclasses.replace(own, **_changes("training", chosen))
            changes = {**_changes("method", chosen), "training": training}
            more = _tags(chosen, ("loss", "n_iterations"))
            repeat = "".join(_tags(chosen, ("training_seed",)))
            yield more, repeat, dataclasses.replace(method, **changes)


def laid_over_preset(preset: str, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables laid over those of a named experiment.

    Tables that say `[methods]` themselves are whole: they replace those of the preset.
    What the preset varies gives way to what the tables fix, and the reverse.
    """
    below = preset_tables(preset)
    if "methods" in tables:
        del below["methods"]
    varied = below.get("vary", {})
    for axis, parts in AXES_OF_SEVERAL.items():
        for part in parts if _holds(tables, "vary", axis) else ():
            varied.pop(part, None)
    for axis, section, key in _places():
        if _holds(tables, section, key):
            varied.pop(axis, None)
        if _holds(tables, "vary", axis):
            below.get(section, {}).pop(key, None)
    return laid_over(below, tables)


def laid_over(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables laid over others, table by table.

    A folder of data replaces all that is said of data; seeds are of trainings then.
    """
    if _holds(over, "data", "path"):
        vary, general = below.get("vary", {}), below.get("experiment", {})
        vary = {"training_seed": vary.get("seed", []), **vary}
        vary = {k: v for k, v in vary.items() if k not in _OF_DATA}
        general = {k: v for k, v in general.items() if k != "model_error"}
        below = {**below, "data": {}, "vary": vary, "experiment": general}
    return merged(below, over)


def with_encoder_settings(tables: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return tables whose [method] and [training] went into every encoder.

    Raises
    ------
    ConfigurationError
        If one of their settings is varied as well.
    """
    varied = tables.get("vary", {})
    if isinstance(varied, Mapping):
        # Of seeds that are varied each training has its own, whatever else is given.
        others = {k: v for k, v in varied.items() if not k.endswith("seed")}
        _refuse_fixed_and_varied(others, tables, source)
    rest = {k: v for k, v in tables.items() if k not in ("method", "training")}
    own = tables.get("method", {})
    if "training" in tables:
        own = {**own, "training": tables["training"]}
    methods = rest.get("methods")
    for key, method in methods.items() if isinstance(methods, Mapping) else ():
        if own and isinstance(method, Mapping) and method.get("scheme") == "encoder":
            rest = merged(rest, {"methods": {key: own}})
    return rest


def _refuse_fixed_and_varied(
    varied: Mapping[str, Any], tables: Mapping[str, Any], source: str
) -> None:
    for axis, section, key in _places():
        if varied.get(axis) and _holds(tables, section, key):
            raise ConfigurationError(
                f"{source}: {section}.{key}: is varied by vary.{axis}: give that one"
            )


def _places() -> Iterator[tuple[str, str, str]]:
    """Yield each axis with the table and the key of each setting that it replaces."""
    for axis, (places, _) in AXES.items():
        for section, _, key in (place.partition(".") for place in places):
            yield axis, section, key


def _holds(tables: Mapping[str, Any], section: str, key: str) -> bool:
    table = tables.get(section)
    return isinstance(table, Mapping) and key in table


def _changes(section: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the values of some axes put into a section, by key."""
    changes = {}
    for axis, place, key in _places():
        if axis in chosen and place == section:
            background, _, loss = str(chosen[axis]).partition(":")
            of_regime = loss if key == "loss" else background
            changes[key] = of_regime if axis == "regime" else chosen[axis]
    return changes


def _tags(chosen: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    return [
        file_name(AXES[name][1].format(chosen[name]))
        for name in names
        if name in chosen
    ]


@dataclass(frozen=True)
class _General(Checked):
    """What the table [experiment] says."""

    measure: str = limited("", _checks.choice, allowed=MEASURES)
    model_error: float = limited(0.0, minimum=0.0)
