"""The chart in a real browser on the running demo."""

import pytest
from selenium.webdriver.common.keys import Keys

from ingress_common.times import rfc3339
from old_symbol import OLD, OLD_HOLE, OLD_INCOMPLETE, OLD_MINUTES, OLD_START

FIELDS = ("open", "high", "low", "close", "volume", "vwap", "trades")

pytestmark = pytest.mark.timeout(300)


def windows(browser) -> int:
    return int(browser.attribute("#chart", "data-windows") or 0)


def show(browser, symbol: str, timeframe: str) -> None:
    """Open a chart and wait until it has candles."""
    browser.open(f"#/chart/{symbol.replace('/', '-')}/{timeframe}")
    browser.until(lambda: charted(browser, symbol, timeframe), 30, f"candles of {symbol} {timeframe}")


def charted(browser, symbol: str, timeframe: str) -> bool:
    label = browser.attribute("#chart", "aria-label") or ""
    return label.startswith(f"Candles of {symbol} {timeframe},") and windows(browser) > 0


def live_state(browser) -> str | None:
    return browser.attribute("#live", "data-state")


def readout(browser) -> dict[str, str]:
    """The candle that the page shows, as text; taken at one moment."""
    return browser.run(
        """
        const field = (name) => document.querySelector(`[data-field="${name}"]`);
        const candle = Object.fromEntries([...arguments[0], "remarks"].map((name) => [name, field(name).textContent]));
        return {...candle, open_time: field("open_time").getAttribute("datetime")};
        """,
        FIELDS,
    )


def test_chart_of_the_first_symbol_is_drawn_and_moves_by_itself(browser):
    browser.open()
    browser.until(lambda: charted(browser, "BTC/USD", "1m"), 30, "candles of BTC/USD 1m")
    browser.until(lambda: live_state(browser) == "live", 30, "a live chart")
    drawn = browser.until(
        lambda: (c := browser.colours()).get(browser.colour("up"), 0) + c.get(browser.colour("down"), 0), 10, "candles"
    )
    assert drawn > 100
    before, picture = readout(browser), browser.find("#chart").screenshot_as_png
    browser.until(lambda: readout(browser)["trades"] != before["trades"], 60, "more trades in the newest candle")
    browser.until(lambda: browser.find("#chart").screenshot_as_png != picture, 10, "another picture")


def test_symbol_and_timeframe_are_switched_by_mouse_without_a_reload(browser):
    show(browser, "BTC/USD", "1m")
    browser.run("window.stillHere = true")
    browser.click('[data-timeframe="15m"]')
    browser.until(lambda: charted(browser, "BTC/USD", "15m"), 20, "BTC/USD 15m")
    browser.click("#symbol")
    browser.click('[data-symbol="ETH/USD"]')
    browser.until(lambda: charted(browser, "ETH/USD", "15m"), 20, "ETH/USD 15m")
    assert browser.run("return window.stillHere")
    assert browser.driver.current_url.endswith("#/chart/ETH-USD/15m")
    browser.driver.back()
    browser.until(lambda: charted(browser, "BTC/USD", "15m"), 20, "BTC/USD 15m again")
    assert browser.run("return window.stillHere")


def test_any_symbol_is_found_by_keyboard_alone(browser):
    show(browser, "BTC/USD", "1m")
    browser.press("/")
    browser.press("old")
    assert [option.text for option in browser.all("#symbols [role=option]")] == [f"{OLD}\nnot live"]
    browser.press(Keys.ENTER)
    browser.until(lambda: charted(browser, OLD, "1m"), 20, OLD)
    browser.press("/")
    browser.press("usd", Keys.DOWN, Keys.ESCAPE)
    assert browser.run("return document.querySelector('#symbol').value") == OLD


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1h", "4h", "1d", "1w"])
def test_numbers_are_those_of_the_api_digit_for_digit(browser, demo, timeframe):
    for symbol in ("BTC/USD", "DOGE/USD"):
        show(browser, symbol, timeframe)
        browser.run("document.querySelector('#chart').focus()")
        browser.press(Keys.ARROW_LEFT)
        for _ in range(4):
            browser.press(Keys.ARROW_LEFT)
            shown = readout(browser)
            candle = demo.candle(symbol, timeframe, shown["open_time"])
            assert candle["closed"]
            assert {field: shown[field] for field in FIELDS} == {field: candle[field] for field in FIELDS}
            assert browser.text('[data-field="open_time"]').endswith(" UTC")


def test_newest_candle_shows_a_state_that_the_api_gave(browser, demo):
    show(browser, "BTC/USD", "1m")

    def agrees() -> bool:
        """The forming candle moves, so both are read until they were the same at one moment."""
        candle, shown = demo.candles("BTC/USD", "1m", limit=1)[0], readout(browser)
        return all(candle[field] == shown[field] for field in (*FIELDS, "open_time"))

    browser.until(agrees, 30, "the newest candle of the API")


def test_infilled_incomplete_and_missing_candles_are_marked(browser, demo):
    show(browser, OLD, "1m")
    assert browser.attribute("#chart", "data-gaps") == str(len(OLD_HOLE))
    legend = browser.text(".legend")
    for word in ("infilled: no trades", "incomplete", "gap: missing", "forming"):
        assert word in legend
    colours = browser.colours()
    for kind in ("infilled", "incomplete"):
        assert colours.get(browser.colour(kind), 0) > 0, kind
    browser.run("document.querySelector('#chart').focus()")
    expected = {
        OLD_START + 60 * OLD_INCOMPLETE: "incomplete",
        OLD_START + 60 * OLD_HOLE[0]: "gap",
        OLD_START + 60 * next(m for m in range(OLD_MINUTES - 1, 0, -1) if m % 7 == 3): "infilled",
    }
    seen: dict[str, str] = {}
    for _ in range(OLD_MINUTES - OLD_HOLE[0]):
        browser.press(Keys.ARROW_LEFT)
        shown = readout(browser)
        seen[shown["open_time"]] = shown["remarks"]
    for time, word in expected.items():
        assert word in seen[rfc3339(time)]


def test_scrolling_back_loads_older_candles(browser, demo):
    show(browser, OLD, "1m")
    assert windows(browser) < 600
    browser.run("document.querySelector('#chart').focus()")
    before = 0
    while windows(browser) != before:
        before = windows(browser)
        browser.press(Keys.HOME)
        if before < OLD_MINUTES:
            browser.until(lambda known=before: windows(browser) > known, 20, "older candles")
    assert windows(browser) == OLD_MINUTES
    browser.press(Keys.HOME)
    shown = readout(browser)
    assert shown["open_time"] == rfc3339(OLD_START)
    candle = demo.candle(OLD, "1m", shown["open_time"])
    assert {field: shown[field] for field in FIELDS} == {field: candle[field] for field in FIELDS}


def test_chart_reports_an_unknown_symbol(browser):
    browser.open("#/chart/NONE-SUCH/1m")
    browser.until(lambda: "unknown symbol" in browser.text(".stage .notice"), 20, "a reason")
    # The browser notes the 404 by itself.
    assert all("404" in complaint for complaint in browser.complaints())
    show(browser, "BTC/USD", "1m")
    assert not browser.find(".stage .notice").is_displayed()
    browser.complaints()


def test_chart_polls_without_an_event_stream(browser):
    with browser.blocked("*/stream*"):
        show(browser, "BTC/USD", "1m")
        browser.until(lambda: live_state(browser) == "polling", 30, "the chart to ask by itself")
        before = readout(browser)
        browser.until(lambda: readout(browser) != before, 60, "a change nevertheless")
    browser.until(lambda: live_state(browser) == "live", 40, "a live chart again")
    assert all("/stream" in complaint for complaint in browser.complaints())


def test_correction_replaces_the_displayed_candle(browser, demo):
    symbol = "ETH/USD"
    show(browser, symbol, "1m")
    browser.until(lambda: live_state(browser) == "live", 30, "a live chart")
    # A trade of the present minute that Kraken's WebSocket does not tell of, and REST only later.
    demo.fault("rest_revision", 1, symbol=symbol)
    browser.until(lambda: "rest_revision" not in demo.faults(), 90, "Kraken to know of the trade")
    seen = demo.truth(symbol)
    # Another minute may have closed since.
    newest = [candle for candle in demo.closed(symbol, "1m")[-3:] if candle["open_time"] in seen]
    wrong = next(c for c in reversed(newest) if float(seen[c["open_time"]]["high"]) > float(c["high"]))
    browser.run("document.querySelector('#chart').focus()")
    browser.press(Keys.ARROW_LEFT)
    for _ in range(5):
        browser.press(Keys.ARROW_LEFT)
        if readout(browser)["open_time"] == wrong["open_time"]:
            break
    assert readout(browser)["open_time"] == wrong["open_time"]
    # Only the event stream can tell it now.
    with browser.blocked("*/candles/*"):
        demo.repair(symbol=symbol, **{"from": wrong["open_time"], "to": wrong["close_time"]})
        browser.until(lambda: "revision" in readout(browser)["remarks"], 90, "the correction on the chart")
    right = demo.candle(symbol, "1m", wrong["open_time"])
    assert right["high"] == seen[wrong["open_time"]]["high"]
    shown = readout(browser)
    assert {field: shown[field] for field in FIELDS} == {field: right[field] for field in FIELDS}
    assert all("/candles/" in complaint for complaint in browser.complaints())
