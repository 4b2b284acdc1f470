"""A client of the broker in its own process: `python -m bench.bus_clients receive|publish CLIENT URL TOPIC`.

A receiver prints `ready` once it is subscribed, and after every COUNT messages the cost of one (microseconds of CPU,
receipt and acknowledgement). A publisher prints `ready`; for each line of input it sends COUNT messages, waits until
the broker has confirmed all, and prints the cost of one.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from ingress_common.bus import Bus, Message
from ingress_common.bus.client import MqttClient
from ingress_common.bus.mqtt import MqttBus
from ingress_common.logs import configure_logging

COUNT = 10_000
"""Messages per round."""

PAYLOAD = b"x" * 400

_INBOUND = 5_000
# In flight at once: gmqtt raises where there are more than the broker allows.
_WINDOW = 500


class _Meter:
    """Prints the cost of every COUNT messages from the first of them to the last."""

    def __init__(self) -> None:
        self._seen = 0
        self._start = 0.0

    def message(self) -> None:
        if self._seen == 0:
            self._start = time.process_time()
        self._seen += 1
        if self._seen == COUNT:
            _report(self._start)
            self._seen = 0


def _report(start: float) -> None:
    print((time.process_time() - start) / COUNT * 1e6, flush=True)


async def _on_lines(publish_all: Callable[[], Awaitable[None]]) -> None:
    """Do it for each line of input."""
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        start = time.process_time()
        await publish_all()
        _report(start)


# --- ours -------------------------------------------------------------------------------------------------------------


def _bus(client: MqttClient, url: str) -> Bus:
    return MqttBus(url, client=client, client_id=f"bench-{uuid4().hex[:8]}", inbound_limit=_INBOUND)


async def _receive_ours(client: MqttClient, url: str, topic: str) -> None:
    meter = _Meter()
    async with _bus(client, url) as bus:
        await bus.subscribe(topic)
        print("ready", flush=True)
        async for event in bus.events():
            if isinstance(event, Message):
                event.ack()
                meter.message()


async def _publish_ours(client: MqttClient, url: str, topic: str) -> None:
    async with _bus(client, url) as bus:

        async def publish_all() -> None:
            for _ in range(COUNT // _WINDOW):
                for delivery in [await bus.publish(topic, PAYLOAD) for _ in range(_WINDOW)]:
                    await delivery

        await _on_lines(publish_all)


# --- gmqtt ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _gmqtt(url: str, storage: Any = None) -> AsyncIterator[Any]:
    import gmqtt

    address = urlsplit(url)
    client = gmqtt.Client(f"bench-{uuid4().hex[:8]}", persistent_storage=storage, receive_maximum=_INBOUND)
    await client.connect(address.hostname, address.port)
    yield client
    await client.disconnect()


async def _receive_gmqtt(_: str, url: str, topic: str) -> None:
    from gmqtt.mqtt.constants import PubRecReasonCode

    meter = _Meter()
    subscribed = asyncio.Event()

    def take(*_: object) -> int:
        meter.message()
        return PubRecReasonCode.SUCCESS.value

    async with _gmqtt(url) as client:
        client.on_message = take
        client.on_subscribe = lambda *_: subscribed.set()
        client.subscribe(topic, qos=1)
        await subscribed.wait()
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


async def _publish_gmqtt(_: str, url: str, topic: str) -> None:
    from gmqtt.storage import PersistentStorage

    storage = PersistentStorage()
    async with _gmqtt(url, storage) as client:

        async def publish_all() -> None:
            for _ in range(COUNT // _WINDOW):
                for _ in range(_WINDOW):
                    client.publish(topic, PAYLOAD, qos=1)
                await storage.wait_empty()

        await _on_lines(publish_all)


def main() -> None:
    """Run until ended."""
    # Otherwise log lines would mix with the figures.
    configure_logging("warning", "console")
    direction, client, url, topic = sys.argv[1:]
    run = {
        ("receive", True): _receive_gmqtt,
        ("publish", True): _publish_gmqtt,
        ("receive", False): _receive_ours,
        ("publish", False): _publish_ours,
    }[direction, client == "gmqtt"]
    asyncio.run(run(client, url, topic))


if __name__ == "__main__":
    main()
