"""All services in one process: how they are built, started in order and stopped in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from prometheus_client import CollectorRegistry

from admin_api import letters
from admin_api import service as admin
from aggregator import __version__ as aggregator_version
from aggregator.inputs import OneFilterInputs, SymbolInputs
from aggregator.service import Aggregator
from crypto_ingress.broker import EmbeddedBroker
from crypto_ingress.settings import RunSettings
from crypto_ingress.split_bus import SplitBus
from influx_writer import writer
from ingress_common.bus import Bus, LastWill
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from ingress_common.errors import StartError
from ingress_common.presence import claim_name, will_of
from ingress_common.service import Service
from ingress_store import CandleStore
from kraken_gateway import service as gateway
from kraken_gateway.kraken.attempts import FileAttempts

_START_SECONDS = 20.0
_BROKER_PORT = 1883


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services of one process have in common: settings, broker, and whether that broker is ours."""

    settings: RunSettings
    broker: MqttUrl
    embedded: bool

    def store(self) -> CandleStore:
        """The store, to be opened; SettingsError if the URL names none."""
        return self.settings.store()

    def bus(
        self,
        client_id: str,
        will: LastWill | None = None,
        *,
        expiry: int = 0,
        inbound: int = 1000,
        service: str | None = None,
    ) -> Bus:
        """A connection to the broker, to be opened; with `service` it first claims the instance's name for it."""
        if not self.embedded:
            return MqttBus(
                self.broker,
                client_id=client_id,
                will=will,
                session_expiry=expiry,
                inbound_limit=inbound,
                before=partial(claim_name, service, self.settings) if service else None,
            )
        return SplitBus(
            MqttBus(self.broker, client_id=f"{client_id}-in", session_expiry=expiry, inbound_limit=inbound),
            MqttBus(self.broker, client_id=f"{client_id}-out", will=will),
        )

    def writer(self) -> Service:
        """The influx-writer."""
        s, now = self.settings, time.time()
        # The embedded broker stops at 100 unacknowledged messages, so there a batch is written soon.
        limits = writer.Limits(seconds=0.02) if self.embedded else writer.Limits()
        return writer.Writer(
            bus=self.bus(
                writer.client_id(s.instance_id),
                writer.last_will(s.topics, s.instance_id, now),
                expiry=writer.SESSION_SECONDS,
                inbound=limits.rows,
                service=writer.NAME,
            ),
            store=self.store(),
            topics=s.topics,
            filters=writer.own_filters(s.topics) if self.embedded else writer.shared_filters(s.topics),
            instance=s.instance_id,
            registry=CollectorRegistry(),
            started_at=now,
            limits=limits,
        )

    def aggregator(self) -> Service:
        """The aggregator; on the embedded broker with the one subscription that it keeps in order."""
        s = self.settings
        will = will_of(s.topics, Aggregator.name, s.instance_id, version=aggregator_version, started_at=time.time())
        return Aggregator(
            self.bus(f"aggregator-{s.instance_id}-{uuid4().hex[:8]}", will, expiry=60, service=Aggregator.name),
            s.topics,
            OneFilterInputs(s.topics) if self.embedded else SymbolInputs(s.topics),
            s.instance_id,
            CollectorRegistry(),
            time.time,
            give_up_after=s.gap_give_up_hours * 3600,
        )

    def gateway(self) -> Service:
        """The kraken-gateway."""
        s = self.settings

        def open_bus(suffix: str, will: LastWill | None) -> Bus:
            client_id = f"{s.ingress_topic_prefix}-{gateway.GatewayService.name}-{s.instance_id}-{suffix}"
            return self.bus(
                client_id, will, service=gateway.GatewayService.name if suffix == gateway.REQUESTS else None
            )

        return gateway.GatewayService(
            s,
            CollectorRegistry(),
            open_bus,
            time.time,
            # The embedded broker ends with the process, and what it has retained with it.
            FileAttempts(s.kraken_ws_url) if self.embedded else None,
        )

    def admin_api(self) -> Service:
        """The admin-api."""
        s, now = self.settings, time.time()
        limits = s.upkeep(letters.LETTERS_KEPT_EMBEDDED if self.embedded else letters.LETTERS_KEPT)
        return admin.AdminApi(
            bus=self.bus(
                admin.client_id(s.instance_id), admin.last_will(s.topics, s.instance_id, now), service=admin.NAME
            ),
            letters_bus=self.bus(
                letters.client_id_of_letters(s.instance_id),
                expiry=letters.LETTERS_SESSION_SECONDS,
                inbound=limits.letters_kept + letters.LETTERS_INBOUND_SPARE,
            ),
            store=self.store(),
            topics=s.topics,
            instance=s.instance_id,
            registry=CollectorRegistry(),
            started_at=now,
            host=s.http_host,
            port=s.http_port,
            admin_token=s.admin_token.get_secret_value() if s.admin_token else None,
            http_limits=s.http_limits,
            trusted_proxies=s.trusted_proxies,
            limits=limits,
        )


@asynccontextmanager
async def broker_for(settings: RunSettings) -> AsyncIterator[Parts]:
    """The broker that MQTT_URL names, else an embedded one, on the standard port if that is free."""
    if settings.external_broker:
        yield Parts(settings, settings.mqtt_url, embedded=False)
        return
    async with AsyncExitStack() as stack:
        try:
            broker = await stack.enter_async_context(EmbeddedBroker(_BROKER_PORT))
        except StartError:
            broker = await stack.enter_async_context(EmbeddedBroker())
        yield Parts(settings, MqttUrl.parse(broker.url), embedded=True)


async def serve(builders: Sequence[Callable[[], Service]], stop: asyncio.Event) -> None:
    """Start services one after the other, each once the one before it works; run until `stop`; then end them in
    reverse, each drained.

    A writer is there before what it writes, so that nothing is published to nobody. StartError names a service that
    does not come up.
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
    """Wait until `service` has its connections.

    What it needs from outside, such as Kraken, may take as long as it will.
    """
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
