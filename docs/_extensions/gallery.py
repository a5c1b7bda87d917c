"""Puts a picture of each gallery page before its entry on the index page."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

INDEX = "gallery/index"
# Which of its pictures stands for a page; the first where it is not here.
CHOSEN = {"distance_sensor": 1, "error_growth": 1, "predictability": 1}


def add_pictures(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Begin each entry of the list with a picture that leads to its page."""
    if docname != INDEX:
        return
    for entry in tree.findall(nodes.list_item):
        link = next(entry.findall(nodes.reference))
        name = link["refuri"].partition(".")[0]
        pictures = list(app.env.get_doctree(f"gallery/{name}").findall(nodes.image))
        drawn = pictures[CHOSEN.get(name, 0)].deepcopy()
        drawn["alt"] = ""  # the words beside it say what it is
        picture = nodes.reference("", "", drawn, refuri=link["refuri"], internal=True)
        entry.insert(0, nodes.paragraph("", "", picture))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", add_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
