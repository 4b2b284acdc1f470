"""One stack per topic prefix: a service with a store does not run beside one of another stack.

Stacks that share a prefix would divide the symbols among their services, so that each store gets a part of the candles.
All services of a stack have one store; those that use it publish its name in their status.
"""

import asyncio
import secrets

from ingress_common.bus import Bus, Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.errors import SettingsError
from ingress_common.heartbeat import RETAINED_SECONDS, STALE_SECONDS, claim_name, subscribe_to_retained
from ingress_common.model import InstanceState, Status
from ingress_common.payloads import PayloadError, decode_status
from ingress_common.settings import ServiceSettings
from ingress_common.topics import Topics

STORE = "store"
"""Status detail of a service with a store: where its stack stores candles, without secrets."""

_TOGETHER_SECONDS = 300.0
"""Stacks that start within this time may not have seen each other at their start."""


async def claim_name_and_prefix(service: str, settings: ServiceSettings, store: str) -> None:
    """Return once no other stack than that of `store` has our prefix, and no living process has our name.

    NameTakenError or SettingsError if they are taken; BusError if the broker cannot be used.
    """
    prefix = settings.ingress_topic_prefix
    client_id = f"{prefix}-{service}-{settings.instance_id}-prefix-{secrets.token_hex(4)}"
    async with MqttBus(settings.mqtt_url, client=settings.mqtt_client, client_id=client_id) as bus:
        await await_own_prefix(bus, settings.topics, service, store)
    await claim_name(service, settings)


async def await_own_prefix(
    bus: Bus,
    topics: Topics,
    service: str,
    store: str,
    retained_seconds: float = RETAINED_SECONDS,
    stale_seconds: float = STALE_SECONDS,
) -> None:
    """The same for the prefix, on an open `bus`.

    A retained status of another stack may be stale, because the broker was killed before it could publish the last
    will: only one that is repeated counts.
    """
    await subscribe_to_retained(bus, topics.status(service, "+"))
    try:
        async with asyncio.timeout(retained_seconds) as window:
            async for event in bus.events():
                if not isinstance(event, Message):
                    continue
                event.ack()
                other = _status_of(event.payload)
                if other is None or not _is_of_another_stack(other, store):
                    continue
                if event.retain:
                    window.reschedule(asyncio.get_running_loop().time() + stale_seconds)
                else:
                    raise _taken(topics, other, store)
    except TimeoutError:
        return


class PrefixGuard:
    """Watches for another stack while the service runs, because two stacks that start together do not see each other.

    Give it every live (not retained) status of `service`. `started_at` in unix seconds, as in our own status.
    """

    def __init__(self, topics: Topics, service: str, started_at: float, store: str) -> None:
        self._topics = topics
        self._service = service
        self._started_at = started_at
        self._store = store

    @property
    def details(self) -> dict[str, str]:
        """Details of the service's own status, for the guards of other services."""
        return {STORE: self._store}

    def received(self, status: Status) -> None:
        """SettingsError if this stack has to give way to the stack of `status`.

        The one that started later gives way. Of two that started together it is the one whose store's name sorts later,
        so that all services of a stack agree.
        """
        if status.service != self._service or not _is_of_another_stack(status, self._store):
            return
        lead = self._started_at - status.started_at
        if lead > _TOGETHER_SECONDS or (lead >= -_TOGETHER_SECONDS and status.details[STORE] < self._store):
            raise _taken(self._topics, status, self._store)


def _status_of(payload: bytes) -> Status | None:
    try:
        return decode_status(payload) if payload else None
    except PayloadError:
        return None


def _is_of_another_stack(status: Status, store: str) -> bool:
    other = status.details.get(STORE)
    return status.state is not InstanceState.OFFLINE and isinstance(other, str) and other != store


def _taken(topics: Topics, other: Status, store: str) -> SettingsError:
    return SettingsError(
        f"INGRESS_TOPIC_PREFIX: expected a prefix of its own for every stack, got {topics.prefix!r}, "
        f"which {other.service} {other.instance!r} uses for the store {other.details[STORE]}, not {store}"
    )
