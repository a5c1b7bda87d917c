"""One table as text: for a terminal, where numbers are never cut, and as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

__all__ = ["markdown_table", "terminal_table"]

Lines = Sequence[Sequence[str]]


def terminal_table(
    header: Sequence[str],
    lines: Lines,
    *,
    title: str | None = None,
    words: Collection[int] = (0,),
) -> Any:
    """Return a table in which columns of words break where space is short.

    The others, of numbers, keep their width.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    for i, name in enumerate(header):
        texts = [name, *(line[i] for line in lines)]
        if i in words:
            longest = max(len(word) for text in texts for word in text.split() or [""])
            table.add_column(name, min_width=longest)
        else:
            width = max(map(len, texts))
            table.add_column(name, justify="right", no_wrap=True, min_width=width)
    for line in lines:
        table.add_row(*line)
    return table


def markdown_table(
    header: Sequence[str], lines: Lines, *, words: Collection[int] = (0,)
) -> str:
    """Return the same as Markdown, numbers to the right."""
    rule = "".join("---|" if i in words else "--:|" for i in range(len(header)))
    rows = [" | ".join(header), *(" | ".join(line) for line in lines)]
    first, *rest = (f"| {row} |" for row in rows)
    return "\n".join([first, f"|{rule}", *rest])
