"""Puts the tutorial beside its page as a notebook, as `mystnb-to-jupyter` does."""

from __future__ import annotations

from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.application import Sphinx

PAGE = "tutorial"


def write_notebook(app: Sphinx, error: Exception | None) -> None:
    """Write the notebook, not executed, where its page was built as HTML."""
    if error is None and app.builder.format == "html":
        page = Path(app.srcdir, f"{PAGE}.md")
        notebook = read_myst_markdown_notebook(page.read_text("utf-8"), path=page)
        nbformat.write(notebook, Path(app.outdir, f"{PAGE}.ipynb"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", write_notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
