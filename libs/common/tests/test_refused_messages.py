"""While the broker refuses what a service publishes, the bus has a problem that names it."""

import asyncio

import pytest
from memory_broker import MemoryBroker, MemoryBus
from structlog.testing import capture_logs

from ingress_common.bus import BusError, Message, refusals, session
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.publication import Publication
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


async def test_last_refused_message_of_each_topic_is_published_again_until_it_is_accepted(monkeypatch):
    monkeypatch.setattr(refusals, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(session, "_RETRY_LOOK_SECONDS", 0.01)
    broker = MemoryBroker()
    tries = []
    broker.refuses = lambda topic: topic.startswith("a") and (tries.append(topic), True)[1]
    async with MemoryBus(broker, client_id="reader") as reader, MemoryBus(broker, client_id="a") as bus:
        await reader.subscribe("#")
        for number in range(3):
            for topic in ("a/1", "a/2"):
                with pytest.raises(BusError, match="Not authorized"):
                    await (await bus.publish(topic, b"%d" % number, retain=True, properties={"number": str(number)}))
        await until(lambda: len(tries) > 12)
        assert "a/1" in bus.problem or "a/2" in bus.problem
        await publish(bus, "b/1")
        assert bus.problem
        broker.refuses = lambda _topic: False
        await until(lambda: not bus.problem)
        arrived = {}
        async for event in reader.events():
            if isinstance(event, Message) and event.topic != "b/1":
                arrived[event.topic] = (event.payload, event.properties, event.retain)
                if len(arrived) == 2:
                    break
        assert arrived == {topic: (b"2", {"number": "2"}, False) for topic in ("a/1", "a/2")}
    async with MemoryBus(broker, client_id="later") as later:
        await later.subscribe("#", "end")
        await (await later.publish("end", b""))
        async for event in later.events():
            if isinstance(event, Message):
                # Not retained: another client may have published a later one.
                assert event.topic == "end"
                break


async def test_refused_message_is_not_published_after_a_later_one(monkeypatch):
    monkeypatch.setattr(refusals, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(session, "_RETRY_LOOK_SECONDS", 0.01)
    broker = MemoryBroker()
    async with MemoryBus(broker, client_id="reader") as reader, MemoryBus(broker, client_id="a") as bus:
        await reader.subscribe("#")
        broker.refuses = lambda _topic: True
        with pytest.raises(BusError, match="Not authorized"):
            await (await bus.publish("a/1", b"earlier"))
        broker.refuses = lambda _topic: False
        await (await bus.publish("a/1", b"later"))
        assert not bus.problem
        await asyncio.sleep(0.2)
        await (await bus.publish("a/1", b"end"))
        seen = []
        async for event in reader.events():
            if isinstance(event, Message):
                seen.append(event.payload)
                if event.payload == b"end":
                    break
    assert seen == [b"later", b"end"]


def refused(topic: str, size: int = 1) -> Publication:
    return Publication(topic, bytes(size), 1, retain=False, properties=None)


def test_flood_of_refusals_is_logged_every_ten_seconds_and_takes_bounded_memory():
    now = 0.0
    found = Refusals(lambda: now)
    with capture_logs() as lines:
        for number in range(5_000):
            now = number / 200
            found.refused(refused(f"a/{number}", 10_000), "Not authorized", blamed=False)
    assert [line["unlogged_before"] for line in lines] == [0, 1_999, 1_999]
    assert found.problem.endswith("and 999 other topics: Not authorized")
    now += 9
    due = found.due()
    assert 400 < len(due) < 420
    assert sum(message.size for message in due) <= 4 * 2**20
    now += 26
    assert found.problem == ""
    assert not found


def test_what_is_refused_again_is_due_again_later():
    now = 0.0
    found = Refusals(lambda: now)
    first, second = refused("a/1"), refused("a/1")
    found.refused(first, "Not authorized", blamed=False)
    assert found.due() == []
    now += 8
    assert found.due() == [first]
    assert found.keeps(first)
    found.superseded("a/1")
    assert not found.keeps(first)
    assert found.due() == []
    assert found.problem
    found.refused(second, "Not authorized", blamed=False)
    assert found.due() == []
    now += 8
    assert found.due() == [second]
    found.refused(refused("a/2"), "too large", blamed=True)
    now += 8
    assert found.due() == [second]
    found.forget()
    assert found.problem == ""


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
