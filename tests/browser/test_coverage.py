"""The coverage page: a gap that is made in the store of the running demo is seen, and repaired by a click."""

import sqlite3
from contextlib import closing

import pytest
from selenium.webdriver.common.keys import Keys

from ingress_common.times import parse_rfc3339, rfc3339
from old_symbol import OLD, OLD_HOLE, OLD_START

SYMBOL = "BTC/USD"
FIELDS = ("open", "high", "low", "close", "volume", "trades")

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(autouse=True)
def _repairs(demo) -> None:
    if not demo.has("/gaps"):
        pytest.skip("this version has no GET /gaps")


def lose(demo, candles: list[dict]) -> None:
    """Take closed candles out of the demo's store, as a fault would."""
    times = [int(parse_rfc3339(candle["open_time"])) for candle in candles]
    with closing(sqlite3.connect(demo.store, timeout=30)) as connection, connection:
        for time in times:
            connection.execute(
                "DELETE FROM candles WHERE symbol = ? AND timeframe = '1m' AND open_time = ?", (SYMBOL, time)
            )


def settled_minutes(demo) -> list[dict]:
    return [candle for candle in demo.candles(SYMBOL, "1m") if candle["closed"]]


def lost_gap(symbol: str, start: str) -> str:
    return f'.strip[data-symbol="{symbol}"] .gap[data-key="{symbol} 1m {start}"]'


def test_gap_is_seen_and_repaired_by_a_click(browser, demo):
    before = settled_minutes(demo)
    assert len(before) >= 8
    lost = before[3:6]
    lose(demo, lost)
    start = lost[0]["open_time"]
    browser.open("#/coverage")
    browser.until(lambda: browser.all(lost_gap(SYMBOL, start)), 180, "the gap on the page")
    assert browser.attribute("#coverage", "data-mark") == "warn"
    assert browser.all(f'[data-key="{SYMBOL} 1m {start}"] button')

    browser.click(lost_gap(SYMBOL, start))
    browser.until(lambda: browser.all("dialog[open] #token"), 10, "the question for the token")
    browser.press(demo.token, Keys.ENTER)
    browser.until(lambda: "Asked for" in browser.text(".page > .notice"), 20, "word that it was asked for")
    browser.until(lambda: not browser.all(lost_gap(SYMBOL, start)), 90, "the gap to be gone")
    after = {candle["open_time"]: candle for candle in demo.candles(SYMBOL, "1m")}
    for candle in lost:
        assert {f: after[candle["open_time"]][f] for f in FIELDS} == {f: candle[f] for f in FIELDS}


def test_token_is_asked_for_again_where_it_is_refused_and_a_reason_is_shown_where_nothing_can_be_done(browser, demo):
    browser.open("#/coverage")
    browser.click('[data-span="31536000"]')
    repair = f'[data-key="{OLD} 1m {rfc3339(OLD_START + 60 * OLD_HOLE[0])}"] button'
    browser.until(lambda: browser.all(repair), 180, "the gap of a symbol that nobody carries")
    browser.run("document.querySelector(arguments[0]).focus()", repair)
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.all("dialog[open] #token"), 10, "the question for the token")
    browser.press("wrong", Keys.ENTER)
    browser.until(lambda: "got another one" in browser.text("dialog[open]"), 10, "the reason for asking again")
    browser.press(demo.token, Keys.ENTER)
    browser.until(lambda: OLD in browser.text(".page > .notice"), 20, "an answer")
    assert not browser.all("dialog")
    # The browser notes what the API refused.
    assert all(" 401 " in line or " 503 " in line for line in browser.complaints())
