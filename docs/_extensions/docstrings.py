"""Corrects how Sphinx reads our docstrings: |x| is a norm, and (n, 3) a shape.

Fields of a named tuple without a docstring are left out: the docstring of the tuple
explains them.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

AFTER_NAPOLEON = 600
LITERAL = re.compile(r"(``.*?``|`.*?`)")
TYPE = re.compile(r"\s*:(?:var)?type ")
SHAPE = re.compile(r"(?<!`)(\([^)]*\))")


def plain(app: Sphinx, kind: str, name: str, obj: Any, *more: Any) -> None:
    """Mark shapes as literals, not cross-references, and escape vertical bars."""
    lines: list[str] = more[-1]
    for i, line in enumerate(lines):
        if TYPE.match(line):
            line = SHAPE.sub(r"``\1``", line)
        parts = LITERAL.split(line)
        lines[i] = "".join(
            part if part.startswith("`") else part.replace("|", r"\|") for part in parts
        )


def is_bare_field(
    app: Sphinx, kind: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Return True for a field with Python's own "Alias for field number"."""
    return True if (obj.__doc__ or "").startswith("Alias for field") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", plain, priority=AFTER_NAPOLEON)
    app.connect("autodoc-skip-member", is_bare_field)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
