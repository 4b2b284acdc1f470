"""A real Chromium, and what the tests ask of a page in it."""

import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from servers import missing

LAN_HOST = "ingress.test"
"""A name of this machine that is no secure context over HTTP, like that of another machine."""
_FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    f"--host-resolver-rules=MAP {LAN_HOST} 127.0.0.1",
)
_LOCAL = ("data", "blob", "about", "chrome")


class Browser:
    """A window on the dashboard at `base`."""

    def __init__(self, driver: webdriver.Chrome, base: str) -> None:
        self.driver = driver
        self.base = base
        self.hosts: set[str] = set()

    def open(self, route: str = "") -> None:
        self.driver.get(f"{self.base}/{route}")

    def size(self, width: int, height: int) -> None:
        """Of the page, which may be narrower than a window can be."""
        self._cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """What the system says of colours: light or dark."""
        self._cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    @contextmanager
    def blocked(self, pattern: str) -> Iterator[None]:
        """Nothing whose address is like `pattern` is reached meanwhile."""
        self._cdp("Network.enable")
        self._cdp("Network.setBlockedURLs", urls=[pattern])
        try:
            yield
        finally:
            self._cdp("Network.setBlockedURLs", urls=[])

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """The text of the element, hidden or not; empty if there is none."""
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def attribute(self, selector: str, name: str) -> str | None:
        return self.run("return document.querySelector(arguments[0])?.getAttribute(arguments[1])", selector, name)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def rest_pointer(self) -> None:
        """Put the mouse where nothing is, as it hovers over whatever comes under it."""
        actions = ActionBuilder(self.driver)
        actions.pointer_action.move_to_location(0, 0)
        actions.perform()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Any], seconds: float, expected: str) -> Any:
        """Wait for `condition`; what it gave."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if outcome := condition():
                    return outcome
            except StaleElementReferenceException:
                # The page has changed under the question; the next one is of the new page.
                pass
            assert time.monotonic() < deadline, f"expected {expected} within {seconds} s; the page: {self.text('body')}"
            time.sleep(0.1)

    def picture(self, path: Path | None = None) -> bytes:
        """A picture of the page, kept at `path`."""
        picture = base64.b64decode(self.driver.get_screenshot_as_base64())
        if path is not None:
            path.write_bytes(picture)
        return picture

    def colours(self) -> dict[str, int]:
        """How many pixels of the chart's canvases have each colour, as `r,g,b`; only opaque ones count."""
        return self.run(
            """
            const found = {};
            for (const canvas of document.querySelectorAll("#chart canvas")) {
              if (canvas.width === 0 || canvas.height === 0) continue;
              const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              for (let i = 0; i < data.length; i += 4) {
                if (data[i + 3] !== 255) continue;
                const key = `${data[i]},${data[i + 1]},${data[i + 2]}`;
                found[key] = (found[key] ?? 0) + 1;
              }
            }
            return found;
            """
        )

    def colour(self, name: str) -> str:
        """A colour of the style sheet, as `r,g,b`."""
        value = self.run(
            "return getComputedStyle(document.documentElement).getPropertyValue(`--${arguments[0]}`).trim()", name
        )
        return ",".join(str(int(value[i : i + 2], 16)) for i in (1, 3, 5))

    def complaints(self) -> list[str]:
        """What the console holds that is worse than a note, since the last question."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requested_hosts(self) -> set[str]:
        """Every host and port that the page has asked for anything."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                address = message["params"].get("request", message["params"])["url"]
                parts = urlsplit(address)
                if parts.scheme not in _LOCAL:
                    self.hosts.add(parts.netloc)
        return self.hosts

    def _cdp(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)


@contextmanager
def browser_on(base: str, profile: Path) -> Iterator[Browser]:
    """A Chromium of its own with an empty `profile`; skips where there is none."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if binary is None or chromedriver is None:
        missing("Chromium", "install the packages chromium and chromium-driver")
    options = Options()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={profile}", "--window-size=1440,900"):
        options.add_argument(flag)
    if os.getuid() == 0:
        # Its sandbox refuses to work for root.
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield Browser(driver, base)
    finally:
        driver.quit()
