"""A test of everything that the services need from a broker, in a few seconds.

Each connect also checks what the broker announces (`bus.link.Granted`).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from ingress_common.bus.client import DEFAULT_CLIENT, MqttClient
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.port import BusError, Message
from ingress_common.bus.url import MqttUrl

ResultT = TypeVar("ResultT")

BURST = 5_000
"""Messages to queue for a disconnected client: what 60 symbols publish at start-up. Common defaults are 1,000."""

UNACKNOWLEDGED = 300
"""Messages to receive before the first acknowledgement: a small batch of the writer."""

PAYLOAD = 256 * 1024
"""Size in bytes of a large message, such as the history or state of many symbols."""

CLIENTS = 12
"""Connections to hold at the same time: those of one instance of each service, and of some readers."""

_PACKET_ADVICE = (
    "raise the maximum packet size (Mosquitto: max_packet_size, message_size_limit, EMQX: max_packet_size, HiveMQ: "
    "packets max-packet-size)"
)
_CANDLE_BYTES = 400
_SESSION_SECONDS = 120
_PATIENCE_SECONDS = 5.0
_OUTBOUND = 1_000
_STALL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class BrokerCheck:
    """The result of one test. `lacking`: what failed and which broker setting fixes it; None if the test passed."""

    what: str
    lacking: str | None = None


class LackingError(Exception):
    """The broker lacks something. The text names it and the broker setting that fixes it."""


async def check_broker(url: MqttUrl, prefix: str, client: MqttClient = DEFAULT_CLIENT) -> list[BrokerCheck]:
    """Run all tests on topics under `<prefix>/check/`, which the user of `url` must be allowed to publish and read.

    Without the rights for that, the other tests are skipped. BusError if the connection fails; its text names what the
    broker lacks or refuses.
    """
    tester = _Tester(url, f"{prefix}/check/{secrets.token_hex(6)}", client)
    async with tester.bus("connect"):
        results = [BrokerCheck("MQTT 5, retained messages, wildcard subscriptions, QoS 1 and sessions are announced")]
    rights = await _outcome(f"the user may publish and read below {prefix}/check/", tester.rights)
    results.append(rights)
    if rights.lacking:
        return results
    tests: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
        (f"{CLIENTS} clients are connected at the same time", tester.clients),
        (f"a session keeps {BURST} messages for a disconnected client, in order", tester.burst),
        (f"{UNACKNOWLEDGED} messages may be unacknowledged, and are redelivered in order", tester.redelivery),
        ("a later subscriber gets a retained message, which can be cleared", tester.retained),
        ("user properties are delivered", tester.properties),
        (f"a message of {PAYLOAD // 1024} KiB is delivered", tester.large),
    )
    for what, test in tests:
        results.append(await _outcome(what, test))
    return results


async def _outcome(what: str, test: Callable[[], Awaitable[None]]) -> BrokerCheck:
    try:
        await test()
    except (LackingError, BusError) as error:
        return BrokerCheck(what, " ".join(str(error).split()))
    return BrokerCheck(what)


class _Tester:
    """The tests, each with its own clients and topic."""

    def __init__(self, url: MqttUrl, topic: str, client: MqttClient) -> None:
        self._url = url
        self._topic = topic
        self._client = client
        self._queued = BURST
        """How many messages the session of a disconnected client keeps, as far as is known."""

    @asynccontextmanager
    async def bus(self, name: str, *, expiry: int = 0, inbound: int = 500) -> AsyncIterator[MqttBus]:
        bus = MqttBus(
            self._url,
            client=self._client,
            client_id=f"{self._topic.replace('/', '-')}-{name}",
            session_expiry=expiry,
            inbound_limit=inbound,
            outbound_limit=_OUTBOUND,
        )
        async with bus:
            yield bus

    @asynccontextmanager
    async def _waiting(self, name: str, count: int) -> AsyncIterator[str]:
        """Queue `count` numbered messages in the session of the disconnected client `name`; yields their topic."""
        topic = f"{self._topic}/{name}"
        async with self.bus(name, expiry=_SESSION_SECONDS) as bus:
            await _in_time(bus.subscribe(topic))
        async with self.bus(f"{name}-publisher") as publisher:
            taken = [
                await _in_time(publisher.publish(topic, f"{number:{_CANDLE_BYTES}}".encode()))
                for number in range(count)
            ]
            for publication in taken:
                await _in_time(publication)
        try:
            yield topic
        finally:
            # Remove the session: a connection without session expiry replaces it and ends it.
            async with self.bus(name):
                pass

    async def rights(self) -> None:
        topic = f"{self._topic}/rights"
        async with self.bus("rights") as bus:
            try:
                await _in_time(bus.subscribe(topic))
            except BusError as error:
                raise LackingError(f"it may not read; the other tests are skipped: {error}") from None
            try:
                await _in_time(await _in_time(bus.publish(topic, b"x")))
            except BusError as error:
                raise LackingError(f"it may not publish; the other tests are skipped: {error}") from None
            if not [message async for message in _messages(bus, 1)]:
                raise LackingError(
                    "it may publish but not read: the broker accepts a message and does not deliver it; the other "
                    "tests are skipped"
                )

    async def clients(self) -> None:
        async with AsyncExitStack() as connected:
            for number in range(CLIENTS):
                try:
                    await connected.enter_async_context(self.bus(f"client-{number}"))
                except BusError as error:
                    raise LackingError(
                        f"only {number} connected; allow more connections (Mosquitto, EMQX: max_connections, "
                        f"HiveMQ: max-connections): {error}"
                    ) from None

    async def burst(self) -> None:
        async with self._waiting("burst", BURST), self.bus("burst", expiry=_SESSION_SECONDS) as bus:
            numbers = [int(message.payload) async for message in _messages(bus, BURST)]
        self._queued = len(numbers)
        if len(numbers) < BURST:
            raise LackingError(
                f"{len(numbers)} of {BURST} arrived; raise the session's queue limit (Mosquitto: max_queued_messages, "
                "max_queued_bytes, HiveMQ: queued-messages max-queue-size, RMQTT: max_mqueue_len, EMQX: max_mqueue_len)"
            )
        if numbers != sorted(numbers):
            raise LackingError("they arrived in another order, which causes needless corrections of candles")

    async def redelivery(self) -> None:
        if self._queued < UNACKNOWLEDGED:
            raise LackingError(f"not tested, because a session keeps only {self._queued}")
        async with self._waiting("redelivery", UNACKNOWLEDGED):
            for attempt in ("first", "second"):
                async with self.bus("redelivery", expiry=_SESSION_SECONDS) as bus:
                    taken = _messages(bus, UNACKNOWLEDGED, acknowledge=attempt == "second")
                    numbers = [int(message.payload) async for message in taken]
                if len(numbers) < UNACKNOWLEDGED:
                    raise LackingError(
                        f"{len(numbers)} arrived the {attempt} time; allow more in flight (Mosquitto: "
                        "max_inflight_messages, EMQX: max_inflight; HiveMQ CE has no setting for it)"
                    )
                if numbers != sorted(numbers):
                    raise LackingError(f"they arrived in another order the {attempt} time")

    async def retained(self) -> None:
        topic = f"{self._topic}/retained"
        async with self.bus("retainer") as publisher:
            await (await publisher.publish(topic, b"kept", retain=True))
            if await self._retained_by(topic, "reader") != [b"kept"]:
                raise LackingError("it did not arrive; retained messages are off, or forbidden for this user")
            await (await publisher.publish(topic, b"", retain=True))
            if await self._retained_by(topic, "later-reader", seconds=1.0):
                raise LackingError("it still arrived after it was cleared")

    async def _retained_by(self, topic: str, name: str, seconds: float = _PATIENCE_SECONDS) -> list[bytes]:
        async with self.bus(name) as reader:
            await reader.subscribe(topic)
            return [message.payload async for message in _messages(reader, 1, seconds)]

    async def properties(self) -> None:
        topic = f"{self._topic}/properties"
        async with self.bus("properties") as bus:
            await bus.subscribe(topic)
            await (await bus.publish(topic, b"x", properties={"sequence": "1"}))
            found = [dict(message.properties) async for message in _messages(bus, 1)]
        if found != [{"sequence": "1"}]:
            raise LackingError("they are dropped, so lost candles go unnoticed")

    async def large(self) -> None:
        topic = f"{self._topic}/large"
        async with self.bus("large") as bus:
            await bus.subscribe(topic)
            try:
                await (await bus.publish(topic, b"x" * PAYLOAD))
            except BusError as error:
                raise LackingError(f"{error}; {_PACKET_ADVICE}") from None
            found = [len(message.payload) async for message in _messages(bus, 1)]
        if found != [PAYLOAD]:
            raise LackingError(f"it did not arrive; {_PACKET_ADVICE}")


async def _in_time(response: Awaitable[ResultT]) -> ResultT:
    """Return the result of `response`; LackingError if the broker does not respond at all."""
    try:
        async with asyncio.timeout(_STALL_SECONDS):
            return await response
    except TimeoutError:
        raise LackingError(f"the broker stopped responding, for {_STALL_SECONDS:.0f} s") from None


async def _messages(
    bus: MqttBus, count: int, seconds: float = _PATIENCE_SECONDS, *, acknowledge: bool = True
) -> AsyncIterator[Message]:
    """The next `count` messages; ends earlier if none arrives for `seconds`."""
    events = bus.events()
    while count:
        try:
            async with asyncio.timeout(seconds):
                event = await anext(events)
        except (TimeoutError, StopAsyncIteration):
            return
        if isinstance(event, Message):
            if acknowledge:
                event.ack()
            count -= 1
            yield event
