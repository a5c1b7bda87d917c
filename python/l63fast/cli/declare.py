"""Declares options as rows of a table and turns them into typer commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, cast

import typer

__all__ = ["OPTIONS", "Given", "Option", "choices", "command"]

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


def _as_is(value: Any) -> Any:
    return value


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
    read : callable
        Turns what was typed into the value of the setting.
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
    read: Callable[[Any], Any] = _as_is

    @property
    def is_list(self) -> bool:
        """Whether it takes several values, separated by commas."""
        return self.read is not _as_is

    def parameter(self) -> inspect.Parameter:
        """Return the option as the parameter that typer reads."""
        if self.positional:
            info: Any = typer.Argument(help=self.help, metavar=self.name.upper())
        else:
            info = typer.Option(
                f"--{self.name}",
                help=self.help,
                min=self.minimum,
                max=self.maximum,
                rich_help_panel=self.panel,
            )
        kind = self.kind | None if self.default is None else self.kind
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=self.default,
            annotation=Annotated[kind, info],
        )


class Given:
    """What a command line says: every value, and which of them were typed."""

    def __init__(
        self, options: Sequence[Option], values: dict[str, Any], typed: set[str]
    ):
        self._options = options
        self._values = values
        self._typed = typed

    def __getitem__(self, name: str) -> Any:
        """Return the value of an option, its default where it was not typed."""
        return self._values[name]

    def typed(self, name: str) -> Any:
        """Return the value of an option, None where it was not typed."""
        return self._values[name] if name in self._typed else None

    def flag(self, table: str, field: str) -> str | None:
        """Return the typed flag that set a setting, None if none did."""
        targets = {option.target: option.name for option in self._options}
        name = targets.get(f"{table}.{field}")
        return name if name in self._typed else None

    def flags(self, table: str) -> list[str]:
        """Return the typed flags that set something in a table."""
        typed = [option for option in self._options if option.name in self._typed]
        return [o.name for o in typed if f"{o.target}.".startswith(f"{table}.")]

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return the settings that were typed, as the tables of a TOML file."""
        tables: dict[str, dict[str, Any]] = {}
        for option in self._options:
            if option.target is not None and option.name in self._typed:
                table, field = option.target.split(".")
                value = option.read(self._values[option.name])
                tables.setdefault(table, {})[field] = value
        return tables


OPTIONS: Final[dict[str, Sequence[Option]]] = {}  # of each command, by its name


def command(
    app: typer.Typer, options: Sequence[Option]
) -> Callable[[Callable[[Given], None]], Callable[[Given], None]]:
    """Return a decorator that registers a function as a command with these options."""

    def register(body: Callable[[Given], None]) -> Callable[[Given], None]:
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
        run.__doc__ = body.__doc__
        OPTIONS[body.__name__] = tuple(options)
        app.command(body.__name__, context_settings=CONTEXT)(run)
        return body

    return register
