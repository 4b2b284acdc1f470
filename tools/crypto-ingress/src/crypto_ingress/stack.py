"""All services in one process: built, started in order and stopped in reverse order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from crypto_ingress.broker import EmbeddedBroker
from crypto_ingress.settings import RunSettings
from crypto_ingress.split_bus import EmbeddedConnector
from ingress_common.bus.url import MqttUrl
from ingress_common.connector import Connector
from ingress_common.errors import StartError
from ingress_common.service import Build, Service

_START_SECONDS = 45.0
_BROKER_PORT = 1883


@asynccontextmanager
async def broker_for(settings: RunSettings) -> AsyncIterator[Connector]:
    """The broker that MQTT_URL names; without MQTT_URL an embedded one, on port 1883 if that is free.

    An embedded one is kept running inside the context, which ends with StartError (in a group) if that fails.
    """
    if settings.external_broker:
        yield Connector(settings.mqtt_url, settings.mqtt_client)
        return
    async with AsyncExitStack() as stack:
        try:
            broker = await stack.enter_async_context(EmbeddedBroker(_BROKER_PORT))
        except StartError:
            broker = await stack.enter_async_context(EmbeddedBroker())
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(broker.keep_running(), name="broker.keep-running")
            yield EmbeddedConnector(MqttUrl.parse(broker.url), settings.mqtt_client)
            keeping.cancel()


async def serve(
    builds: Sequence[Build[RunSettings]], settings: RunSettings, connector: Connector, stop: asyncio.Event
) -> None:
    """Start services one by one, each once the previous one works; run until `stop`; then stop them in reverse order.

    Consumers come before producers, so that no message lacks a subscriber. StartError names a service that does not
    start.
    """
    async with asyncio.TaskGroup() as tasks:
        running: list[asyncio.Task[None]] = []
        for build in builds:
            service = build(settings, CollectorRegistry(), connector)
            task = tasks.create_task(service.run(), name=service.name)
            running.append(task)
            await _until_up(service, task, stop)
        await stop.wait()
        for task in reversed(running):
            task.cancel()
            await asyncio.wait([task])


async def _until_up(service: Service, task: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Wait until `service` has its broker and store, but not for anything outside, such as Kraken."""
    own = ("broker", "store")
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while not stop.is_set() and not task.done():
        checks = [check for check in service.health().checks if check.name in own]
        if all(check.ok for check in checks):
            return
        if asyncio.get_running_loop().time() > deadline:
            problems = "; ".join(check.detail for check in checks if not check.ok) or "it does not answer"
            raise StartError(f"{service.name} does not start: {problems}")
        await asyncio.sleep(0.05)
