"""The composition of the service: `admin`, `candles` and `reconciler`, which do not import each other, on one port."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry, Counter
from starlette.middleware.cors import CORSMiddleware

from admin_api.admin import bodies as admin_bodies
from admin_api.admin.admin import Admin
from admin_api.admin.authorization import Authorization
from admin_api.admin.bootstrap import StoreMonitor
from admin_api.admin.dead_letters import (
    DEAD_LETTERS_INBOUND_SPARE,
    DEAD_LETTERS_KEPT,
    DEAD_LETTERS_KEPT_EMBEDDED,
    DEAD_LETTERS_SESSION_SECONDS,
    client_id_of_dead_letters,
)
from admin_api.candles import bodies as candles_bodies
from admin_api.candles.candles import Candles
from admin_api.candles.live import LiveFullError
from admin_api.http import problems
from admin_api.http.compression import Compression
from admin_api.http.limits import Limiter
from admin_api.http.middleware import Head, HttpMetrics, RequestCounter, SecurityHeaders
from admin_api.http.responses import schemas
from admin_api.reconciler import bodies as reconciler_bodies
from admin_api.reconciler.reconciler import Reconciler
from admin_api.settings import AdminSettings
from admin_api.system.state import AheadOfClockError, StateFullError, SystemState
from ingress_common.bus import Bus, Connected, LastWill, Message
from ingress_common.connector import Connector
from ingress_common.dead_letters import DeadLetterPublisher
from ingress_common.errors import StartError
from ingress_common.health import Health, broker_check
from ingress_common.health_server import serve_http
from ingress_common.heartbeat import StatusPublisher, will_of
from ingress_common.logs import get_logger
from ingress_common.payloads import decode_status
from ingress_common.prefix import PrefixGuard, claim_name_and_prefix
from ingress_common.service_names import ADMIN_API
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics, symbol_of
from ingress_store import CandleStore, StoreOpenError

_INBOUND = 20_000
"""Maximum number of unprocessed messages. The retained candles of all pairs and timeframes arrive at once and fit."""

_BODIES = (problems.Problem, *admin_bodies.BODIES, *candles_bodies.BODIES, *reconciler_bodies.BODIES)

log = get_logger(__name__)


def client_id(topics: Topics, instance: str) -> str:
    """The MQTT client id of an instance; unique per topic prefix on a broker."""
    return f"{topics.prefix}-{ADMIN_API}-{instance}"


def last_will(topics: Topics, instance: str, started_at: float) -> LastWill:
    """The offline status that the broker publishes when the connection is lost. `started_at` in unix seconds."""
    return will_of(topics, ADMIN_API, instance, version=version(ADMIN_API), started_at=started_at)


def build(settings: AdminSettings, registry: CollectorRegistry, connector: Connector) -> "AdminApi":
    """The admin-api of one process; SettingsError if STORE_URL names an unknown kind of store."""
    started_at = time.time()
    kept = DEAD_LETTERS_KEPT_EMBEDDED if connector.embedded else DEAD_LETTERS_KEPT
    return AdminApi(
        settings,
        bus=connector.open(
            client_id(settings.topics, settings.instance_id),
            will=last_will(settings.topics, settings.instance_id, started_at),
            inbound_limit=_INBOUND,
            before=partial(claim_name_and_prefix, ADMIN_API, settings, settings.store_name),
        ),
        dead_letter_bus=connector.open(
            client_id_of_dead_letters(settings.topics, settings.instance_id),
            session_expiry=DEAD_LETTERS_SESSION_SECONDS,
            inbound_limit=kept + DEAD_LETTERS_INBOUND_SPARE,
        ),
        store=settings.store(),
        registry=registry,
        started_at=started_at,
        dead_letters_kept=kept,
    )


class AdminApi:
    """Health of everything, bootstrap and repair of the store, candles over HTTP.

    Only `dead_letter_bus` needs a persistent session, because the broker keeps the dead letters in it. All other state
    is retained, or published every second. `clock` gives unix seconds.
    """

    name = ADMIN_API

    def __init__(
        self,
        settings: AdminSettings,
        *,
        bus: Bus,
        dead_letter_bus: Bus,
        store: CandleStore,
        registry: CollectorRegistry,
        started_at: float,
        clock: Callable[[], float] = time.time,
        dead_letters_kept: int = DEAD_LETTERS_KEPT,
    ) -> None:
        topics, instance = settings.topics, settings.instance_id
        self._settings = settings
        self._bus = bus
        self._store = store
        self._topics = topics
        self._clock = clock
        self.port = settings.http_port
        """The port that HTTP is served on; once running, the one that was found free for 0."""
        self._own_statuses = topics.status(ADMIN_API, "")
        self._prefix = PrefixGuard(topics, ADMIN_API, started_at, settings.store_name)
        self._status = StatusPublisher(
            bus,
            topics,
            ADMIN_API,
            instance,
            version(ADMIN_API),
            started_at,
            self._details,
            unsafe_secrets=settings.unsafe_secrets,
        )
        self._metrics = _BusCounters(registry)
        self._dead_letters = DeadLetterPublisher(bus, topics, ADMIN_API)
        self.state = SystemState(topics)
        """What the bus reports."""
        self.candles = Candles(
            state=self.state,
            store=store,
            streams=(settings.max_streams, settings.max_streams_per_address),
            registry=registry,
            clock=clock,
        )
        authorization = Authorization(settings.admin_token.get_secret_value() if settings.admin_token else None)
        monitor = StoreMonitor(store)
        self.reconciler = Reconciler(
            state=self.state,
            bus=bus,
            store=store,
            topics=topics,
            service=ADMIN_API,
            instance=instance,
            pace=settings.pace,
            store_ready=monitor.is_ready,
            authorized=authorization.required,
            registry=registry,
            clock=clock,
        )
        monitor.on_deleted(self.reconciler.stored.forget)
        self.admin = Admin(
            state=self.state,
            store=store,
            monitor=monitor,
            dead_letter_bus=dead_letter_bus,
            dead_letters_kept=dead_letters_kept,
            topics=topics,
            broker=partial(broker_check, bus, self._status),
            authorization=authorization,
            contribution=self.reconciler,
            registry=registry,
            clock=clock,
        )
        routers = (*self.admin.routers, *self.candles.routers, *self.reconciler.routers)
        self.app = _application(routers, settings, registry)

    def health(self) -> Health:
        """Ready when broker and store answer."""
        return self.admin.health.process()

    async def run(self) -> None:
        """Serve until cancelled; StartError if the port is taken or the store cannot be used as it is."""
        host, proxies = self._settings.http_host, self._settings.trusted_proxies
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._store)
            except StoreOpenError as error:
                raise StartError(f"STORE_URL: {error}") from None
            await stack.enter_async_context(self._bus)
            await self._bus.subscribe(*self.state.filters(), *self.reconciler.filters())
            self.port = await stack.enter_async_context(
                serve_http(self.app, host, self.port, trusted_proxies=proxies, tls=self._settings.http_tls)
            )
            # End the streams before the server stops: it waits for running responses, and a stream has no end.
            stack.callback(self.candles.stop)
            log.info("http.serving", host=host, port=self.port)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._status.run(), name="admin-api.status")
                tasks.create_task(self._follow(), name="admin-api.follow")
                tasks.create_task(self.admin.run(), name="admin-api.admin")
                tasks.create_task(self.candles.run(), name="admin-api.candles")
                tasks.create_task(self.reconciler.run(), name="admin-api.reconciler")

    async def _follow(self) -> None:
        connected = False
        async for event in self._bus.events():
            if isinstance(event, Connected):
                if connected:
                    self.candles.reconnected()
                connected = True
                self._status.announce()
                self.state.reconnected()
                self.reconciler.reconnected()
            else:
                await self._take(event)
                event.ack()

    async def _take(self, message: Message) -> None:
        self._metrics.messages.inc()
        try:
            self._hand_out(message)
        except (StateFullError, LiveFullError) as error:
            self._metrics.rejected.labels("full").inc()
            log.debug("state.full", reason=str(error))
        except AheadOfClockError as error:
            # No dead letter: our own clock may be wrong, which `clock_check` reports, and then the message is good.
            self._metrics.rejected.labels("ahead").inc()
            log.debug("state.ahead", topic=message.topic, reason=str(error))
        except ValueError as error:
            self._metrics.rejected.labels("undecodable").inc()
            if not self._dead_letters.is_dead_letter(message.topic):
                await self._dead_letters.publish(message.topic, message.payload, str(error), self._clock())

    def _hand_out(self, message: Message) -> None:
        """Pass a message to the packages that use it; ValueError if it is malformed."""
        if self.reconciler.take(message):
            return
        topic, payload = message.topic, message.payload
        candle = self.state.apply(topic, payload, self._clock(), message.properties, retained=message.retain)
        if candle is not None:
            self.candles.take(candle, payload)
        elif not payload:
            match self._topics.split(topic):
                case ("candles", _, symbol, timeframe):
                    self.candles.forget((symbol_of(symbol), Timeframe.parse(timeframe)))
        elif topic.startswith(self._own_statuses) and not message.retain:
            status = decode_status(payload)
            self._status.received(status)
            self._prefix.received(status)

    def _details(self) -> dict[str, Any]:
        return {
            "ready": self.health().ready,
            "port": self.port,
            **self._prefix.details,
        }


class _BusCounters:
    """Counters of messages from the bus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.messages = Counter("ingress_admin_messages", "Messages received from the bus", registry=registry)
        self.rejected = Counter(
            "ingress_admin_rejected", "Messages that could not be used, by reason", ("reason",), registry=registry
        )


def _application(routers: tuple[APIRouter, ...], settings: AdminSettings, registry: CollectorRegistry) -> FastAPI:
    app = FastAPI(
        title="Crypto Ingress",
        summary="Health, bootstrap, candles and repair",
        version=version(ADMIN_API),
        redirect_slashes=False,
        # Relative to the document, so that `/docs` works behind a proxy that adds a path.
        servers=[{"url": "./"}],
        # FastAPI's own pages load scripts from another host; the dashboard package serves `/docs`.
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    for router in routers:
        app.include_router(router)
    # The middleware that is added last processes a request first.
    metrics, origins = HttpMetrics(registry), settings.cors_origins
    app.add_middleware(Compression)
    app.add_middleware(
        Limiter, rate=settings.rate_limit, burst=settings.rate_burst, metrics=metrics, steady=time.monotonic
    )
    app.add_middleware(RequestCounter, metrics=metrics, steady=time.monotonic)
    app.add_middleware(Head)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "Link", "Retry-After"],
        )
    app.add_middleware(SecurityHeaders, shared=bool(origins))
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Add the response schemas, and the errors that any route may return, to the OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas(_BODIES))
            problems.describe_common(document)
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]
