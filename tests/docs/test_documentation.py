"""The pages under docs/: what they must name is there. Sphinx checks the rest in CI."""

from __future__ import annotations

import pytest

import l63fast
from pages import page

KINDS = ("function", "class", "exception")
PAGES = ("system", "schemes", "encoders", "errors", "experiments")
LINES = [line for name in PAGES for line in page(f"reference/{name}").splitlines()]


@pytest.mark.parametrize("name", [name for name in l63fast.__all__ if name[0] != "_"])
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert any(f".. auto{kind}:: l63fast.{name}" in LINES for kind in KINDS)
