"""The methods of experiments by name, and their tables in settings files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

from l63fast.errors import ConfigurationError
from l63fast.experiments import protocols
from l63fast.experiments.methods import classical, parameters
from l63fast.experiments.methods.encoders import HISTORY, TrainedEncoder, recipe
from l63fast.experiments.methods.optimum import Optimum
from l63fast.experiments.settings_file import build, merged, refuse, to_table
from l63fast.learning.own_model import model_name

__all__ = [
    "HISTORY",
    "METHODS",
    "Method",
    "Optimum",
    "TrainedEncoder",
    "method_from_table",
    "method_table",
]


class Method(Protocol):
    """Settings of a method, a frozen dataclass that can be fitted to a problem.

    Attributes
    ----------
    scheme : str
        Name of the method in a settings file.
    role : {"method", "baseline", "optimum"}
        Only a "method" gets a rank. The "optimum" is the reference for the others.
    """

    scheme: ClassVar[str]
    role: ClassVar[str]

    def fit(self, problem: protocols.Problem) -> protocols.Fitted:
        """Return the method ready to run, after tuning or training if it needs that.

        Only the training and validation splits are used.
        """


METHODS: Final[dict[str, type[Any]]] = {
    method.scheme: method
    for method in (
        *(classical.Background, classical.Climatology, classical.Interpolation),
        *(classical.Variational, classical.FourDimensional),
        *(classical.ExtendedKalmanFilter, classical.EnsembleKalmanFilter),
        *(classical.IterativeSmoother, classical.BootstrapFilter),
        *(Optimum, TrainedEncoder),
        *(parameters.KnownEnsemble, parameters.KnownParticles),
        *(parameters.JointEnsemble, parameters.JointParticles),
    )
}


def method_from_table(table: Any, protocol: str, *, source: str, key: str) -> Method:
    """Return the method that a table describes; its key `scheme` names the class.

    Settings of an encoder that are not given come from the recipe of this package for
    the protocol. The model of an encoder may be a class of your own.

    Raises
    ------
    ConfigurationError
        If there is no such scheme, or a setting is unknown or not allowed.
    """
    if not isinstance(table, Mapping):
        raise ConfigurationError(
            f"{source}: {key}: expected a table [{key}], got {table!r}"
        )
    name: Any = table.get("scheme")
    unknown = not isinstance(name, str) or name not in METHODS
    one = f"one of {', '.join(METHODS)}"
    refuse(unknown, f"{source}: {key}.scheme", one, repr(name))
    unfit = protocol == "windows" and getattr(METHODS[name], "needs_cycles", False)
    expected = "one for single windows, as this one needs cycles"
    refuse(unfit, f"{source}: {key}.scheme", expected, repr(name))
    rest = {k: value for k, value in table.items() if k != "scheme"}
    if name == TrainedEncoder.scheme:
        if callable(rest.get("model")):
            rest["model"] = model_name(rest["model"])
        rest = merged(recipe(protocol, rest), rest)
    method: Method = build(METHODS[name], rest, source=source, key=key)
    return method


def method_table(method: Any) -> dict[str, Any]:
    """Return the table of a method, as `method_from_table` reads it."""
    return {"scheme": method.scheme, **to_table(method)}
