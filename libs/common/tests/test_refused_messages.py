"""While the broker refuses what a service publishes, the bus has a problem that names it."""

import asyncio

import pytest
from memory_broker import MemoryBroker, MemoryBus
from structlog.testing import capture_logs

from ingress_common.bus import BusError
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.refusals import Refusals
from ingress_common.bus.url import MqttUrl
from ingress_common.health import broker_check
from servers import FOLDER
from waiting import until


async def publish(bus: MemoryBus, topic: str) -> None:
    await (await bus.publish(topic, b"x"))


async def test_refused_topic_is_the_bus_problem_until_the_broker_accepts_it():
    broker = MemoryBroker()
    async with MemoryBus(broker, client_id="a") as bus:
        await publish(bus, "a/1")
        assert broker_check(bus).ok
        broker.refuses = lambda topic: topic == "a/1"
        with pytest.raises(BusError, match="Not authorized"):
            await publish(bus, "a/1")
        await publish(bus, "b/1")
        check = broker_check(bus)
        assert (check.ok, check.detail) == (False, "the broker refuses messages on a/1: Not authorized")
        assert bus.connected
        broker.refuses = lambda _topic: False
        await publish(bus, "a/1")
        assert broker_check(bus).ok


async def test_a_message_beyond_the_brokers_limit_is_no_problem_of_the_bus(monkeypatch):
    async with MemoryBus(MemoryBroker(), client_id="a") as bus:
        with pytest.raises(BusError, match="exceed its maximum packet"):
            await (await bus.publish("a/1", bytes(4 * 1024 * 1024)))
        assert bus.problem == ""


async def test_disconnected_bus_reports_the_reason_and_logs_each_once():
    broker = MemoryBroker()
    async with MemoryBus(broker, client_id="a") as bus:
        with capture_logs() as lines:
            bus.drop(reconnect=False)
            assert broker_check(bus).detail == "not connected"
            await until(lambda: len([line for line in lines if line["event"] == "bus.reconnect-failed"]) >= 3)
        assert broker_check(bus).detail == "not connected: the broker does not accept the connection"
        attempts = [line for line in lines if line["event"] == "bus.reconnect-failed"]
        assert [line["log_level"] for line in attempts[:3]] == ["warning", "debug", "debug"]
        bus.resume()
        await until(lambda: broker_check(bus).ok)


def test_flood_of_refusals_is_logged_every_ten_seconds_and_expires_after_two_minutes():
    now = 0.0
    refusals = Refusals(lambda: now)
    with capture_logs() as lines:
        for number in range(5_000):
            now = number / 200
            refusals.refused(f"a/{number}", "Not authorized", blamed=False)
    assert [line["unlogged_before"] for line in lines] == [0, 1_999, 1_999]
    assert refusals.problem.endswith("and 999 other topics: Not authorized")
    now += 121
    assert refusals.problem == ""


def test_accepted_message_clears_earlier_refusals_of_its_kind():
    now = 0.0
    refusals = Refusals(lambda: now)
    refusals.refused("in/candles/kraken/BTC-USD/1w", "Not authorized", blamed=False)
    refusals.refused("in/status/aggregator/a", "Not authorized", blamed=False)
    refusals.accepted("in/candles/kraken/ETH-USD/1m")
    assert "1w and 1 other topics" in refusals.problem or "a and 1 other topics" in refusals.problem
    now += 16
    refusals.accepted("in/candles/kraken/ETH-USD/1m")
    assert refusals.problem == "the broker refuses messages on in/status/aggregator/a: Not authorized"


@pytest.mark.parametrize("client", ["mqtt5", "paho"])
async def test_message_that_made_the_broker_disconnect_is_not_resent(mosquitto_of, tmp_path, client):
    # With `max_queued_messages 0`, which these brokers have, Mosquitto 2 ends the connection after each refusal.
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite ours/#\n")
    broker = mosquitto_of(f"allow_anonymous true\nacl_file {FOLDER}/acl\n", (acl,))
    async with MqttBus(MqttUrl.parse(broker.url), client_id="a", client=client) as bus:
        for _ in range(3):
            with pytest.raises(BusError, match="Not authorized"):
                await asyncio.wait_for(publish(bus, "theirs/a/b"), 10)
            await asyncio.wait_for(publish(bus, "ours/a/b"), 10)


async def test_missing_right_on_mosquitto_is_the_bus_problem(mosquitto_of, tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite ours/#\n")
    broker = mosquitto_of(f"allow_anonymous true\nacl_file {FOLDER}/acl\n", (acl,))
    async with MqttBus(MqttUrl.parse(broker.url), client_id="a") as bus:
        await publish(bus, "ours/a/b")
        assert bus.problem == ""
        with pytest.raises(BusError, match="Not authorized"):
            await publish(bus, "theirs/a/b")
        assert bus.problem == "the broker refuses messages on theirs/a/b: Not authorized"
