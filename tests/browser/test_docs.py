"""`/docs` in a real browser: the API to read and to try out, from admin-api alone."""

import os
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.timeout(300)


def shown(browser) -> int:
    """How many operations the page shows."""
    return len(browser.all(".opblock"))


def test_every_operation_is_shown_and_one_can_be_tried_out(browser):
    paths = httpx.get(f"{browser.base}/openapi.json").json()["paths"]
    operations = sum(len(methods) for methods in paths.values())
    browser.open("docs")
    browser.until(lambda: shown(browser) == operations, 30, f"{operations} operations")
    live = "#operations-health-live_health_live_get"
    browser.click(f"{live} .opblock-summary-control")
    browser.until(lambda: browser.all(f"{live} .try-out__btn"), 10, "the operation's details")
    browser.click(f"{live} .try-out__btn")
    browser.until(lambda: browser.all(f"{live} .execute"), 10, "a button that asks")
    browser.click(f"{live} .execute")
    answer = f"{live} .live-responses-table .response-col_status"
    browser.until(lambda: any("200" in cell.text for cell in browser.all(answer)), 20, "the answer 200")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_fits_its_window_in_the_colours_of_the_system(browser, tmp_path, width, scheme):
    browser.size(width, 900)
    browser.prefer(scheme)
    browser.open("docs")
    browser.until(lambda: shown(browser), 30, "operations")
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    browser.picture(folder / f"docs-{width}-{scheme}.png")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    dark = browser.run("return getComputedStyle(document.documentElement).colorScheme") == "dark"
    assert dark == (scheme == "dark")
