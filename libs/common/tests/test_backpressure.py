"""A broker that sends more than the inbound limit: the excess stays at the broker, and responses still arrive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import mqtt5

from ingress_common.bus import Event, Message
from ingress_common.bus.mqtt import MqttBus

LIMIT = 20
PAYLOAD = b"x" * 64 * 1024
COUNT = 400
QOS_1 = mqtt5.QoS.AT_LEAST_ONCE


class EagerBroker:
    """Sends COUNT messages at once, whatever the client's receive maximum, and responds to requests."""

    def __init__(self) -> None:
        self.written = 0
        self._all_sent = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(mqtt5.ConnAckPacket(session_present=True).write())
        with suppress(ExceptionGroup):
            # A client that has received enough closes its end.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(writer))
                tasks.create_task(self._respond(reader, writer))

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        for number in range(1, COUNT + 1):
            writer.write(mqtt5.PublishPacket("a", PAYLOAD, qos=QOS_1, packet_id=number).write())
            await writer.drain()
            self.written = number
        self._all_sent.set()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while received := await reader.read(4096):
            data += received
            while data:
                try:
                    packet, length = mqtt5.read(memoryview(data))
                except IndexError:
                    break
                data = data[length:]
                if isinstance(packet, mqtt5.PublishPacket):
                    writer.write(mqtt5.PubAckPacket(packet.packet_id).write())
                if isinstance(packet, mqtt5.SubscribePacket):
                    # After everything that waits.
                    await self._all_sent.wait()
                    granted = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
                    writer.write(mqtt5.SubAckPacket(packet.packet_id, [granted]).write())


@asynccontextmanager
async def overwhelmed():
    broker = EagerBroker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bus = MqttBus(f"mqtt://127.0.0.1:{port}", client_id="a", client="mqtt5", session_expiry=60, inbound_limit=LIMIT)
    async with asyncio.timeout(30), bus:
        yield broker, bus
    server.close()


async def idle(broker: EagerBroker) -> None:
    """Wait until the broker cannot write any more, or has written everything."""
    before = -1
    while before != broker.written < COUNT:
        before = broker.written
        await asyncio.sleep(0.1)


async def test_messages_beyond_the_inbound_limit_stay_at_the_broker():
    async with overwhelmed() as (broker, bus):
        await idle(broker)
        # One read from the socket may bring some more.
        assert LIMIT <= bus.inbox.waiting < LIMIT + 20
        assert broker.written < COUNT
        taken = 0
        async for event in bus.events():
            if isinstance(event, Message):
                taken += 1
                event.ack()
            if taken == COUNT:
                break
        assert broker.written == COUNT


async def test_publication_is_confirmed_without_a_reader_of_messages():
    async with overwhelmed() as (broker, bus):
        await idle(broker)
        await (await bus.publish("b", b"behind all that waits"))
        assert bus.inbox.waiting > LIMIT


async def test_subscription_is_confirmed_without_a_reader_of_messages():
    async with overwhelmed() as (broker, bus):
        await bus.subscribe("c")
        assert broker.written == COUNT


async def test_subscription_keeps_the_inbound_limit_once_messages_are_read():
    async with overwhelmed() as (broker, bus):
        events = bus.events()
        await anext(events)
        subscribing = asyncio.create_task(bus.subscribe("c"))
        await idle(broker)
        assert bus.inbox.waiting < LIMIT + 20
        taking = asyncio.create_task(_take_all(events))
        await subscribing
        taking.cancel()


async def _take_all(events: AsyncIterator[Event]) -> None:
    async for _ in events:
        pass
