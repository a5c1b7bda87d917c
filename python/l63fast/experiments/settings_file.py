"""Reading of settings from TOML files and presets, and writing of TOML."""

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
# Presets in single windows, then those in cycles; a test compares them with the files.
WINDOW_PRESETS: Final = (
    *("quick", "windows", "windows-1000", "windows-losses"),
    *("seed-published", "seed-forecast"),
)
PRESETS: Final = (
    *WINDOW_PRESETS,
    *("sakov2012", "wiljes2017", "knet", "seed", "grid"),
    *("encoders", "encoders-short", "encoders-operators", "encoders-wiljes2017"),
    *("encoders-settings", "encoders-knet", "gaps", "gaps-x"),
    *("calibrated", "calibrated-x", "calibrated-wiljes2017", "calibrated-x2"),
    *("bach2025", "unknown-parameters", "dynestyx", "dynestyx-smoother", "wrong-sigma"),
    "knet-mismatch",
)
# Methods for `l63fast train --recipe`: those of the preset `encoders`, and two that
# estimate a distribution.
RECIPES: Final[Mapping[str, Table]] = {
    **{
        f"cycled-{name}": {"scheme": "encoder", "model": name}
        for name in ("gru", "lstm", "mlp")
    },
    **{
        f"cycled-gru-{kind}": {"scheme": "encoder", "model": "gru", "uncertainty": kind}
        for kind in ("gaussian", "mixture")
    },
}


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
    """Return a field of `Checked` settings, with a default and a check of its value."""
    metadata = {"check": partial(check, **limits)}
    return dataclasses.field(default=default, metadata=metadata)


class Checked:
    """Frozen settings that check every `limited` field, unless it has its default."""

    def __post_init__(self) -> None:
        """Check the values; a field takes the value that its check returns."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, check = getattr(self, field.name), field.metadata.get("check")
            if check is not None and value is not field.default:
                object.__setattr__(self, field.name, check(field.name, value))


def read_tables(path: str | Path) -> Table:
    """Return the tables of a TOML file.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or is not TOML; the message names a key that is given
        twice.
    """
    try:
        # Some Windows editors write a byte-order mark first; utf-8-sig removes it.
        text = read_file(path, most=LARGEST_TEXT).decode("utf-8-sig")
    except DataFileError as error:  # the message begins with the path already
        raise ConfigurationError(str(error)) from None
    except UnicodeDecodeError:
        reason = "cannot be read: it is not UTF-8 text"
        raise ConfigurationError(f"{path}: {reason}") from None
    try:
        return parse_tables(text)
    except tomllib.TOMLDecodeError as error:
        reason = _toml_mistake(text, error)
    except ValueError as error:  # a number too long, or brackets nested too deep
        reason = f"not valid TOML: {error}"
    raise ConfigurationError(f"{path}: {reason}")


def parse_tables(text: str) -> Table:
    """Return the tables of TOML text.

    Raises
    ------
    ValueError
        If it is not TOML, or tables and lists are nested more than 16 deep.
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
        return f"line {line}: the key {key!r} is given twice in its table"
    if message.startswith("Cannot declare"):
        return f"line {line}: the table {source.strip()} is given twice"
    return f"not valid TOML: {message}: {source.strip()!r}"


def build(settings: type[T], table: Any, *, source: str, key: str) -> T:
    """Return settings with the values of a table; the others have their defaults.

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
        If a key is unknown, or a value has the wrong type or is not allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    _check_keys(settings, table, source, key)
    try:
        # TOML has lists where the settings have tuples. Strict validation accepts that
        # from JSON only.
        text = json.dumps(table, default=str)
        return TypeAdapter(settings).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        place = ".".join([key, *(str(part) for part in first["loc"])])
        what = first["msg"].removeprefix("Input should be ")
        message = f"{place}: expected {what}, got {first['input']!r}"
        if isinstance(cause, L63Error):  # the message of our own check
            message = f"{place}.{cause}"
        elif first["type"] == "missing":
            message = f"{place}: expected a value, got none"
    except L63Error as error:
        message = f"{key}.{error}"
    raise ConfigurationError(f"{source}: {message}")


def _check_keys(settings: type, table: Any, source: str, key: str) -> None:
    """Refuse what is no table, and keys that the settings do not have."""
    if not isinstance(table, Mapping):
        raise ConfigurationError(
            f"{source}: {key}: expected a table [{key}], got {table!r}"
        )
    hints = typing.get_type_hints(settings)
    known = [f.name for f in dataclasses.fields(settings) if f.init]
    for name, value in table.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (known: {', '.join(known)})"
            if close:
                hint = f"; did you mean {close[0]!r}?"
            raise ConfigurationError(f"{source}: {key}.{name}: unknown key{hint}")
        # The settings in a table of their own, which may be optional.
        for inner in (hints[name], *typing.get_args(hints[name])):
            if dataclasses.is_dataclass(inner):
                _check_keys(typing.cast(type, inner), value, source, f"{key}.{name}")


def refuse(refused: Any, place: str, expected: str, got: Any) -> None:
    """Raise a ConfigurationError in one sentence if `refused` is true."""
    if refused:
        raise ConfigurationError(f"{place}: expected {expected}, got {got}")


def refuse_unknown_tables(
    tables: Mapping[str, Any], known: tuple[str, ...], source: str
) -> None:
    """Raise an error for an unknown table, naming its first key, and for no table."""
    for name, table in tables.items():
        if name not in known:
            keys = list(table) if isinstance(table, Mapping) else []
            # The first key names the flag that set it, if one did.
            place = ".".join([name, *keys[:1]])
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean [{close[0]}]?" if close else ""
            raise ConfigurationError(
                f"{source}: {place}: unknown table [{name}]{hint} (known: "
                f"{', '.join(known)})"
            )
        if not isinstance(table, Mapping):
            raise ConfigurationError(
                f"{source}: {name}: expected a table [{name}], got {table!r}"
            )


def merged(tables: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Return tables with the keys of `over` replaced, table by table."""
    result = dict(tables)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def to_table(settings: Any) -> Table:
    """Return settings as a TOML table; left out are None and what others imply."""
    implied = getattr(settings, "implied", ())
    names = [f.name for f in dataclasses.fields(settings) if f.name not in implied]
    pairs = ((name, getattr(settings, name)) for name in names)
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
    """Return a phrase for each setting that is not as asked, also in nested tables."""
    phrases = []
    for name, value in asked.items():
        old = have.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            phrases += differences(old, value, prefix=f"{prefix}{name}.")
        elif _lists(old) != _lists(value):
            phrases.append(f"{prefix}{name} is {old}, not {value}")
    return phrases
