"""Frozen settings from TOML tables and back; every mistake is one line with its key."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from l63fast.errors import ConfigurationError, DataFileError, L63Error
from l63fast.storage import read_file

__all__ = ["build", "differences", "dump_tables", "read_tables", "to_table"]

T = TypeVar("T")
Table = dict[str, Any]


def read_tables(path: str | Path) -> Table:
    """Return the tables of a TOML file.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or is not TOML; a key given twice is named.
    """
    try:
        text = read_file(path).decode("utf-8")
    except DataFileError as error:  # its sentence begins with the path
        raise ConfigurationError(str(error)) from None
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"{path}: cannot be read: it is not UTF-8 text"
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {_toml_mistake(text, error)}") from None
    except (ValueError, RecursionError) as error:  # endless numbers, endless brackets
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None


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


def build(settings: type[T], table: Mapping[str, Any], *, source: str, key: str) -> T:
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
    from pydantic import ValidationError

    try:
        checked = _model(settings).model_validate(_tuples(table))
    except ValidationError as error:
        raise ConfigurationError(_mistake(error, settings, source, key)) from None
    try:
        return _construct(settings, checked)
    except L63Error as error:
        raise ConfigurationError(f"{source}: [{key}] {error}") from None


def _model(settings: type) -> Any:
    from pydantic import ConfigDict, create_model

    hints = typing.get_type_hints(settings)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        if field.init:
            hint = hints[field.name]
            nested = dataclasses.is_dataclass(hint)
            fields[field.name] = (_model(hint) if nested else hint, None)
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return create_model(settings.__name__, __config__=config, **fields)


def _construct(settings: type[T], checked: Any) -> T:
    values = {name: getattr(checked, name) for name in checked.model_fields_set}
    hints = typing.get_type_hints(settings)
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            values[name] = _construct(hints[name], value)
    return settings(**values)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _mistake(error: Any, settings: type, source: str, key: str) -> str:
    first = error.errors()[0]
    place = ".".join([key, *(str(part) for part in first["loc"])])
    if first["type"] == "extra_forbidden":
        return f"{source}: {place}: unknown key{_nearest(settings, first['loc'])}"
    what = first["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{source}: {place}: expected {what}, got {first['input']!r}"


def _nearest(settings: type, location: tuple[Any, ...]) -> str:
    for part in location[:-1]:
        settings = typing.get_type_hints(settings)[part]
    known = [field.name for field in dataclasses.fields(settings) if field.init]
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(known)})"


def to_table(settings: Any) -> Table:
    """Return settings as a table that TOML can hold; None is left out."""
    table: Table = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if not field.init or value is None:
            continue
        if dataclasses.is_dataclass(value):
            value = to_table(value)
        table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def dump_tables(tables: Mapping[str, Any]) -> str:
    """Return tables as TOML text."""
    import tomli_w

    return tomli_w.dumps(tables)


def differences(
    have: Mapping[str, Any], asked: Mapping[str, Any], *, prefix: str = ""
) -> list[str]:
    """Return a phrase for each setting that is not as asked."""
    return [
        f"{prefix}{name} is {have.get(name)}, not {value}"
        for name, value in asked.items()
        if not _agrees(have.get(name), value)
    ]


def _agrees(have: Any, asked: Any) -> bool:
    """Whether a setting is as asked; of a table, those of its keys that were given."""
    if isinstance(have, Mapping) and isinstance(asked, Mapping):
        return all(have.get(key) == value for key, value in asked.items())
    return bool(_tuples(have) == _tuples(asked))
