"""The coverage page: a gap that is made in the store of the running demo is seen, and repaired by a click."""

import sqlite3
from contextlib import closing

import pytest
from selenium.webdriver.common.keys import Keys

from admin_client import until
from ingress_common.times import parse_rfc3339

SYMBOL = "BTC/USD"
FIELDS = ("open", "high", "low", "close", "volume", "trades")

pytestmark = pytest.mark.timeout(400)


def lose(demo, candles: list[dict]) -> None:
    """Take closed candles out of the demo's store, as a fault would."""
    times = [int(parse_rfc3339(candle["open_time"])) for candle in candles]
    with closing(sqlite3.connect(demo.store, timeout=30)) as connection, connection:
        for time in times:
            connection.execute(
                "DELETE FROM candles WHERE symbol = ? AND timeframe = '1m' AND open_time = ?", (SYMBOL, time)
            )


def stored(demo, candles: list[dict]) -> int:
    """How many of them the store has."""
    times = [int(parse_rfc3339(candle["open_time"])) for candle in candles]
    query = "SELECT count(*) FROM candles WHERE symbol = ? AND timeframe = '1m' AND closed AND open_time = ?"
    with closing(sqlite3.connect(demo.store, timeout=30)) as connection:
        return sum(connection.execute(query, (SYMBOL, time)).fetchone()[0] for time in times)


def answer_the_question_for_the_token(browser, token: str) -> None:
    browser.until(lambda: browser.all("dialog[open] #token"), 10, "the question for the token")
    browser.press(token, Keys.ENTER)


def test_gap_is_seen_and_repaired_by_a_click(browser, demo):
    # Two that are lost, and known ones on both sides of them.
    until(lambda: len(demo.closed(SYMBOL, "1m")) >= 6, 240, lambda: "six closed minutes")
    lost = demo.closed(SYMBOL, "1m")[1:3]
    # What is still on its way from the start would fill the gap again.
    until(lambda: demo.gaps() == [] and stored(demo, lost) == len(lost), 120, lambda: "nothing to repair")
    # While Kraken's REST is away the gap stays, though everything tries to close it.
    demo.fault("rest_down", 60)
    lose(demo, lost)
    assert stored(demo, lost) == 0
    start = lost[0]["open_time"]
    browser.open("#/coverage")
    browser.until(lambda: browser.find("#audit-now").is_displayed(), 20, "the page")
    browser.click("#audit-now")
    answer_the_question_for_the_token(browser, demo.token)
    gap = f'.strip[data-symbol="{SYMBOL}"] .gap[data-key="{SYMBOL} 1m {start}"]'
    row = f'tr[data-key="{SYMBOL} 1m {start}"]'
    browser.until(lambda: browser.all(gap), 30, "the gap on the page")
    assert browser.attribute("#coverage", "data-mark") == "warn"
    assert "0 of 2 filled" in browser.text(row)

    browser.open(f"#/chart/{SYMBOL.replace('/', '-')}/1m")
    browser.until(lambda: browser.attribute("#chart", "data-gaps") == "2", 40, "two windows of the chart to be gaps")
    browser.open("#/coverage")
    browser.until(lambda: browser.all(gap), 20, "the gap on the page again")
    browser.click(gap)
    browser.until(lambda: f"Requested {SYMBOL}" in browser.text(".page > .notice"), 20, "the notice of the request")
    browser.until(lambda: not browser.all(gap) and not browser.all(row), 120, "the gap to be gone")
    until(lambda: stored(demo, lost) == len(lost), 30, lambda: "the candles in the store")
    # The API may answer from memory what was read before they were lost.
    browser.open(f"#/chart/{SYMBOL.replace('/', '-')}/1m")
    browser.until(lambda: browser.attribute("#chart", "data-gaps") == "0", 40, "a chart without a gap")
    after = {candle["open_time"]: candle for candle in demo.candles(SYMBOL, "1m")}
    for candle in lost:
        assert {f: after[candle["open_time"]][f] for f in FIELDS} == {f: candle[f] for f in FIELDS}


def test_token_dialog_repeats_until_the_token_is_right(browser, demo):
    browser.open("#/coverage")
    browser.until(lambda: browser.find("#audit-now").is_displayed(), 20, "the page")
    browser.run("document.querySelector('#audit-now').focus()")
    browser.press(Keys.ENTER)
    answer_the_question_for_the_token(browser, "wrong")
    browser.until(lambda: "got another one" in browser.text("dialog[open]"), 10, "the reason for asking again")
    browser.press(Keys.ESCAPE)
    browser.until(lambda: not browser.all("dialog"), 10, "the question to be gone")
    assert browser.text(".page > .notice") == ""
    browser.click("#audit-now")
    answer_the_question_for_the_token(browser, demo.token)
    browser.until(lambda: "Requested an audit" in browser.text(".page > .notice"), 10, "the notice of the request")
    browser.click("#audit-now")
    assert not browser.all("dialog")
    # The browser notes what the API refused.
    assert all(" 401 " in line for line in browser.complaints())
