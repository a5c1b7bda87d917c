"""One-screen texts and notebook tables of objects that hold arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from html import escape
from typing import Any, Final

import numpy as np

_FEW: Final = 9  # numbers that are shown in full, such as a matrix (3, 3)
_LONGEST: Final = 100  # characters of a value's text


class OneScreen:
    """Shows one line per field: shape and dtype of an array, or a few numbers in full.

    Base class for dataclasses, and for classes that define `_summary`.
    """

    def _summary(self) -> Mapping[str, Any]:
        """Return the values that are shown, by name; the fields of a dataclass."""
        names = (item.name for item in fields(self))  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        rows = {name: shown(value) for name, value in self._summary().items()}
        width = max(map(len, rows))
        lines = (f"  {name:<{width}}  {text}" for name, text in rows.items())
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        """Return the same lines as an HTML table for a notebook."""
        rows = (
            f"<tr><th>{escape(name)}</th><td>{escape(shown(value))}</td></tr>"
            for name, value in self._summary().items()
        )
        title = f"<b>{escape(type(self).__name__)}</b>"
        return "\n".join([title, "<table>", *rows, "</table>"])


def shown(value: Any) -> str:
    """Return a value as text of one line."""
    if isinstance(value, np.ndarray):
        if value.size > _FEW or value.size == 0:
            return f"{value.shape} {value.dtype}"
        text = np.array2string(value, precision=4, separator=", ")
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
