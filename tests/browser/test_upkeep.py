"""The health page on the running demo: repair, gateways, and dead letters that are sent again or dropped."""

import re

import pytest
from selenium.webdriver.common.keys import Keys

from admin_client import until
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl

RAW = "ingress/raw/kraken/BTC-USD/1m"

pytestmark = pytest.mark.timeout(300)


async def publish(url: str, topic: str, payload: bytes) -> None:
    async with MqttBus(MqttUrl.parse(url), client_id="stranger") as bus:
        await (await bus.publish(topic, payload))


def cell(browser, section: str, key: str, label: str) -> str:
    return browser.text(f'[data-section="{section}"] [data-key="{key}"] [data-label="{label}"]')


def test_what_keeps_the_store_true_is_told_and_so_is_kraken(browser, demo):
    browser.open("#/health")
    browser.until(lambda: "last at" in cell(browser, "Repair", "audit", "How it is"), 60, "an audit")
    checked = re.compile(r"[1-9]\d* checks? of [1-9]\d* candles")
    browser.until(lambda: checked.match(cell(browser, "Repair", "self-check", "How it is")), 120, "a self-check")
    assert cell(browser, "Repair", "self-check", "State") == "equal"
    assert "filled since the start" in cell(browser, "Repair", "gaps", "How it is")
    gateway = browser.attribute('[data-section="Kraken"] tbody tr', "data-key")
    assert re.match(r"[1-9]\d* of [1-9]\d* in 10 min", cell(browser, "Kraken", gateway, "Connection attempts"))
    assert cell(browser, "Kraken", gateway, "Clock")
    assert cell(browser, "Kraken", gateway, "Blind for") == "none"
    browser.until(lambda: " for " in cell(browser, "Symbols", "BTC/USD", "Aggregator"), 20, "since when it is owned")


async def test_dead_letter_is_sent_again_and_dropped_by_click(browser, demo):
    nonsense = '{"symbol":"BTC/USD"}'
    await publish(demo.broker, RAW, nonsense.encode())
    until(lambda: any(letter["payload"] == nonsense for letter in demo.letters()), 30, lambda: "a dead letter")
    first = next(letter for letter in demo.letters() if letter["payload"] == nonsense)
    row = f'[data-section="Dead letters"] tr[data-key="{first["id"]}"]'
    browser.open("#/health")
    browser.until(lambda: browser.all(row), 30, "the letter on the page")
    assert nonsense in browser.text(row)

    browser.run("document.querySelector(arguments[0]).focus()", f'{row} [data-label="Send again"] button')
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.all("dialog[open] #token"), 10, "the question for the token")
    browser.press(demo.token, Keys.ENTER)
    browser.until(lambda: not browser.all(row), 20, "the letter to be gone")
    assert f"Sent again on {RAW}" in browser.text('[data-section="Dead letters"] .notice')

    # It is as little use as before, so it comes back, as another letter.
    rows = '[data-section="Dead letters"] tbody tr'
    browser.until(lambda: nonsense in browser.text(rows), 30, "new letters")
    while letters := browser.all(f'{rows} [data-label="Drop"] button'):
        count = len(letters)
        browser.run("arguments[0].click()", letters[0])
        browser.until(lambda known=count: len(browser.all(rows)) < known, 20, "one less")
    assert demo.letters() == []
