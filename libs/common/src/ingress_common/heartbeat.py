"""The heartbeat of an instance: its retained status, its last will, and the ownership of its name."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any

from ingress_common.backoff import Backoff
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.port import Bus, BusClosedError, LastWill, Message
from ingress_common.errors import NameTakenError
from ingress_common.logs import get_logger
from ingress_common.model import InstanceState, Status
from ingress_common.payloads import PayloadError, decode_status, encode_status
from ingress_common.settings import ServiceSettings
from ingress_common.times import rfc3339
from ingress_common.topics import Topics

RUN = "run"
"""The key in a status's details for the process's random id. Two processes with one instance name differ in it."""

RETAINED_SECONDS = 0.2
"""Seconds after `subscribe_to_retained` within which retained messages arrive."""

STALE_SECONDS = 12.0
"""Seconds after which a retained status that is not repeated is stale."""

_MAXIMUM_INTERVAL = 5.0
_POLL_SECONDS = 0.5
_GOODBYE_SECONDS = 2.0
_PATIENCE_SECONDS = 30.0
_CLAIM_SECONDS = 0.5
"""How long a claim must last: longer than another process that holds it takes to connect again."""

_LOOK_SECONDS = 0.05
"""Pause between two looks whether the claim is lost."""

_HOLD_SECONDS = 10.0
"""How long a claim is held: longer than a start takes, so that whoever claims the name next finds it online."""

_CLAIM_AGAIN = Backoff(4.0, 4.0, (0.5, 1.0))

_claims: set[asyncio.Task[None]] = set()  # those held; asyncio itself keeps no reference to a task

log = get_logger(__name__)


def will_of(topics: Topics, service: str, instance: str, *, version: str, started_at: float) -> LastWill:
    """The last will that marks `instance` as offline. `started_at` in unix seconds."""
    status = Status(service, instance, InstanceState.OFFLINE, version, started_at)
    return LastWill(topics.status(service, instance), encode_status(status))


class StatusPublisher:
    """Keeps the retained status of one instance up to date.

    Publishes `online` at the start, after each reconnect (the broker may have published the last will), when `details`
    change (checked every `refresh_seconds`), and at least every 5 s. Publishes `offline` at a clean stop.
    `unsafe_secrets`: details that name the variables whose secrets are easily guessed.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        service: str,
        instance: str,
        version: str,
        started_at: float,
        details: Callable[[], Mapping[str, Any]] = dict,
        refresh_seconds: float = 5,
        unsafe_secrets: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._bus = bus
        self._topic = topics.status(service, instance)
        self._identity = (service, instance)
        self._version = version
        self._started_at = started_at
        self._own_details: dict[str, Any] = {RUN: secrets.token_hex(4), **unsafe_secrets}
        self._details = details
        self._refresh_seconds = refresh_seconds
        self._announced = asyncio.Event()
        self._returned = False

    @property
    def problem(self) -> str:
        """Why messages may not arrive here; empty once our own status has. A broker grants a subscription without the
        right to read, and then delivers nothing.
        """
        if self._returned:
            return ""
        return f"the broker has not delivered this service's own status yet; its user may not read {self._topic}"

    def announce(self) -> None:
        """Publish the status now. Call it on each `Connected` event, because polling can miss a short reconnect."""
        self._announced.set()

    def received(self, status: Status) -> None:
        """Process a live (not retained) status message. If it marks us as offline, publish our status now.

        NameTakenError if a process that started later has our name: it considered us dead and took over our work.
        """
        if (status.service, status.instance) != self._identity:
            return
        if not self._returned:
            self._returned = True
            self.announce()
        if status.state is InstanceState.OFFLINE:
            self.announce()
        elif status.started_at > self._started_at and status.details.get(RUN) != self._own_details[RUN]:
            raise _taken(status)

    async def run(self) -> None:
        """Publish until cancelled, then publish `offline`. Keep the bus open until this has returned."""
        try:
            await self._keep_true()
        finally:
            await self._publish_offline()

    async def _keep_true(self) -> None:
        loop = asyncio.get_running_loop()
        published: dict[str, Any] | None = None
        published_at = checked_at = loop.time()
        was_connected = False
        while True:
            now = loop.time()
            connected = self._bus.connected
            due = (
                published is None
                or not was_connected
                or self._announced.is_set()
                or now - published_at >= _MAXIMUM_INTERVAL
            )
            if connected and (due or now - checked_at >= self._refresh_seconds):
                self._announced.clear()
                checked_at = now
                details = {**self._own_details, **self._details()}
                if due or details != published:
                    await self._publish(InstanceState.ONLINE, details)
                    published, published_at = details, now
            was_connected = connected
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._announced.wait()
            except TimeoutError:
                continue
            if not self._bus.connected:
                # The connection was lost after the announcement: poll at the usual interval until it is back.
                self._announced.clear()

    async def _publish_offline(self) -> None:
        if not self._bus.connected:
            return
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await (await self._publish(InstanceState.OFFLINE, {}))
        except (TimeoutError, BusClosedError):
            # The broker publishes the last will instead, once the connection is gone.
            return

    async def _publish(self, state: InstanceState, details: Mapping[str, Any]) -> Any:
        status = Status(*self._identity, state, self._version, self._started_at, details)
        return await self._bus.publish(self._topic, encode_status(status), qos=1, retain=True)


async def claim_name(service: str, settings: ServiceSettings) -> None:
    """Wait until no running process of `service` uses the name INSTANCE_ID. Await it before connecting under that name.

    Of processes that claim a name at the same time the broker keeps one connected; the others claim it again, later.
    The claim is held in the background until this process is online under the name.

    An online status that is not repeated is stale: the broker was killed before it could publish the last will.

    Raises:
        NameTakenError: the name is still in use after 30 s.
        BusError: the broker cannot be used.
    """
    client_id = f"{settings.ingress_topic_prefix}-{service}-{settings.instance_id}-claim"
    while True:
        async with AsyncExitStack() as stack:
            bus = MqttBus(settings.mqtt_url, client=settings.mqtt_client, client_id=client_id)
            await stack.enter_async_context(bus)
            if await await_free_name(bus, settings.topics, service, settings.instance_id):
                holding = asyncio.create_task(_hold(stack.pop_all()), name="name.hold")
                _claims.add(holding)
                holding.add_done_callback(_claims.discard)
                return
        log.info("name.claimed-together", service=service, instance=settings.instance_id)
        await asyncio.sleep(_CLAIM_AGAIN.pause(0))


async def _hold(claim: AsyncExitStack) -> None:
    async with claim:
        await asyncio.sleep(_HOLD_SECONDS)


async def await_free_name(
    bus: Bus,
    topics: Topics,
    service: str,
    instance: str,
    stale_seconds: float = STALE_SECONDS,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> bool:
    """Wait on an open `bus` until the name is free. Returns False as soon as the connection is lost: another process
    may have claimed the name with the same client ID.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    holder: Status | None = None
    connected = False
    await subscribe_to_retained(bus, topics.status(service, instance))
    until = loop.time() + _CLAIM_SECONDS
    events = bus.events()
    while loop.time() < until:
        if not bus.connected:
            return False
        try:
            async with asyncio.timeout_at(min(until, loop.time() + _LOOK_SECONDS)):
                event = await anext(events)
        except TimeoutError:
            continue
        if not isinstance(event, Message):
            if connected:
                return False
            connected = True
            continue
        event.ack()
        if not event.payload:
            continue
        try:
            status = decode_status(event.payload)
        except PayloadError as error:
            log.warning("status.undecodable", topic=event.topic, reason=str(error))
            continue
        if status.state is InstanceState.OFFLINE:
            until = loop.time() + _CLAIM_SECONDS
            continue
        if loop.time() - began > patience_seconds:
            raise _taken(status)
        if holder is None:
            log.info("name.in-use", service=service, instance=instance, started_at=rfc3339(status.started_at))
        holder = status
        until = loop.time() + stale_seconds
    return bus.connected


async def subscribe_to_retained(bus: Bus, topic_filter: str) -> None:
    """Subscribe. Most brokers have sent all that is retained when this returns; the others send it soon after.

    BusError if the broker refuses.
    """
    await bus.subscribe(topic_filter)
    # A broker that processes requests in order has sent it before it answers the second one.
    await bus.subscribe(topic_filter)


def _taken(status: Status) -> NameTakenError:
    return NameTakenError(
        f"INSTANCE_ID: expected a name of its own for every {status.service}, but {status.instance!r} is online, "
        f"started at {rfc3339(status.started_at)}"
    )
