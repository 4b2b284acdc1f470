"""admin-api on the in-memory broker, a SQLite file and a clock that stands still."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from memory_broker import MemoryBroker, MemoryBus
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from admin_api import AdminSettings
from admin_api.admin.dead_letters import (
    DEAD_LETTERS_INBOUND_SPARE,
    DEAD_LETTERS_SESSION_SECONDS,
    client_id_of_dead_letters,
)
from admin_api.app import AdminApi, client_id, last_will
from example import CANDLE
from ingress_common.model import Candle, FeedCondition, FeedState, InstanceState, Status, Watermark
from ingress_common.payloads import encode_candle, encode_feed_state, encode_status, encode_watermark
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics
from ingress_store import SqliteStore
from waiting import until

NOW = 1_700_000_030.0
TOKEN = "s3cret-token"


@dataclass
class World:
    """A broker with everything in it that a healthy system publishes, once `healthy` was called."""

    path: Path
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    topics: Topics = field(default_factory=Topics)
    now: float = NOW
    writer: dict[str, Any] = field(default_factory=dict)  # details of the status of influx-writer
    client: Any = None
    http: Any = None
    bus: Any = None
    dead_letter_bus: Any = None
    registry: Any = None
    service: Any = None
    task: Any = None

    @asynccontextmanager
    async def running(
        self, admin_token: str | None = TOKEN, dead_letters_kept: int = 5, **settings: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Run the service with `settings`; gives a client that calls its application directly."""
        self.dead_letter_bus = MemoryBus(
            self.broker,
            client_id=client_id_of_dead_letters(self.topics, "a1"),
            session_expiry=DEAD_LETTERS_SESSION_SECONDS,
            inbound_limit=dead_letters_kept + DEAD_LETTERS_INBOUND_SPARE,
        )
        self.bus = MemoryBus(
            self.broker,
            client_id=client_id(self.topics, "a1"),
            will=last_will(self.topics, "a1", self.now),
            inbound_limit=5_000,
        )
        self.registry = CollectorRegistry()
        common = {"instance_id": "a1", "http_port": 0, "rate_limit": 0, "self_check_seconds": 0}
        self.service = AdminApi(
            AdminSettings(
                _env_file=None,
                **{**common, "store_url": f"sqlite:///{self.path}", **settings, "admin_token": admin_token},
            ),
            bus=self.bus,
            dead_letter_bus=self.dead_letter_bus,
            store=SqliteStore(self.path, clock=lambda: self.now, busy_seconds=0.05),
            registry=self.registry,
            started_at=self.now,
            clock=lambda: self.now,
            dead_letters_kept=dead_letters_kept,
        )
        task = self.task = asyncio.create_task(self.service.run())
        transport = httpx.ASGITransport(self.service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as self.http:
            try:
                await self.until(lambda: task.done() or self.service.health().ready)
                yield self.http
            finally:
                task.cancel()
                await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def until(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        """Wait for `condition`, which may be a coroutine function."""
        await until(condition, seconds, every=0.005)

    async def send(self, topic: str, payload: bytes, retain: bool = True) -> None:
        await (await self.client.publish(topic, payload, qos=1, retain=retain))

    async def status(
        self, service: str, instance: str = "i1", state: InstanceState = InstanceState.ONLINE, **details
    ) -> None:
        status = Status(service, instance, state, "0.1.0", NOW, details)
        await self.send(self.topics.status(service, instance), encode_status(status))

    async def feed(self, feed: str = "f1", symbols=("BTC/USD",), state=FeedCondition.LIVE, **more) -> None:
        since = more.pop("since", self.now)
        state = FeedState(feed, state, since, tuple(symbols), more.pop("rejected", {}))
        await self.send(self.topics.feed(feed), encode_feed_state(state))

    async def watermark(self, feed: str = "f1", age: float = 1.0) -> None:
        watermark = Watermark(feed, self.now - age, self.now)
        await self.send(self.topics.watermark(feed), encode_watermark(watermark), retain=False)

    async def candle(self, candle: Candle) -> None:
        await self.send(self.topics.candles(candle.symbol, candle.timeframe), encode_candle(candle))

    async def forming(self, minute: Candle) -> None:
        """Publish a forming minute, and the forming candles of the higher timeframes that follow it."""
        for timeframe in TIMEFRAMES:
            open_time = timeframe.floor(minute.open_time)
            await self.candle(msgspec.structs.replace(minute, timeframe=timeframe, open_time=open_time))

    async def healthy(self) -> None:
        """Publish what a healthy system publishes, and store what it stores."""
        await self.alive()
        await self.seed("BTC/USD")

    async def alive(self) -> None:
        """Services and feed of a healthy system, before they have made a candle."""
        await self.services()
        await self.feed()
        await self.watermark()

    async def wait(self, seconds: float) -> None:
        """Let time pass in which the services go on saying that they are there, and nothing closes."""
        self.now += seconds
        await self.services()
        await self.watermark()

    async def seed(self, symbol: str) -> None:
        """The newest closed candle of every timeframe, on the bus and in the store."""
        for timeframe in TIMEFRAMES:
            closed = msgspec.structs.replace(
                CANDLE,
                symbol=symbol,
                timeframe=timeframe,
                open_time=timeframe.floor(self.now) - timeframe.seconds,
                at=self.now - 29,
            )
            await self.candle(closed)
            await self.store(closed)

    async def services(self) -> None:
        """Publish an online status of every service."""
        await self.status("kraken-gateway", feeds={"f1": "live"}, owned_since={"BTC/USD": rfc3339(self.now)})
        await self.status("aggregator", symbols=["BTC/USD", "ETH/USD", "ADA/USD"])
        await self.status("influx-writer", **self.writer)

    async def health(self) -> tuple[int, dict[str, str]]:
        """The status of `GET /health`, and the details of the checks that fail."""
        answer = await self.http.get("/health")
        return answer.status_code, {c["name"]: c["detail"] for c in answer.json()["checks"] if not c["ok"]}

    async def until_failing(self, *checks: str) -> dict[str, str]:
        """Wait until exactly these checks fail; with none, until all is well."""
        found: dict[str, str] = {}

        async def matches() -> bool:
            nonlocal found
            status, found = await self.health()
            return set(found) == set(checks) and status == (503 if checks else 200)

        try:
            await self.until(matches, 10)
        except AssertionError:
            pytest.fail(f"expected {checks or 'nothing'} to fail, got {found}")
        return found

    async def store(self, *candles: Candle) -> None:
        async with SqliteStore(self.path, clock=lambda: self.now) as store:
            await store.write(candles, [])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "candles.db")
    async with MemoryBus(world.broker, client_id="test") as world.client:
        yield world


@pytest.fixture
def candle() -> Callable[..., Candle]:
    """Makes a closed candle of BTC/USD, `minute` windows from the current one, with what is given changed."""
    plain = replace(CANDLE, at=NOW - 29)

    def make(minute: int = -1, **changes: Any) -> Candle:
        timeframe = changes.get("timeframe", Timeframe.M1)
        open_time = timeframe.floor(NOW) + minute * timeframe.seconds
        return replace(plain, **{"open_time": open_time, **changes})

    return make
