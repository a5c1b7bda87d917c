"""The pages under docs/: what they must name is there. Sphinx checks the rest in CI."""

from __future__ import annotations

import pytest

import l63fast
from pages import page

KINDS = ("function", "class", "exception")
PAGES = ("system", "schemes", "encoders", "errors", "experiments")
LINES = [line for name in PAGES for line in page(f"reference/{name}").splitlines()]


@pytest.mark.parametrize("name", l63fast._HOMES)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert any(f".. auto{kind}:: l63fast.{name}" in LINES for kind in KINDS)
