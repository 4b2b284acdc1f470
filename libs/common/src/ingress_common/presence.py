"""Presence on the bus: the retained status of an instance, the last will that takes it back, and who has a name."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.port import Bus, BusClosedError, LastWill, Message
from ingress_common.errors import NameTakenError
from ingress_common.logs import get_logger
from ingress_common.model import Presence, Status
from ingress_common.payloads import PayloadError, decode_status, encode_status
from ingress_common.settings import ServiceSettings
from ingress_common.times import rfc3339
from ingress_common.topics import Topics

RUN = "run"
"""In a status's details: a random name of the process, which tells two with one instance name apart."""

_AT_LEAST_EVERY = 5.0
_LOOK_EVERY = 0.5
_GOODBYE_SECONDS = 2.0
_RETAINED_SECONDS = 1.0
_STALE_SECONDS = 12.0
_PATIENCE_SECONDS = 30.0

log = get_logger(__name__)


def will_of(topics: Topics, service: str, instance: str, *, version: str, started_at: float) -> LastWill:
    """The last will that tells that `instance` is offline. `started_at` in unix seconds."""
    status = Status(service, instance, Presence.OFFLINE, version, started_at)
    return LastWill(topics.status(service, instance), encode_status(status))


class StatusPublisher:
    """Keeps the retained status of one instance true.

    Online is published at the start, when the bus has reconnected (the last will has said offline meanwhile), when
    `details` have changed (looked at every `refresh_seconds`), and at least every 5 s; offline at a clean stop.
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
    ) -> None:
        self._bus = bus
        self._topic = topics.status(service, instance)
        self._identity = (service, instance)
        self._version = version
        self._started_at = started_at
        self._run = secrets.token_hex(4)
        self._details = details
        self._refresh_seconds = refresh_seconds
        self._announced = asyncio.Event()

    def announce(self) -> None:
        """Publish the status at once. Call it on each `Connected` event, as a short reconnect may go unseen."""
        self._announced.set()

    def heard(self, status: Status) -> None:
        """Take a status from the bus, not a retained one. One that wrongly calls us offline is put right at once.

        NameTakenError if a process that was started later has our name: it took us for dead, and does our work now.
        """
        if (status.service, status.instance) != self._identity:
            return
        if status.state is Presence.OFFLINE:
            self.announce()
        elif status.started_at > self._started_at and status.details.get(RUN) != self._run:
            raise _taken(status)

    async def run(self) -> None:
        """Publish until cancelled, then publish offline. The bus must be open until this has returned."""
        try:
            await self._keep_true()
        finally:
            await self._say_offline()

    async def _keep_true(self) -> None:
        loop = asyncio.get_running_loop()
        published: dict[str, Any] | None = None
        published_at = looked_at = loop.time()
        was_connected = False
        while True:
            now = loop.time()
            connected = self._bus.connected
            due = (
                published is None
                or not was_connected
                or self._announced.is_set()
                or now - published_at >= _AT_LEAST_EVERY
            )
            if connected and (due or now - looked_at >= self._refresh_seconds):
                self._announced.clear()
                looked_at = now
                details = {RUN: self._run, **self._details()}
                if due or details != published:
                    await self._publish(Presence.ONLINE, details)
                    published, published_at = details, now
            was_connected = connected
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._announced.wait()
            except TimeoutError:
                continue
            if not self._bus.connected:
                # Announced and gone again: look at the usual pace until it is back.
                self._announced.clear()

    async def _say_offline(self) -> None:
        if not self._bus.connected:
            return
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await (await self._publish(Presence.OFFLINE, {}))
        except (TimeoutError, BusClosedError):
            # The last will says it instead once the connection is gone.
            return

    async def _publish(self, state: Presence, details: Mapping[str, Any]) -> Any:
        status = Status(*self._identity, state, self._version, self._started_at, details)
        return await self._bus.publish(self._topic, encode_status(status), qos=1, retain=True)


async def claim_name(service: str, settings: ServiceSettings) -> None:
    """Return once no living process of `service` has the name INSTANCE_ID; to be called before one connects under it.

    NameTakenError if it is still in use after 30 s; BusError if the broker cannot be used. An online status that is
    not repeated is stale: the broker was killed before it could publish the last will.
    """
    client_id = f"{service}-{settings.instance_id}-claim-{secrets.token_hex(4)}"
    async with MqttBus(settings.mqtt_url, client_id=client_id) as bus:
        await await_free_name(bus, settings.topics, service, settings.instance_id)


async def await_free_name(
    bus: Bus,
    topics: Topics,
    service: str,
    instance: str,
    stale_seconds: float = _STALE_SECONDS,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> None:
    """The same on an open `bus`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    holder: Status | None = None
    until = began + _RETAINED_SECONDS
    await bus.subscribe(topics.status(service, instance))
    events = bus.events()
    while True:
        try:
            async with asyncio.timeout_at(until):
                event = await anext(events)
        except TimeoutError:
            return
        if not isinstance(event, Message):
            continue
        event.ack()
        if not event.payload:
            return
        try:
            status = decode_status(event.payload)
        except PayloadError as error:
            log.warning("status.undecodable", topic=event.topic, reason=str(error))
            continue
        if status.state is Presence.OFFLINE:
            return
        if loop.time() - began > patience_seconds:
            raise _taken(status)
        if holder is None:
            log.info("name.in-use", service=service, instance=instance, started_at=rfc3339(status.started_at))
        holder = status
        until = loop.time() + stale_seconds


def _taken(status: Status) -> NameTakenError:
    return NameTakenError(
        f"INSTANCE_ID: expected a name of its own for every {status.service}, but {status.instance!r} is online, "
        f"started at {rfc3339(status.started_at)}"
    )
