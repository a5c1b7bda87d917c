"""The methods of cycled experiments by name, and the tables that describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from l63fast.errors import ConfigurationError
from l63fast.experiments.cycled.encoders import TrainedEncoder
from l63fast.experiments.cycled.filters import (
    BootstrapFilter,
    EnsembleKalmanFilter,
    ExtendedKalmanFilter,
    Optimum,
)
from l63fast.experiments.cycled.prepared import Method
from l63fast.experiments.cycled.references import (
    Climatology,
    FourDimensional,
    Interpolation,
    Variational,
)
from l63fast.experiments.settings_file import build, to_table

__all__ = ["METHODS", "method_from_table", "method_table"]

METHODS: Final[dict[str, type[Any]]] = {
    method.scheme: method
    for method in (
        *(Climatology, Interpolation, Variational, FourDimensional),
        *(ExtendedKalmanFilter, EnsembleKalmanFilter, BootstrapFilter, Optimum),
        TrainedEncoder,
    )
}


def method_from_table(table: Any, *, source: str, key: str) -> Method:
    """Return a method from its table, whose key `scheme` says which it is.

    Raises
    ------
    ConfigurationError
        If there is no such scheme, or a setting is unknown or makes no sense.
    """
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{source}: {key}: expected a table [{key}]")
    name = table.get("scheme")
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigurationError(
            f"{source}: {key}.scheme: expected one of {', '.join(METHODS)}, got "
            f"{name!r}"
        )
    rest = {k: value for k, value in table.items() if k != "scheme"}
    method: Method = build(METHODS[name], rest, source=source, key=key)
    return method


def method_table(method: Method) -> dict[str, Any]:
    """Return the table that `method_from_table` reads."""
    return {"scheme": method.scheme, **to_table(method)}
