"""The service: follows the bus, watches the store, serves HTTP."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from prometheus_client import CollectorRegistry

from admin_api.http.app import create_app
from admin_api.http.context import Context
from admin_api.http.limits import HttpLimits
from admin_api.maintenance.upkeep import Upkeep, UpkeepLimits
from admin_api.metrics import AdminMetrics, StreamMetrics
from admin_api.reading.bulk import BulkReads
from admin_api.reading.live import LiveCandles, LiveFullError
from admin_api.reading.recent import RecentCandles
from admin_api.reading.stream import Streams
from admin_api.system.monitor import StoreMonitor
from admin_api.system.view import BusView, ViewFullError
from ingress_common.bus import Bus, Connected, LastWill, Message
from ingress_common.errors import StartError
from ingress_common.health import Health
from ingress_common.logs import get_logger
from ingress_common.model import Candle
from ingress_common.payloads import dead_letter, decode_status, encode_dead_letter
from ingress_common.presence import StatusPublisher, will_of
from ingress_common.probes import serve_http
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics, symbol_of
from ingress_store import CandleStore, StoreOpenError

NAME = "admin-api"

log = get_logger(__name__)


def client_id(instance: str) -> str:
    """The MQTT client of an instance."""
    return f"{NAME}-{instance}"


def last_will(topics: Topics, instance: str, started_at: float) -> LastWill:
    """What the broker says when the service's connection dies. `started_at` in unix seconds."""
    return will_of(topics, NAME, instance, version=version(NAME), started_at=started_at)


class AdminApi:
    """Health of everything, bootstrap and upkeep of the store, candles over HTTP on `host`:`port` (0: any free one).

    It needs no session on the broker but that of the dead letters, on `letters_bus`: what else counts is retained or
    comes again every second. `clock` gives unix seconds.
    """

    name = NAME

    def __init__(
        self,
        *,
        bus: Bus,
        letters_bus: Bus,
        store: CandleStore,
        topics: Topics,
        instance: str,
        registry: CollectorRegistry,
        started_at: float,
        host: str,
        port: int,
        admin_token: str | None,
        http_limits: HttpLimits | None = None,
        trusted_proxies: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        limits: UpkeepLimits | None = None,
    ) -> None:
        self._bus = bus
        self._store = store
        self._topics = topics
        self._clock = clock
        self._host = host
        self._trusted_proxies = tuple(trusted_proxies)
        self.port = port
        """The port that HTTP is served on; once running, the one that was found free for 0."""
        self._own_status = topics.status(NAME, instance)
        self._view = BusView(topics)
        self._monitor = StoreMonitor(store)
        self._metrics = AdminMetrics(registry)
        http_limits = http_limits or HttpLimits()
        self._live = LiveCandles(lambda: uuid4().hex[:8])
        self._recent = RecentCandles(store, self._live, time.monotonic, clock)
        self._streams = Streams(self._live, http_limits.streams, StreamMetrics(registry))
        self._status = StatusPublisher(bus, topics, NAME, instance, version(NAME), started_at, self._details)
        self._upkeep = Upkeep(
            bus=bus,
            letters_bus=letters_bus,
            store=store,
            topics=topics,
            service=NAME,
            instance=instance,
            view=self._view,
            ready=lambda: self._monitor.check.ok,
            clock=clock,
            registry=registry,
            limits=limits or UpkeepLimits(),
        )
        self._context = Context(
            view=self._view,
            store=store,
            monitor=self._monitor,
            upkeep=self._upkeep,
            broker_connected=lambda: bus.connected,
            clock=clock,
            registry=registry,
            metrics=self._metrics,
            admin_token=admin_token,
            http_limits=http_limits,
            live=self._live,
            recent=self._recent,
            streams=self._streams,
            bulk=BulkReads(store),
        )
        self.app = create_app(self._context)

    def health(self) -> Health:
        """Ready when broker and store answer."""
        return self._context.health()

    async def run(self) -> None:
        """Serve until cancelled; StartError if the port is taken or the store cannot be used as it is."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._store)
            except StoreOpenError as error:
                raise StartError(f"STORE_URL: {error}") from None
            await stack.enter_async_context(self._bus)
            await self._bus.subscribe(*self._view.filters())
            self.port = await stack.enter_async_context(
                serve_http(self.app, self._host, self.port, trusted_proxies=self._trusted_proxies)
            )
            # Before the server waits for what is under way, which streams would be without end.
            stack.callback(self._streams.stop)
            log.info("http.serving", host=self._host, port=self.port)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._status.run(), name="admin.status")
                tasks.create_task(self._monitor.run(), name="admin.watch-store")
                tasks.create_task(self._follow(), name="admin.follow")
                tasks.create_task(self._streams.beat(), name="admin.heartbeat")
                tasks.create_task(self._recent.refresh(), name="admin.refresh-candles")
                tasks.create_task(self._upkeep.run(), name="admin.upkeep")

    async def _follow(self) -> None:
        connected = False
        async for event in self._bus.events():
            if isinstance(event, Connected):
                if connected:
                    self._recent.clear()
                    self._live.interrupted("the connection to the broker was interrupted", self._clock())
                connected = True
                self._status.announce()
                self._upkeep.reconnected()
            else:
                await self._take(event)
                event.ack()

    async def _take(self, message: Message) -> None:
        self._metrics.messages.inc()
        try:
            if self._upkeep.takes(message):
                return
            candle = self._view.apply(message.topic, message.payload, self._clock())
            if candle is not None:
                self._pass_on(candle, message.payload)
            elif not message.payload:
                self._forget(message.topic)
            if message.topic == self._own_status and message.payload and not message.retain:
                self._status.heard(decode_status(message.payload))
        except (ViewFullError, LiveFullError) as error:
            self._metrics.rejected.labels("full").inc()
            log.debug("view.full", reason=str(error))
        except ValueError as error:
            self._metrics.rejected.labels("undecodable").inc()
            await self._bury(message, str(error))

    def _pass_on(self, candle: Candle, payload: bytes) -> None:
        frame = self._live.take(candle, payload, self._clock())
        if frame is not None:
            self._recent.take(frame)

    def _forget(self, topic: str) -> None:
        """What was retained has been cleared."""
        match self._topics.split(topic):
            case ("candles", _, symbol, timeframe):
                self._live.forget((symbol_of(symbol), Timeframe.parse(timeframe)))

    async def _bury(self, message: Message, reason: str) -> None:
        own = self._topics.dead_letter(NAME)
        # A bad message among the dead letters must not breed more of them.
        if message.topic.rpartition("/")[0] != own.rpartition("/")[0]:
            letter = dead_letter(message.topic, message.payload, reason, self._clock())
            await self._bus.publish(own, encode_dead_letter(letter))

    def _details(self) -> dict[str, Any]:
        return {"ready": self.health().ready, "port": self.port}
