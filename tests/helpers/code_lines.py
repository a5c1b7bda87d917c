"""Counts code: lines that are not blank, no comment and in no docstring.

`python tests/helpers/code_lines.py` prints the number of each folder of the package.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path
from typing import Final

__all__ = ["PACKAGE", "code_lines", "folders"]

PACKAGE: Final = Path(__file__).resolve().parents[2] / "python"
_NO_CODE: Final = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
_DOCUMENTED: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(text: str) -> int:
    """Return how many lines of a module are code."""
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            first = node.body[0]
            documentation |= set(range(first.lineno, (first.end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documentation)


def folders(root: Path = PACKAGE) -> Counter[str]:
    """Return the code lines of a folder and of each folder in it, all levels summed."""
    found: Counter[str] = Counter()
    for path in root.rglob("*.py"):
        n = code_lines(path.read_text("utf-8"))
        for parent in path.relative_to(root).parents:
            found[str(parent)] += n
    return found


if __name__ == "__main__":
    for name, n in folders().most_common():
        print(f"{n:7,d}  {name}")
