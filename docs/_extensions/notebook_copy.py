"""Writes each executed page as a notebook too, as `mystnb-to-jupyter` does."""

from __future__ import annotations

from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.application import Sphinx

EXECUTED = "file_format: mystnb"


def write_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Write the notebooks without outputs to the folder of the HTML pages."""
    if error is not None or app.builder.format != "html":
        return
    for name in app.env.found_docs:
        page = Path(app.env.doc2path(name))
        text = page.read_text("utf-8")
        if EXECUTED in text[:100]:
            notebook = read_myst_markdown_notebook(text, path=page)
            nbformat.write(notebook, Path(app.outdir, f"{name}.ipynb"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
