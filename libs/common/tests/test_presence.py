import asyncio

from ingress_common.bus import Message
from ingress_common.bus.memory import MemoryBroker, MemoryBus
from ingress_common.model import Presence
from ingress_common.payloads import decode_status
from ingress_common.presence import StatusPublisher, will_of
from ingress_common.topics import Topics

TOPICS = Topics()
TOPIC = TOPICS.status("aggregator", "a")


def bus_of(broker: MemoryBroker) -> MemoryBus:
    will = will_of(TOPICS, "aggregator", "a", version="1.2", started_at=1700000000.0)
    return MemoryBus(broker, client_id="a", will=will)


def publisher(bus: MemoryBus, details=dict, refresh_seconds=0.0) -> StatusPublisher:
    return StatusPublisher(bus, TOPICS, "aggregator", "a", "1.2", 1700000000.0, details, refresh_seconds)


async def until_retained(broker: MemoryBroker, condition):
    async with asyncio.timeout(20):
        while TOPIC not in broker.retained or not condition(decode_status(broker.retained[TOPIC])):
            await asyncio.sleep(0.01)
    return decode_status(broker.retained[TOPIC])


async def test_status_is_online_while_running_and_offline_after_a_clean_stop():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        running = asyncio.create_task(publisher(bus, lambda: {"symbols": 3}).run())
        online = await until_retained(broker, lambda status: status.state is Presence.ONLINE)
        assert (online.service, online.instance, online.version) == ("aggregator", "a", "1.2")
        assert online.details == {"symbols": 3}
        running.cancel()
        await asyncio.wait([running])
        assert decode_status(broker.retained[TOPIC]).state is Presence.OFFLINE


async def test_last_will_says_offline_and_reconnect_says_online_again():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        running = asyncio.create_task(publisher(bus, refresh_seconds=1000).run())
        await until_retained(broker, lambda status: status.state is Presence.ONLINE)
        bus.drop(reconnect=False)
        await until_retained(broker, lambda status: status.state is Presence.OFFLINE)
        bus.resume()
        await until_retained(broker, lambda status: status.state is Presence.ONLINE)
        running.cancel()
        await asyncio.wait([running])


async def test_announce_publishes_at_once_though_the_reconnect_went_unseen():
    broker = MemoryBroker()
    async with bus_of(broker) as bus:
        status = publisher(bus, refresh_seconds=1000)
        running = asyncio.create_task(status.run())
        await until_retained(broker, lambda status: status.state is Presence.ONLINE)
        broker.publish(
            "will", TOPIC, will_of(TOPICS, "aggregator", "a", version="1", started_at=0).payload, qos=1, retain=True
        )
        status.announce()
        await until_retained(broker, lambda status: status.state is Presence.ONLINE)
        running.cancel()
        await asyncio.wait([running])


async def test_changed_details_are_published():
    broker = MemoryBroker()
    details = {"symbols": 1}
    async with bus_of(broker) as bus:
        running = asyncio.create_task(publisher(bus, lambda: details).run())
        await until_retained(broker, lambda status: status.details == {"symbols": 1})
        details["symbols"] = 2
        await until_retained(broker, lambda status: status.details == {"symbols": 2})
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
                    if states[-1] is Presence.OFFLINE:
                        break
    assert states == [Presence.ONLINE, Presence.OFFLINE]
