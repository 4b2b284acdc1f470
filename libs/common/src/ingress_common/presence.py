"""Presence on the bus: the retained status of an instance, and the last will that takes it back."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ingress_common.bus.port import Bus, BusClosedError, LastWill
from ingress_common.model import Presence, Status
from ingress_common.payloads import encode_status
from ingress_common.topics import Topics

_AT_LEAST_EVERY = 15.0
_LOOK_EVERY = 0.5
_GOODBYE_SECONDS = 2.0


def will_of(topics: Topics, service: str, instance: str, *, version: str, started_at: float) -> LastWill:
    """The last will that tells that `instance` is offline. `started_at` in unix seconds."""
    status = Status(service, instance, Presence.OFFLINE, version, started_at)
    return LastWill(topics.status(service, instance), encode_status(status))


class StatusPublisher:
    """Keeps the retained status of one instance true.

    Online is published at the start, when the bus has reconnected (the last will has said offline meanwhile), when
    `details` have changed (looked at every `refresh_seconds`), and at least every 15 s; offline at a clean stop.
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
        self._details = details
        self._refresh_seconds = refresh_seconds
        self._announced = asyncio.Event()

    def announce(self) -> None:
        """Publish the status at once. Call it on each `Connected` event, as a short reconnect may go unseen."""
        self._announced.set()

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
                details = dict(self._details())
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
