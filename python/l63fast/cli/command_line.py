"""From a command line to settings: options as rows of a table, then what was typed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import typer

from l63fast.errors import ConfigurationError
from l63fast.experiments.experiment import laid_over
from l63fast.experiments.protocols import PROTOCOLS
from l63fast.experiments.settings import AXES, BESIDE_PATH
from l63fast.experiments.settings_file import merged, read_tables, refuse

T = TypeVar("T")
Tables = dict[str, Any]

_COMMAND_LINE: Final = "command line"
_PLACE: Final = re.compile(rf"{_COMMAND_LINE}: ([\w.-]+): ")
_BESIDE: Final = re.compile(r"(\w+) = ")  # a setting that another must agree with
_DASHED: Final[dict[str, str]] = {}  # names of choices by their other spelling


def _as_declared(token: str) -> str:
    """Return the name that is declared and shown: `--n-traj` is `--n_traj`."""
    underscored = token.replace("-", "_")
    return _DASHED.get(underscored, underscored)


CONTEXT: Final[dict[Any, Any]] = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": _as_declared,
}


def choices(names: Iterable[str]) -> Any:
    """Return the type of an option that takes one of these names."""
    names = tuple(names)
    _DASHED.update((name.replace("-", "_"), name) for name in names if "-" in name)
    return cast(Any, Literal)[names]


@dataclass(frozen=True)
class Option:
    """One option of the command line, in both spellings (`--n_traj`, `--n-traj`).

    Attributes
    ----------
    name : str
        The flag's name without dashes.
    kind : type
        What it takes; `Literal[...]` for choices, `bool` for a switch.
    help : str
    default : Any
    target : str or None
        The setting it sets ("data.sigma"), if it sets one.
    minimum, maximum : float or None
    positional : bool
        An argument, given without its name.
    panel : str
        The heading under which `--help` shows it.
    read : callable, optional
        Returns the list that several values separated by commas are.
    """

    name: str
    kind: Any
    help: str
    default: Any = None
    target: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    positional: bool = False
    panel: str = "Run"
    read: Callable[[str], list[Any]] | None = None

    def parameter(self) -> inspect.Parameter:
        """Return the option as the parameter that typer reads."""
        info: Any = typer.Option(
            f"--{self.name}",
            help=self.help,
            min=self.minimum,
            max=self.maximum,
            rich_help_panel=self.panel,
        )
        if self.positional:
            info = typer.Argument(help=self.help, metavar=self.name.upper())
        kind = self.kind | None if self.default is None else self.kind
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=self.default,
            annotation=Annotated[kind, info],
        )


@dataclass(frozen=True)
class Given:
    """What a command line says: every value, and which of them were typed."""

    options: Sequence[Option]
    values: dict[str, Any]
    names: set[str]  # of those that were typed

    def __getitem__(self, name: str) -> Any:
        """Return the value of an option, its default where it was not typed."""
        return self.values[name]

    def typed(self, name: str) -> Any:
        """Return the value of an option, None where it was not typed."""
        return self.values[name] if name in self.names else None

    def flag(self, table: str, field: str) -> str | None:
        """Return the typed flag that set a setting, None if none did."""
        target = f"{table}.{field}"
        return next((o.name for o in self._typed() if o.target == target), None)

    def flags(self, table: str) -> list[str]:
        """Return the typed flags that set something in a table."""
        return [o.name for o in self._typed() if f"{o.target}.".startswith(f"{table}.")]

    def _typed(self) -> list[Option]:
        return [option for option in self.options if option.name in self.names]

    def tables(self) -> Tables:
        """Return what file and flags say, without defaults, as tables of TOML."""
        tables: Tables = {}
        for option in self._typed():
            if option.target is not None:
                table, field = option.target.split(".")
                value = self[option.name]
                value = value if option.read is None else option.read(value)
                tables.setdefault(table, {})[field] = value
        tables = laid_over(self.file_tables(), tables)
        return merged(tables, _sizes(self, tables.get("data", {})))

    def file_tables(self) -> Tables:
        """Return what the file of `--config` says, nothing where there is none.

        Raises
        ------
        ConfigurationError
            If it cannot be read, or has a key outside of its tables.
        """
        config = self["config"]
        tables = {} if config is None else read_tables(config)
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise ConfigurationError(
                    f"{config}: {name}: expected a table [{name}], got {table!r}"
                )
        return tables

    def refuse_other_protocol(self, holder: str, tables: Tables) -> None:
        """Refuse flags of windows where the settings that they change are in cycles.

        And the reverse. Tables with both, or none, are refused where they are read.

        Raises
        ------
        ConfigurationError
            Naming the flag.
        """
        of = [name for name in PROTOCOLS if name in tables]
        for other in (name for name in PROTOCOLS if [name] != of and len(of) == 1):
            for flag in self.flags(other):
                raise ConfigurationError(
                    f"--{flag}: expected with {other}, got {holder}, which is in "
                    f"{of[0]}"
                )

    def resolved(self, tables: Tables, make: Callable[..., T], source: str = "") -> T:
        """Return the settings that `make` makes of tables.

        A source says where values are from that were not typed: by default the file.

        Raises
        ------
        ConfigurationError
            Naming the flag, if the value at fault was typed, otherwise file and key.
        """
        try:
            return make(tables, source=_COMMAND_LINE)
        except ConfigurationError as error:
            place = _PLACE.match(str(error))
            if place is not None:
                said = str(error)[place.end() :]
                table, field = _setting(place.group(1))
                flag = self._varied(table, field) or self.flag(table, field)
                if flag is not None:
                    raise ConfigurationError(f"--{flag}: {said}") from None
                for beside in _BESIDE.findall(said):
                    flag = self._varied("data", beside) or self.flag("data", beside)
                    if flag is not None:
                        raise ConfigurationError(f"--{flag}: {field}: {said}") from None
        return make(tables, source=source or str(self["config"] or "settings"))

    def workers(self, n_tasks: int) -> tuple[dict[str, Any], str]:
        """Return n_workers and scheduler, as `run_cells` takes them; and both in words.

        Raises
        ------
        ConfigurationError
            If both are asked for: a cluster has the workers that it has.
        """
        from l63fast.experiments.tasks import Scheduler, default_workers

        address, file = self["scheduler"], self["scheduler_file"]
        if address is None and file is None:
            if self["insecure"]:
                raise ConfigurationError("--insecure: expected with --scheduler")
            n = self["workers"] or default_workers(n_tasks)
            return {"n_workers": n}, f"{n} worker{'s' if n > 1 else ''}"
        if address is not None and file is not None:
            raise ConfigurationError(
                "--scheduler and --scheduler_file: expected one of the two"
            )
        if self["workers"] is not None:
            raise ConfigurationError(
                "--workers: expected without --scheduler: a cluster has the workers "
                "that it has"
            )
        scheduler = Scheduler(address, file, self["insecure"])
        return {"scheduler": scheduler}, f"the workers of {address or file}"

    def _varied(self, table: str, field: str) -> str | None:
        """Return the typed flag of an axis that a setting is varied along."""
        axes = (a for a, (places, _) in AXES.items() if f"{table}.{field}" in places)
        return next(filter(None, (self.flag("vary", axis) for axis in axes)), None)


OPTIONS: Final[dict[str, Sequence[Option]]] = {}  # of each command, by its name


def command(*options: Option) -> Callable[[Callable[[Given], None]], Any]:
    """Return a decorator that makes a function with these options a command."""

    def register(body: Callable[[Given], None]) -> Any:
        @wraps(body)
        def run(context: typer.Context, **values: Any) -> None:
            sources = ((name, context.get_parameter_source(name)) for name in values)
            typed = {n for n, source in sources if source and source.name != "DEFAULT"}
            body(Given(options, values, typed))

        first = inspect.Parameter(
            "context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context
        )
        parameters = [first, *(option.parameter() for option in options)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        OPTIONS[body.__name__] = options
        return run

    return register


def _sizes(given: Given, data: Any) -> Tables:
    """Return the sizes of training and validation that `--n_traj` implies.

    Alone it is divided two to one, as the defaults are.
    """
    total = given.typed("n_traj")
    if total is None or not isinstance(data, dict):
        return {}
    refuse("path" in data, "--n_traj", BESIDE_PATH, total)
    n_train, n_val = data.get("n_train"), data.get("n_val")
    typed = given.names & {"train", "val"}
    if not typed and None not in (n_train, n_val):
        n_train = n_val = None  # both from the file, and the flag overrules it
    if n_train is None:
        n_train = total - (max(total // 3, 1) if n_val is None else n_val)
    n_val = total - n_train if n_val is None else n_val
    if min(n_train, n_val) < 1:
        given_size, other = ("val", "train") if n_train < 1 else ("train", "val")
        raise ConfigurationError(
            f"--n_traj {total}: expected more than --{given_size} "
            f"{max(n_train, n_val)}, which leaves nothing for --{other}"
        )
    if n_train + n_val != total:
        raise ConfigurationError(
            f"--train {n_train} and --val {n_val} do not add up to --n_traj {total}"
        )
    return {"data": {"n_train": n_train, "n_val": n_val}}


def _setting(place: str) -> tuple[str, str]:
    """Return table and field of a place such as "methods.gru.training.epochs"."""
    parts = ["", *(part for part in place.split(".") if not part.isdecimal())]
    table = parts[-2]
    if parts[1] == "methods" and table != "training":
        table = "method"
    return table, parts[-1]
