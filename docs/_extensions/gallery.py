"""Adds a figure of each gallery page to its entry on the index page."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

INDEX = "gallery/index"
# Index of the figure that is shown for a page; 0 for pages that are not listed.
CHOSEN = {"distance_sensor": 1, "error_growth": 1, "predictability": 1}


def add_pictures(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Begin each entry of the list with a figure that links to its page."""
    if docname != INDEX:
        return
    for entry in tree.findall(nodes.list_item):
        link = next(entry.findall(nodes.reference))
        name = link["refuri"].partition(".")[0]
        pictures = list(app.env.get_doctree(f"gallery/{name}").findall(nodes.image))
        drawn = pictures[CHOSEN.get(name, 0)].deepcopy()
        drawn["alt"] = ""  # the text of the entry describes it
        picture = nodes.reference("", "", drawn, refuri=link["refuri"], internal=True)
        entry.insert(0, nodes.paragraph("", "", picture))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", add_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
