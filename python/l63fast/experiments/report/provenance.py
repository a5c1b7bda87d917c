"""Where every number comes from: settings, versions, data, machine, date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l63fast.experiments.settings_file import dump_tables

__all__ = ["Settings", "origins", "settings_of"]


@dataclass(frozen=True)
class Settings:
    """The settings that all cells share, and those of each that differ, as TOML."""

    common: str
    differing: dict[str, str]


def origins(results: Sequence[Any]) -> list[dict[str, str]]:
    """Return one row per cell: where, when and with what it was made."""
    return [
        {
            "cell": result.settings.name,
            "data": str(result.metrics["data"].get("test", "")),
            **{
                package: str(version)
                for package, version in result.metrics["versions"].items()
            },
            "python": str(result.timing["python"]),
            "backend": str(result.timing["backend"]),
            "machine": str(result.timing["machine"]),
            "platform": str(result.timing["platform"]),
            "started": str(result.timing["started"]),
            "seconds": f"{_seconds(result.timing['seconds']):.1f}",
        }
        for result in results
    ]


def _seconds(seconds: Mapping[str, Any]) -> float:
    """Return what a cell took: its stages, without the times per analysis in them."""
    return float(sum(seconds.get(stage, 0.0) for stage in ("fit", "run", "score")))


def settings_of(results: Sequence[Any]) -> Settings:
    """Return what the cells share, and what each has of its own."""
    flat = {r.settings.name: _flat(r.settings.to_tables()) for r in results}
    rows = list(flat.values())
    common = {
        key: value
        for key, value in rows[0].items()
        if all(key in row and row[key] == value for row in rows)
    }
    differing = {
        name: dump_tables(_nested({k: v for k, v in row.items() if k not in common}))
        for name, row in flat.items()
    }
    return Settings(dump_tables(_nested(common)), differing)


def _flat(tables: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= _flat(value, (*path, key))
        else:
            found[(*path, key)] = value
    return found


def _nested(flat: Mapping[Any, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for path, value in flat.items():
        table = tables
        for key in path[:-1]:
            table = table.setdefault(key, {})
        table[path[-1]] = value
    return tables
