"""Many dashboards in one browser: over HTTP/1.1 it has six connections to a host for all of them."""

import time

import pytest

from chromium import LAN_HOST, browser_on

pytestmark = pytest.mark.timeout(300)

WINDOWS = 7
_FETCH = """
const [path, done] = arguments;
fetch(path, { cache: "no-store", signal: AbortSignal.timeout(10000) }).then(
  (answer) => done(answer.status), (error) => done(String(error)));
"""


@pytest.mark.parametrize("host", ["127.0.0.1", LAN_HOST])
def test_more_dashboards_than_connections_do_not_block_each_other(demo, tmp_path, host):
    base = demo.base.replace("127.0.0.1", host)
    with browser_on(base, tmp_path / "profile") as browser:
        for number in range(WINDOWS):
            if number:
                browser.driver.switch_to.new_window("window")
            browser.open("#/chart/BTC-USD/1m")
            browser.until(lambda: browser.attribute("#chart", "data-windows"), 30, f"candles in window {number + 1}")
        states = []
        for handle in browser.driver.window_handles:
            browser.driver.switch_to.window(handle)
            assert not browser.run("return document.hidden")
            assert browser.driver.execute_async_script(_FETCH, "symbols") == 200
            browser.until(lambda: state(browser) in ("live", "polling"), 30, "events or polling")
            states.append(state(browser))
        assert "live" in states
        assert states.count("live") <= 3
        # One that gives its stream back makes room for another one.
        live = browser.driver.window_handles[states.index("live")]
        browser.driver.switch_to.window(live)
        browser.driver.close()
        others = [handle for handle, was in zip(browser.driver.window_handles, states, strict=False) if was]
        deadline = time.monotonic() + 60
        while True:
            found = []
            for handle in others:
                browser.driver.switch_to.window(handle)
                found.append(state(browser))
            if found.count("live") == 3:
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.5)


def state(browser) -> str | None:
    return browser.attribute("#live", "data-state")
