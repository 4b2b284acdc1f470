"""One stack a topic prefix: admin-api does not start beside an admin-api of another stack.

Stacks that share a prefix would share the symbols out between their services, so that each store gets a part of the
candles. All services of a stack have one store; admin-api publishes which one in its status.
"""

import asyncio
import secrets

from ingress_common.bus import Bus, Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.errors import SettingsError
from ingress_common.heartbeat import RETAINED_SECONDS, STALE_SECONDS, claim_name
from ingress_common.model import InstanceState, Status
from ingress_common.payloads import PayloadError, decode_status
from ingress_common.settings import ServiceSettings
from ingress_common.topics import Topics

STORE = "store"
"""In the details of admin-api's status: where its stack stores candles."""


async def claim_name_and_prefix(service: str, settings: ServiceSettings, store: str) -> None:
    """Return once no living process has our name, and no other stack than that of `store` has our prefix.

    NameTakenError or SettingsError if they are taken; BusError if the broker cannot be used.
    """
    await claim_name(service, settings)
    prefix = settings.ingress_topic_prefix
    client_id = f"{prefix}-{service}-{settings.instance_id}-prefix-{secrets.token_hex(4)}"
    async with MqttBus(settings.mqtt_url, client=settings.mqtt_client, client_id=client_id) as bus:
        await await_own_prefix(bus, settings.topics, service, store)


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
    await bus.subscribe(topics.status(service, "+"))
    try:
        async with asyncio.timeout(retained_seconds) as window:
            async for event in bus.events():
                if not isinstance(event, Message):
                    continue
                event.ack()
                other = _status_of_another_stack(event.payload, store)
                if other is not None and event.retain:
                    window.reschedule(asyncio.get_running_loop().time() + stale_seconds)
                elif other is not None:
                    raise SettingsError(
                        f"INGRESS_TOPIC_PREFIX: expected a prefix of its own for every stack, got {topics.prefix!r}, "
                        f"which {service} {other.instance!r} uses for the store {other.details[STORE]}, not {store}"
                    )
    except TimeoutError:
        return


def _status_of_another_stack(payload: bytes, store: str) -> Status | None:
    try:
        status = decode_status(payload) if payload else None
    except PayloadError:
        return None
    if status is None or status.state is InstanceState.OFFLINE:
        return None
    return status if isinstance(status.details.get(STORE), str) and status.details[STORE] != store else None
