"""How the pages look: pictures at the width of a desk and of a phone, light and dark, and what can be said of them."""

import os
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

PAGES = {"chart": "#/chart/BTC-USD/1m", "health": "#/health", "coverage": "#/coverage"}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Where pictures go: SCREENSHOTS, if somebody wants to look at them."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_page_fits_its_window_in_the_colours_of_the_system(browser, pictures, page, width, scheme):
    browser.size(width, 900)
    browser.prefer(scheme)
    browser.open(PAGES[page])
    if page == "chart":
        browser.until(lambda: (browser.attribute("#chart", "data-windows") or "0") != "0", 30, "candles")
    else:
        browser.until(lambda: browser.attribute(".verdict", "data-mark"), 30, "a verdict")
    browser.picture(pictures / f"{page}-{width}-{scheme}.png")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    too_wide = browser.run(
        """
        return [...document.querySelectorAll("header *, main :is(h1, h2, p, button, input, dl, dt, dd, td, th, li)")]
          .filter((element) => element.checkVisibility())
          .filter((element) => element.closest(".hidden, .skip, thead, #chart") === null)
          .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
          .map((element) => element.outerHTML.slice(0, 100));
        """
    )
    assert too_wide == []
    back, text = (luminance(browser, name) for name in ("background-color", "color"))
    assert (back > 0.8) == (scheme == "light")
    assert (max(back, text) + 0.05) / (min(back, text) + 0.05) >= 7


def luminance(browser, name: str) -> float:
    """The relative luminance (WCAG 2) of a colour of the page's body."""
    value = browser.run("return getComputedStyle(document.body).getPropertyValue(arguments[0])", name)
    red, green, blue = (int(part) / 255 for part in value[value.index("(") + 1 : -1].split(",")[:3])
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_reader_chooses_light_or_dark_and_the_choice_stays(browser):
    browser.open("#/chart/BTC-USD/1m")
    assert browser.attribute("html", "data-theme") == "light"
    browser.click("#theme")
    assert browser.attribute("html", "data-theme") == "dark"
    browser.driver.refresh()
    assert browser.attribute("html", "data-theme") == "dark"
    browser.click("#theme")
    assert browser.attribute("html", "data-theme") == "light"


def test_every_page_is_reached_by_keyboard(browser):
    for page in ("Chart", "Coverage", "Health"):
        browser.open("")
        browser.run("document.activeElement.blur()")
        for _ in range(12):
            browser.press(Keys.TAB)
            if browser.run("return document.activeElement.textContent") == page:
                break
        browser.press(Keys.ENTER)
        browser.until(lambda title=page: browser.text("h1") == title, 10, f"the page {page}")
        assert browser.attribute("nav [aria-current]", "id") == f"to-{page.lower()}"


def test_every_control_has_a_name(browser):
    for address in PAGES.values():
        browser.open(address)
        browser.until(lambda: browser.all("main h1"), 10, "a page")
        nameless = browser.run(
            """
            const named = (element) => element.textContent.trim() || element.ariaLabel || element.labels?.length;
            return [...document.querySelectorAll("button, input, a[href], [role=combobox], [tabindex='0']")]
              .filter((element) => !named(element))
              .map((element) => element.outerHTML.slice(0, 100));
            """
        )
        assert nameless == []
