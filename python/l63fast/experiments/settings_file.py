"""Frozen settings from TOML, presets among them, and back; each mistake is one line."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

from l63fast import _checks
from l63fast.errors import ConfigurationError, DataFileError, L63Error
from l63fast.observation import ObservationOperator
from l63fast.storage import LARGEST_TEXT, read_file

T = TypeVar("T")
Table = dict[str, Any]

DEFAULT: Final = "quick"
_DEEPEST: Final = 16
# Those of single windows, and those in cycles; a test holds them beside the files.
OF_WINDOWS: Final = (
    *("quick", "windows", "windows-1000", "windows-losses"),
    *("seed-published", "seed-forecast"),
)
PRESETS: Final = (
    *OF_WINDOWS,
    *("sakov2012", "wiljes2017", "knet", "seed", "grid"),
    *("encoders", "encoders-short", "encoders-operators", "encoders-wiljes2017"),
    *("encoders-settings", "encoders-knet"),
)
# What `l63fast train --recipe` trains: methods of the preset `encoders`.
RECIPES: Final = {f"cycled-{name}": name for name in ("gru", "lstm", "mlp")}


def preset_text(name: str) -> str:
    """Return the TOML text of a preset."""
    folder = files("l63fast.experiments") / "presets"
    return (folder / f"{name}.toml").read_text("utf-8")


def preset_tables(name: str) -> Table:
    """Return the tables of a preset."""
    return tomllib.loads(preset_text(name))


def limited(
    default: Any, check: Callable[..., Any] = _checks.real, **limits: Any
) -> Any:
    """Return a field of `Checked` settings: its default, and what others must pass."""
    metadata = {"check": partial(check, **limits)}
    return dataclasses.field(default=default, metadata=metadata)


class Checked:
    """Frozen settings, each `limited` field of which passes its check or is default."""

    def __post_init__(self) -> None:
        """Check the values, and take them as the checks give them back."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, check = getattr(self, field.name), field.metadata.get("check")
            if check is not None and value is not field.default:
                object.__setattr__(self, field.name, check(field.name, value))


def read_tables(path: str | Path) -> Table:
    """Return the tables of a TOML file.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or is not TOML; a key given twice is named.
    """
    try:
        # Editors of Windows begin with a mark of the byte order.
        text = read_file(path, most=LARGEST_TEXT).decode("utf-8-sig")
    except DataFileError as error:  # its sentence begins with the path
        raise ConfigurationError(str(error)) from None
    except UnicodeDecodeError:
        said = "cannot be read: it is not UTF-8 text"
        raise ConfigurationError(f"{path}: {said}") from None
    try:
        return parse_tables(text)
    except tomllib.TOMLDecodeError as error:
        said = _toml_mistake(text, error)
    except ValueError as error:  # endless numbers, endless brackets
        said = f"not valid TOML: {error}"
    raise ConfigurationError(f"{path}: {said}")


def parse_tables(text: str) -> Table:
    """Return the tables of TOML text.

    Raises
    ------
    ValueError
        If it is not TOML, or tables and lists are nested deeper than settings ever are.
    """
    too_deep = f"tables or lists are nested more than {_DEEPEST} deep"
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    inner: list[Any] = [tables]
    for _ in range(_DEEPEST):
        values = (v for i in inner for v in (i.values() if isinstance(i, dict) else i))
        inner = [value for value in values if isinstance(value, (dict, list))]
    if inner:
        raise ValueError(too_deep)
    return tables


def _toml_mistake(text: str, error: tomllib.TOMLDecodeError) -> str:
    place = re.search(r"line (\d+)", str(error))
    line = int(place.group(1)) if place else len(text.splitlines())
    source = (text.splitlines() or [""])[min(line, len(text.splitlines())) - 1]
    message = str(error)
    if message.startswith("Cannot overwrite a value"):
        key = source.split("=")[0].strip()
        return f"line {line}: the key {key!r} stands twice in its table"
    if message.startswith("Cannot declare"):
        return f"line {line}: the table {source.strip()} stands twice"
    return f"not valid TOML: {message}: {source.strip()!r}"


def build(settings: type[T], table: Any, *, source: str, key: str) -> T:
    """Return the settings with the values of a table, all others at their defaults.

    Parameters
    ----------
    settings : type
        A frozen dataclass that checks its own values.
    table : mapping
        Field names and values as TOML gives them.
    source, key : str
        The file (or "the command line") and the table's name, for messages.

    Raises
    ------
    ConfigurationError
        If a key is unknown, or a value has the wrong type or makes no sense.
    """
    from pydantic import TypeAdapter, ValidationError

    _check_keys(settings, table, source, key)
    try:
        # As JSON, which has lists and tables alone, like TOML: strict all the same.
        text = json.dumps(table, default=str)
        return TypeAdapter(settings).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        place = ".".join([key, *(str(part) for part in first["loc"])])
        what = first["msg"].removeprefix("Input should be ")
        said = f"{place}: expected {what}, got {first['input']!r}"
        if isinstance(cause, L63Error):  # the settings' own sentence
            said = f"{place}.{cause}"
        elif first["type"] == "missing":
            said = f"{place}: expected one, got none"
    except L63Error as error:
        said = f"{key}.{error}"
    raise ConfigurationError(f"{source}: {said}")


def _check_keys(settings: type, table: Any, source: str, key: str) -> None:
    """Refuse what is no table, and keys that the settings do not have."""
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{source}: {key}: expected a table [{key}]")
    hints = typing.get_type_hints(settings)
    known = [f.name for f in dataclasses.fields(settings) if f.init]
    for name, value in table.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (known: {', '.join(known)})"
            if close:
                hint = f"; did you mean {close[0]!r}?"
            raise ConfigurationError(f"{source}: {key}.{name}: unknown key{hint}")
        if dataclasses.is_dataclass(hints[name]):
            inner = typing.cast(type, hints[name])
            _check_keys(inner, value, source, f"{key}.{name}")


def refuse(refused: Any, place: str, expected: str, got: Any) -> None:
    """Refuse a value, in one sentence with its place, if it is to be refused."""
    if refused:
        raise ConfigurationError(f"{place}: expected {expected}, got {got}")


def refuse_unknown_tables(
    tables: Mapping[str, Any], known: tuple[str, ...], source: str
) -> None:
    """Refuse a table that is not known, naming its first key, and what is no table."""
    for name, table in tables.items():
        if name not in known:
            keys = list(table) if isinstance(table, Mapping) else []
            place = ".".join([name, *keys[:1]])  # so that a flag that set it is found
            raise ConfigurationError(
                f"{source}: {place}: unknown table [{name}] (known: {', '.join(known)})"
            )
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{source}: {name}: expected a table [{name}]")


def merged(tables: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Return tables with the keys of `over` laid over them, table by table."""
    result = dict(tables)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def to_table(settings: Any) -> Table:
    """Return settings as a table that TOML can hold; None is left out."""
    pairs = ((f.name, getattr(settings, f.name)) for f in dataclasses.fields(settings))
    return {name: _plain(value) for name, value in pairs if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, ObservationOperator):
        return value.to_table()
    return to_table(value) if dataclasses.is_dataclass(value) else _lists(value)


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def dump_tables(tables: Mapping[str, Any]) -> str:
    """Return tables as TOML text."""
    import tomli_w

    return tomli_w.dumps(tables)


def differences(
    have: Mapping[str, Any], asked: Mapping[str, Any], *, prefix: str = ""
) -> list[str]:
    """Return a phrase for each setting that is not as asked, those in tables too."""
    found = []
    for name, value in asked.items():
        old = have.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            found += differences(old, value, prefix=f"{prefix}{name}.")
        elif _lists(old) != _lists(value):
            found.append(f"{prefix}{name} is {old}, not {value}")
    return found
