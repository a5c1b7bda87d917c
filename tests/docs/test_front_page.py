"""README and gallery: what they promise a reader is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from l63fast import plotting
from pages import DOCS, blocks, page, printed_by

README = (DOCS.parent / "README.md").read_text("utf-8")
GALLERY = sorted(path.stem for path in (DOCS / "gallery").glob("*.md"))
TIMES = re.compile(r"(?<= 0)  +[\d.,]+$|─+| {2,}", re.MULTILINE)


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 130
    for target in re.findall(r"\]\(((?!https:)[^)]+)\)", README):
        name, _, anchor = target.partition("#")
        text = (DOCS.parent / name).read_bytes()
        headings = re.findall(
            r"^#+ (.+)$", text.decode("utf-8", "ignore"), re.MULTILINE
        )
        slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not anchor or anchor in slugs, target


def test_readme_and_front_page_print_what_they_say() -> None:
    (code,), (expected,) = blocks(README, "python"), blocks(README, "text")
    assert blocks(page("index"), "python") == [code]
    assert blocks(page("index"), "text") == [expected]
    assert TIMES.sub(" ", printed_by(code)) == TIMES.sub(" ", expected)


@pytest.mark.parametrize(
    "name", ["howto/from_dapper", "howto/differentiable", "explanation/backgrounds"]
)
def test_a_page_prints_what_it_says(name: str) -> None:
    text, names = page(name), dict[str, Any]()
    printed = "".join(printed_by(code, names) for code in blocks(text, "python"))
    assert printed.split() == "".join(blocks(text, "text")).split()


def test_the_page_on_pandas_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    text, names = page("howto/results"), dict[str, Any]()
    own = blocks(text, "python")[1:-1]  # the first and last read a long experiment
    printed = "".join(printed_by(code, names) for code in own)
    shown = "".join(blocks(text, "text")).split()
    assert printed.split()[: len(shown)] == shown
    assert (tmp_path / "scores.pdf").exists()


def test_every_notebook_is_in_the_gallery_and_can_be_taken_away() -> None:
    index = page("gallery/index")
    for name in (name for name in GALLERY if name != "index"):
        assert f"]({name}.md)" in index
        assert f'<a href="{name}.ipynb" download>' in page(f"gallery/{name}")


def test_fields_that_only_python_describes_are_left_out_of_the_reference() -> None:
    pytest.importorskip("sphinx")  # not among the tests' own needs
    source = DOCS / "_extensions" / "docstrings.py"
    spec = importlib.util.spec_from_file_location("docstrings", source)
    assert spec is not None
    assert spec.loader is not None
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)

    def left_out(member: Any) -> Any:
        return extension.is_bare_field(None, "attribute", "", member, False, None)

    assert left_out(plotting.ErrorGrowth.lead)
    assert left_out(plotting.ErrorGrowth) is None
