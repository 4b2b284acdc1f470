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


def test_audit_repair_and_gateways_are_shown(browser, demo):
    browser.open("#/health")
    browser.until(lambda: "last at" in cell(browser, "Repair", "audit", "Details"), 60, "an audit")
    checked = re.compile(r"[1-9]\d* checks? of [1-9]\d* candles")
    browser.until(lambda: checked.match(cell(browser, "Repair", "self-check", "Details")), 120, "a self-check")
    assert cell(browser, "Repair", "self-check", "State") == "equal"
    assert "filled since the start" in cell(browser, "Repair", "gaps", "Details")
    gateway = browser.attribute('[data-section="Kraken"] tbody tr', "data-key")
    assert re.match(r"[1-9]\d* of [1-9]\d* in 10 min", cell(browser, "Kraken", gateway, "Connection attempts"))
    assert cell(browser, "Kraken", gateway, "Clock")
    assert cell(browser, "Kraken", gateway, "Stale subscriptions") == "none"
    browser.until(lambda: " for " in cell(browser, "Symbols", "BTC/USD", "Aggregator"), 20, "since when it is owned")


async def test_dead_letter_is_resent_and_dropped_by_click(browser, demo):
    nonsense = '{"symbol":"BTC/USD"}'
    await publish(demo.broker, RAW, nonsense.encode())
    until(lambda: len(demo.dead_letters()) == 2, 30, lambda: f"one of each reader, got {demo.dead_letters()}")
    first = demo.dead_letters()[0]
    row = f'[data-section="Dead letters"] tr[data-key="{first["id"]}"]'
    browser.open("#/health")
    browser.until(lambda: browser.all(row), 30, "the dead letter on the page")
    assert nonsense in browser.text(row)

    browser.run("document.querySelector(arguments[0]).focus()", f'{row} [data-label="Resend"] button')
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.all("dialog[open] #token"), 10, "the question for the token")
    browser.press(demo.token, Keys.ENTER)
    browser.until(lambda: not browser.all(row), 20, "the dead letter to be gone")
    assert f"Resent on {RAW}" in browser.text('[data-section="Dead letters"] .notice')

    # It is as little use as before, so both of its readers write another dead letter.
    until(lambda: len(demo.dead_letters()) == 3, 30, lambda: f"three dead letters, got {demo.dead_letters()}")
    for dead_letter in demo.dead_letters():
        row = f'[data-section="Dead letters"] tr[data-key="{dead_letter["id"]}"]'
        browser.until(lambda wanted=row: browser.all(wanted), 20, "the dead letter on the page")
        browser.run("document.querySelector(arguments[0]).click()", f'{row} [data-label="Drop"] button')
        browser.until(lambda dropped=row: not browser.all(dropped), 20, "the dead letter to be gone")
    assert demo.dead_letters() == []
