"""The report in a headless Chromium: no errors, sorts, filters, fits, shows all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# What leaves the window and does not scroll inside a frame of its own.
OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter((e) => {
  const frame = e.parentElement.closest(".scroll, pre, nav ul");
  const box = e.getBoundingClientRect();
  return !frame && box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map((e) => e.outerHTML.slice(0, 80))"""
COLUMN = """(i) => [...document.querySelectorAll("#board tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.cells[i].dataset.value)"""
BROKEN = """() => [...document.images].filter((i) => !i.complete || !i.naturalWidth)
  .map((i) => i.alt)"""

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (the extra [test])"
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on this machine"
)


@pytest.fixture(scope="module")
def address(reported: Path) -> str:
    return (reported / "report" / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


def opened(browser: Any, address: str, width: int, **how: Any) -> tuple[Any, list[str]]:
    """Return the open page and what its console complained of."""
    page = browser.new_page(viewport={"width": width, "height": 844}, **how)
    told: list[str] = []
    page.on("console", lambda m: told.append(m.text) if m.type != "log" else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda r: told.append(r.url) if is_outside(r.url) else None)
    page.goto(address)
    return page, told


def until(page: Any, expression: str) -> None:
    """Wait for an expression; the page's policy forbids playwright's own way."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def is_outside(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_it_loads_without_a_complaint_and_nothing_overflows(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    page, told = opened(browser, address, width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
    assert page.evaluate(OVERFLOWING) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.images.length") > 10
    until(page, "[...document.images].every((i) => i.complete)")
    assert page.evaluate(BROKEN) == []
    frames = page.locator(".scroll:has(table, figure img)")
    for frame in frames.all():
        rest = frame.evaluate("(e) => e.scrollWidth - e.clientWidth")
        fades = "more-right" in (frame.get_attribute("class") or "")
        assert fades == (rest > 1), frame.inner_text()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 27)")
    assert told == []
    page.close()


def test_a_table_shows_that_it_goes_on(browser: Any, address: str) -> None:
    page, told = opened(browser, address, 390)
    frame = "document.querySelector('.scroll:has(#board)')"
    for left, (before, after) in ((0, (0, 1)), (30, (1, 1)), (9999, (1, 0))):
        page.evaluate(f"{frame}.scrollLeft = {left}")
        for name, expected in (("left", before), ("right", after)):
            has = f"{frame}.classList.contains('more-{name}')"
            until(page, f"{has} === {'true' if expected else 'false'}")
    mask = page.evaluate(f"getComputedStyle({frame}).maskImage")
    assert "gradient" in mask
    assert told == []
    page.close()


def test_a_header_sorts_up_and_down(browser: Any, address: str) -> None:
    page, told = opened(browser, address, 1440)
    heads = page.locator("#board thead button").all_inner_texts()
    score, method = heads.index("rmse_a"), heads.index("method")
    for column, key in ((score, float), (method, str.lower)):
        page.locator("#board thead button").nth(column).click()
        up = [key(value) for value in page.evaluate(COLUMN, column)]
        assert up == sorted(up)
        page.locator("#board thead button").nth(column).click()
        down = [key(value) for value in page.evaluate(COLUMN, column)]
        assert down == sorted(down, reverse=True)
        assert len(down) == 12
    assert page.locator('th[aria-sort="descending"]').inner_text().startswith("method")
    assert told == []
    page.close()


def test_filters_leave_what_was_asked_for(browser: Any, address: str) -> None:
    page, told = opened(browser, address, 390)
    heads = page.locator("#board thead button").all_inner_texts()
    method = heads.index("method")
    page.fill("#filters input", "enkf")
    assert set(page.evaluate(COLUMN, method)) == {"EnKF, N=5"}
    assert page.inner_text("#count") == "4 of 12 rows"
    page.select_option("#filters select >> nth=0", "x²")
    assert page.inner_text("#count") == "2 of 12 rows"
    page.fill("#filters input", "")
    page.select_option("#filters select >> nth=0", "")
    assert len(page.evaluate(COLUMN, method)) == 12
    assert page.inner_text("#count") == ""
    assert told == []
    page.close()


def test_the_navigation_leads_to_its_sections(browser: Any, address: str) -> None:
    page, _ = opened(browser, address, 1440)
    page.click('nav a[href="#timing"]')
    top = "document.querySelector('#timing').getBoundingClientRect().top"
    until(page, f"Math.abs({top}) < 200")
    assert page.locator("nav").bounding_box()["y"] == pytest.approx(0.0, abs=1.0)
    page.close()
