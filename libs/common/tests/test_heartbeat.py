import asyncio

import pytest
from memory_broker import MemoryBroker, MemoryBus

from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.errors import NameTakenError
from ingress_common.heartbeat import RUN, StatusPublisher, await_free_name, claim_name, will_of
from ingress_common.model import InstanceState, Status
from ingress_common.payloads import decode_status, encode_status
from ingress_common.settings import PUBLISHED_SECRETS, ServiceSettings
from ingress_common.topics import Topics

TOPICS = Topics()
TOPIC = TOPICS.status("aggregator", "a")


def bus_of(broker: MemoryBroker) -> MemoryBus:
    will = will_of(TOPICS, "aggregator", "a", version="1.2", started_at=1700000000.0)
    return MemoryBus(broker, client_id="a", will=will)


def publisher(bus: MemoryBus, details=dict, refresh_seconds=0.0) -> StatusPublisher:
    return StatusPublisher(bus, TOPICS, "aggregator", "a", "1.2", 1700000000.0, details, refresh_seconds)


def details_of(status) -> dict:
    return {name: value for name, value in status.details.items() if name != RUN}


async def until_retained(broker: MemoryBroker, condition):
    async with asyncio.timeout(20):
        while TOPIC not in broker.retained or not condition(decode_status(broker.retained[TOPIC])):
            await asyncio.sleep(0.01)
    return decode_status(broker.retained[TOPIC])


async def test_status_is_online_while_running_and_offline_after_a_clean_stop():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        running = asyncio.create_task(publisher(bus, lambda: {"symbols": 3}).run())
        online = await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        assert (online.service, online.instance, online.version) == ("aggregator", "a", "1.2")
        assert details_of(online) == {"symbols": 3}
        running.cancel()
        await asyncio.wait([running])
        assert decode_status(broker.retained[TOPIC]).state is InstanceState.OFFLINE


async def test_a_service_that_never_receives_its_own_status_has_a_problem():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        status = publisher(bus)
        running = asyncio.create_task(status.run())
        online = await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        assert "its user may not read ingress/status/aggregator/a" in status.problem
        status.received(online)
        assert not status.problem
        running.cancel()
        await asyncio.wait([running])


async def test_status_lists_the_variables_with_unsafe_secrets():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        unsafe = {PUBLISHED_SECRETS: ("MQTT_URL",)}
        status = StatusPublisher(bus, TOPICS, "aggregator", "a", "1.2", 1700000000.0, unsafe_secrets=unsafe)
        running = asyncio.create_task(status.run())
        online = await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        assert details_of(online) == {PUBLISHED_SECRETS: ["MQTT_URL"]}
        running.cancel()
        await asyncio.wait([running])


async def test_last_will_publishes_offline_and_reconnect_publishes_online():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        running = asyncio.create_task(publisher(bus, refresh_seconds=1000).run())
        await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        bus.drop(reconnect=False)
        await until_retained(broker, lambda status: status.state is InstanceState.OFFLINE)
        bus.resume()
        await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        running.cancel()
        await asyncio.wait([running])


async def test_announce_publishes_at_once_after_an_unnoticed_reconnect():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        status = publisher(bus, refresh_seconds=1000)
        running = asyncio.create_task(status.run())
        await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        broker.publish(
            "will", TOPIC, will_of(TOPICS, "aggregator", "a", version="1", started_at=0).payload, qos=1, retain=True
        )
        status.announce()
        await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        running.cancel()
        await asyncio.wait([running])


async def test_changed_details_are_published():
    broker = MemoryBroker()
    details = {"symbols": 1}
    async with bus_of(broker) as bus:
        running = asyncio.create_task(publisher(bus, lambda: details).run())
        await until_retained(broker, lambda status: details_of(status) == {"symbols": 1})
        details["symbols"] = 2
        await until_retained(broker, lambda status: details_of(status) == {"symbols": 2})
        running.cancel()
        await asyncio.wait([running])


async def test_unchanged_details_are_not_repeated():
    broker = MemoryBroker()
    async with bus_of(broker) as bus, MemoryBus(broker, client_id="watcher") as watcher:
        await watcher.subscribe(TOPIC)
        looks = 0

        def details():
            nonlocal looks
            looks += 1
            return {}

        running = asyncio.create_task(publisher(bus, details).run())
        async with asyncio.timeout(20):
            while looks < 3:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        states = []
        async with asyncio.timeout(20):
            async for event in watcher.events():
                if isinstance(event, Message):
                    states.append(decode_status(event.payload).state)
                    if states[-1] is InstanceState.OFFLINE:
                        break
    assert states == [InstanceState.ONLINE, InstanceState.OFFLINE]


def status_of(state: InstanceState, started_at: float, run: str = "other", instance: str = "a") -> Status:
    return Status("aggregator", instance, state, "1.2", started_at, {RUN: run})


async def test_late_last_will_of_an_earlier_process_is_corrected_at_once():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        status = publisher(bus, refresh_seconds=1000)
        running = asyncio.create_task(status.run())
        await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        late = status_of(InstanceState.OFFLINE, 0.0)
        broker.publish("will", TOPIC, encode_status(late), qos=1, retain=True)
        status.received(late)
        await until_retained(broker, lambda status: status.state is InstanceState.ONLINE)
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("used_before", [False, True])
async def test_of_processes_that_claim_a_name_together_one_is_the_first(mosquitto_url, used_before):
    name = f"together-{used_before}"
    settings = ServiceSettings(mqtt_url=mosquitto_url, instance_id=name)
    topic = settings.topics.status("aggregator", name)
    online, offline = (status_of(state, 1.0, instance=name) for state in (InstanceState.ONLINE, InstanceState.OFFLINE))
    async with asyncio.timeout(90), MqttBus(settings.mqtt_url, client_id=f"first-{used_before}") as bus:
        if used_before:
            await (await bus.publish(topic, encode_status(offline), retain=True))
        claims = [asyncio.create_task(claim_name("aggregator", settings)) for _ in range(3)]
        _, waiting = await asyncio.wait(claims, return_when=asyncio.FIRST_COMPLETED)
        # A start may take some seconds; all that time the others find the name claimed.
        done, waiting = await asyncio.wait(waiting, timeout=6.0)
        assert not done
        await (await bus.publish(topic, encode_status(online), retain=True))
        await asyncio.sleep(6.0)
        assert not any(claim.done() for claim in waiting)
        for claim in waiting:
            claim.cancel()


async def test_suspended_process_gives_way_to_its_replacement():
    async with bus_of(MemoryBroker()) as bus:
        status = publisher(bus)
        status.received(status_of(InstanceState.ONLINE, 1700000500.0, instance="b"))
        status.received(status_of(InstanceState.ONLINE, 1600000000.0))
        with pytest.raises(NameTakenError, match="INSTANCE_ID"):
            status.received(status_of(InstanceState.ONLINE, 1700000500.0))


async def publish(broker: MemoryBroker, status: Status) -> None:
    broker.publish("holder", TOPIC, encode_status(status), qos=1, retain=True)


async def wait_for_name(broker: MemoryBroker, **seconds: float) -> None:
    async with MemoryBus(broker, client_id="name") as bus:
        await await_free_name(bus, TOPICS, "aggregator", "a", **seconds)


async def is_free(broker: MemoryBroker, **seconds: float) -> bool:
    """Whether nobody has the name, or its holder leaves in time."""
    try:
        await wait_for_name(broker, **seconds)
    except NameTakenError:
        return False
    return True


async def test_unused_or_released_name_is_free():
    broker = MemoryBroker()
    assert await is_free(broker)
    await publish(broker, status_of(InstanceState.OFFLINE, 1.0))
    assert await is_free(broker)


async def test_name_is_free_once_its_holder_has_gone():
    broker = MemoryBroker()
    await publish(broker, status_of(InstanceState.ONLINE, 1.0))
    waiting = asyncio.create_task(is_free(broker))
    await publish(broker, status_of(InstanceState.ONLINE, 1.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    await publish(broker, status_of(InstanceState.OFFLINE, 1.0))
    async with asyncio.timeout(10):
        assert await waiting


async def test_online_status_that_is_not_repeated_is_stale():
    broker = MemoryBroker()
    await publish(broker, status_of(InstanceState.ONLINE, 1.0))
    async with asyncio.timeout(10):
        assert await is_free(broker, stale_seconds=0.1)


async def test_name_of_a_running_process_is_refused():
    broker = MemoryBroker()
    await publish(broker, status_of(InstanceState.ONLINE, 1.0))

    async def live() -> None:
        while True:
            await publish(broker, status_of(InstanceState.ONLINE, 1.0))
            await asyncio.sleep(0.02)

    holder = asyncio.create_task(live())
    try:
        with pytest.raises(NameTakenError, match="started at 1970"):
            await wait_for_name(broker, stale_seconds=5.0, patience_seconds=0.1)
    finally:
        holder.cancel()
        await asyncio.wait([holder])
