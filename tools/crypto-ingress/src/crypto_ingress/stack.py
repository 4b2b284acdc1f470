"""All services in one process: built, started in order and stopped in reverse order."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from prometheus_client import CollectorRegistry

from admin_api import app as admin
from admin_api.admin import dead_letters
from aggregator import __version__ as aggregator_version
from aggregator.service import Aggregator
from aggregator.subscriptions import SingleFilterSubscription, SymbolSubscriptions
from crypto_ingress.broker import EmbeddedBroker
from crypto_ingress.settings import RunSettings
from crypto_ingress.split_bus import SplitBus
from influx_writer import writer
from influx_writer.intake import PAYLOAD_LIMIT
from ingress_common.bus import Bus, LastWill
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from ingress_common.errors import StartError
from ingress_common.heartbeat import claim_name, will_of
from ingress_common.prefix import claim_name_and_prefix
from ingress_common.service import Service
from ingress_store import CandleStore
from kraken_gateway import service as gateway

_START_SECONDS = 20.0
_BROKER_PORT = 1883


@dataclass(frozen=True, slots=True)
class StackParts:
    """What the services of one process share: settings, broker URL, and whether that broker is embedded."""

    settings: RunSettings
    broker: MqttUrl
    embedded: bool

    def store(self) -> CandleStore:
        """The store, not yet opened. SettingsError if the URL is invalid."""
        return self.settings.store()

    def bus(
        self,
        client_id: str,
        will: LastWill | None = None,
        *,
        expiry: int = 0,
        inbound: int = 1000,
        claim: Callable[[], Awaitable[None]] | None = None,
    ) -> Bus:
        """A connection to the broker, not yet opened. Opening one to an outside broker awaits `claim` first."""
        if not self.embedded:
            return MqttBus(
                self.broker,
                client=self.settings.mqtt_client,
                client_id=client_id,
                will=will,
                session_expiry=expiry,
                inbound_limit=inbound,
                before=claim,
            )
        connect = partial(MqttBus, self.broker, client=self.settings.mqtt_client)
        return SplitBus(
            connect(client_id=f"{client_id}-in", session_expiry=expiry, inbound_limit=inbound),
            connect(client_id=f"{client_id}-out", will=will),
        )

    def writer(self) -> Service:
        """The influx-writer. Its two connections serve the embedded broker as `SplitBus` does for other services."""
        s, now = self.settings, time.time()
        # The embedded broker stops at 100 unacknowledged messages, so a batch must be written quickly.
        limits = writer.Limits(seconds=0.02) if self.embedded else writer.Limits()
        return writer.Writer(
            bus=MqttBus(
                self.broker,
                client=s.mqtt_client,
                client_id=writer.client_id(s.topics, s.instance_id),
                session_expiry=writer.SESSION_SECONDS,
                inbound_limit=limits.inbound,
                payload_limit=PAYLOAD_LIMIT,
            ),
            control=MqttBus(
                self.broker,
                client=s.mqtt_client,
                client_id=writer.control_client_id(s.topics, s.instance_id),
                will=writer.last_will(s.topics, s.instance_id, now),
                before=None if self.embedded else partial(claim_name_and_prefix, writer.NAME, s, s.store_name),
            ),
            store=self.store(),
            topics=s.topics,
            instance=s.instance_id,
            registry=CollectorRegistry(),
            started_at=now,
            limits=limits,
            published_secrets=s.published_secrets,
            store_name=s.store_name,
        )

    def aggregator(self) -> Service:
        """The aggregator. The embedded broker keeps order only within one subscription, so it gets only one."""
        s = self.settings
        will = will_of(s.topics, Aggregator.name, s.instance_id, version=aggregator_version, started_at=time.time())
        return Aggregator(
            self.bus(
                f"aggregator-{s.instance_id}-{uuid4().hex[:8]}",
                will,
                expiry=60,
                claim=partial(claim_name, Aggregator.name, s),
            ),
            s.topics,
            SingleFilterSubscription(s.topics) if self.embedded else SymbolSubscriptions(s.topics),
            s.instance_id,
            CollectorRegistry(),
            time.time,
            give_up_after=s.gap_give_up_hours * 3600,
            published_secrets=s.published_secrets,
        )

    def gateway(self) -> Service:
        """The kraken-gateway."""
        s = self.settings

        def open_bus(suffix: str, will: LastWill | None) -> Bus:
            client_id = f"{s.ingress_topic_prefix}-{gateway.GatewayService.name}-{s.instance_id}-{suffix}"
            return self.bus(
                client_id,
                will,
                claim=partial(claim_name, gateway.GatewayService.name, s) if suffix == gateway.REQUESTS else None,
            )

        return gateway.GatewayService(
            s,
            CollectorRegistry(),
            open_bus,
            time.time,
        )

    def admin_api(self) -> Service:
        """The admin-api."""
        s, now = self.settings, time.time()
        kept = dead_letters.LETTERS_KEPT_EMBEDDED if self.embedded else dead_letters.DEAD_LETTERS_KEPT
        return admin.AdminApi(
            s,
            bus=self.bus(
                admin.client_id(s.topics, s.instance_id),
                admin.last_will(s.topics, s.instance_id, now),
                claim=partial(claim_name_and_prefix, admin.NAME, s, s.store_name),
            ),
            dead_letter_bus=self.bus(
                dead_letters.client_id_of_dead_letters(s.topics, s.instance_id),
                expiry=dead_letters.DEAD_LETTERS_SESSION_SECONDS,
                inbound=kept + dead_letters.DEAD_LETTERS_INBOUND_SPARE,
            ),
            store=self.store(),
            registry=CollectorRegistry(),
            started_at=now,
            dead_letters_kept=kept,
        )


@asynccontextmanager
async def broker_for(settings: RunSettings) -> AsyncIterator[StackParts]:
    """The broker that MQTT_URL names; without MQTT_URL an embedded one, on port 1883 if that is free."""
    if settings.external_broker:
        yield StackParts(settings, settings.mqtt_url, embedded=False)
        return
    async with AsyncExitStack() as stack:
        try:
            broker = await stack.enter_async_context(EmbeddedBroker(_BROKER_PORT))
        except StartError:
            broker = await stack.enter_async_context(EmbeddedBroker())
        yield StackParts(settings, MqttUrl.parse(broker.url), embedded=True)


async def serve(builders: Sequence[Callable[[], Service]], stop: asyncio.Event) -> None:
    """Start services one by one, each once the previous one works; run until `stop`; then stop them in reverse order.

    Consumers come before producers, so that no message lacks a subscriber. StartError names a service that does not
    start.
    """
    async with asyncio.TaskGroup() as tasks:
        running: list[asyncio.Task[None]] = []
        for build in builders:
            service = build()
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
            trouble = "; ".join(check.detail for check in checks if not check.ok) or "it does not answer"
            raise StartError(f"{service.name} does not start: {trouble}")
        await asyncio.sleep(0.05)
