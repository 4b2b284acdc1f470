"""All services on one broker and one store, with a simulated Kraken whose pairs come and go, and the truth of them."""

import asyncio
import csv
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from admin_api.app import AdminApi
from admin_api.settings import AdminSettings
from influx_writer.writer import SESSION_SECONDS
from ingress_common.bus import Bus, LastWill, Message
from ingress_common.model import Candle, FeedState
from ingress_common.payloads import decode_candle, decode_feed_state
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339
from ingress_store import CandleStore, InfluxAccess, Retention, open_store, parse_store_url
from kraken_simulator import Simulator, SimulatorConfig
from pipeline import TOPICS, aggregator_on, gateway_of, writer_on
from waiting import until

Clock = Callable[[], float]

USERS = {
    "gateway": "kraken-gateway",
    "aggregator": "aggregator",
    "writer": "influx-writer",
    "admin": "admin-api",
    "listener": "viewer",
}
"""The users of the clients, by the first part of their names."""


RETENTION = Retention.parse("ticks=forever")
"""The clock may be a week behind, and raw ticks are kept for a week."""


@dataclass(frozen=True)
class StorePlace:
    """A store, by the settings of the services."""

    url: str
    org: str | None = None
    token: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "store_url": self.url,
            "influx_org": self.org,
            "influx_token": self.token,
            "retention": RETENTION,
        }

    @property
    def environment(self) -> dict[str, str]:
        named = {"STORE_URL": self.url, "INFLUX_ORG": self.org, "INFLUX_TOKEN": self.token}
        return {name: value for name, value in named.items() if value}

    def open(self, clock: Clock) -> CandleStore:
        access = InfluxAccess(self.org, self.token) if self.org and self.token else None
        return open_store(parse_store_url(self.url), clock=clock, retention=RETENTION, influx=access)


class World:
    """Kraken and all services by one clock, and who listens. `connect` makes a bus of a client id.

    `kraken` must run; `behind` gives the addresses under which the gateway reaches it.
    """

    def __init__(self, connect: Callable[..., Bus], place: StorePlace, clock: Clock, kraken: Simulator) -> None:
        self.connect = connect
        self.place = place
        self.clock = clock
        self.kraken = kraken
        self.behind: Any = kraken
        self.closed: dict[tuple[str, Timeframe, int], Candle] = {}
        self.dead_letters: list[bytes] = []
        self.retained: dict[str, bytes] = {}
        self._feeds: dict[str, FeedState] = {}
        self.admin: AdminApi | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    # --- services ---

    async def follow(self, *patterns: str) -> None:
        """(Re)start the gateway with these SYMBOLS."""

        def connect(name: str, will: LastWill | None) -> Bus:
            return self.connect(name, will=will)

        await self._replace("gateway", gateway_of(self.behind, patterns, CollectorRegistry(), connect, self.clock))

    async def restart_aggregator(self) -> None:
        # Every run has a session of its own.
        bus = self.connect(f"aggregator-{uuid4().hex[:8]}", session_expiry=60, inbound_limit=1000)
        await self._replace("aggregator", aggregator_on(bus, CollectorRegistry(), self.clock))

    async def stop_aggregator(self) -> None:
        await self._end("aggregator")

    async def start(self) -> None:
        """Start the listener, the writer and admin-api."""
        self._running["listener"] = asyncio.create_task(self._listen())
        await self.restart_readers()

    async def restart_readers(self) -> None:
        """(Re)start the writer and admin-api."""
        bus = self.connect("writer", session_expiry=SESSION_SECONDS, inbound_limit=8_000)
        writer = writer_on(
            bus, self.connect("writer-control"), self.place.open(self.clock), CollectorRegistry(), self.clock
        )
        await self._replace("writer", writer)
        self.admin = AdminApi(
            AdminSettings(_env_file=None, **self.place.settings, instance_id="a1", http_port=0),
            bus=self.connect("admin", inbound_limit=5000),
            dead_letter_bus=self.connect("admin-letters", session_expiry=SESSION_SECONDS),
            store=self.place.open(self.clock),
            registry=CollectorRegistry(),
            started_at=self.clock(),
            clock=self.clock,
        )
        await self._replace("admin", self.admin)
        await until(lambda: self.admin is not None and self.admin.health().ready)

    async def stop(self) -> None:
        for name in tuple(self._running):
            await self._end(name)

    async def _replace(self, name: str, service: Any) -> None:
        await self._end(name)
        self._running[name] = asyncio.create_task(service.run(), name=name)

    async def _end(self, name: str) -> None:
        if task := self._running.pop(name, None):
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self) -> None:
        filters = (TOPICS.candles("+", "+"), TOPICS.ending("+", "+"), TOPICS.dead_letter("+"), TOPICS.feed("+"))
        async with self.connect("listener", inbound_limit=60_000) as bus:
            await bus.subscribe(*filters)
            async for event in bus.events():
                if isinstance(event, Message):
                    self._take(event)
                    event.ack()

    def _take(self, message: Message) -> None:
        if "/dead-letter/" in message.topic:
            self.dead_letters.append(message.payload)
            return
        if not message.payload:
            self.retained.pop(message.topic, None)
            self._feeds.pop(message.topic, None)
            return
        if "/feed/" in message.topic:
            self._feeds[message.topic] = decode_feed_state(message.payload)
            return
        candle, known = decode_candle(message.payload), self.retained.get(message.topic)
        if known is None or decode_candle(known).open_time <= candle.open_time:
            # What is retained is the newest.
            self.retained[message.topic] = message.payload
        if candle.closed:
            self.closed[candle.symbol, candle.timeframe, candle.open_time] = candle

    # --- what is known of it ---

    async def change(self, kind: str, symbol: str, **fields: object) -> None:
        """Change a pair at Kraken."""
        async with httpx.AsyncClient(timeout=30.0) as client:
            body = {"kind": kind, "symbol": symbol, **fields}
            (await client.post(f"{self.kraken.control_url}/faults", json=body)).raise_for_status()

    def on_the_bus(self, symbol: str) -> dict[Timeframe, Candle]:
        """The retained candles of `symbol`."""
        found = {timeframe: self.retained.get(TOPICS.candles(symbol, timeframe)) for timeframe in TIMEFRAMES}
        return {timeframe: decode_candle(payload) for timeframe, payload in found.items() if payload}

    def has_closed_whole(self, symbol: str, minute: int) -> bool:
        """Whether the minute has closed and no timeframe lacks anything."""
        candles = self.on_the_bus(symbol)
        return (
            (symbol, Timeframe.M1, minute) in self.closed
            and len(candles) == len(TIMEFRAMES)
            and all(candle.complete for candle in candles.values())
        )

    @property
    def fed(self) -> set[str]:
        """The symbols that feeds carry."""
        return {symbol for feed in self._feeds.values() for symbol in feed.symbols}

    @property
    def rejected(self) -> set[str]:
        """The symbols that Kraken refuses."""
        return {symbol for feed in self._feeds.values() for symbol in feed.rejected}

    def endings(self, *symbols: str) -> list[str]:
        """The last windows that are open, of `symbols` or of all."""
        wanted = {TOPICS.ending(symbol, timeframe) for symbol in symbols for timeframe in TIMEFRAMES}
        return [topic for topic in self.retained if "/ending/" in topic and (not wanted or topic in wanted)]

    async def truth(self, symbol: str, timeframe: Timeframe, window: int) -> tuple | None:
        """The numbers of a window, if it traded."""
        url = f"{self.kraken.control_url}/truth/{symbol.replace('/', '-')}"
        query = {"timeframe": timeframe.value, "from": str(window), "to": str(window + timeframe.seconds)}
        async with httpx.AsyncClient(timeout=30.0) as client:
            rows = (await client.get(url, params=query)).raise_for_status().json()["candles"]
        for row in rows:
            if parse_rfc3339(row["open_time"]) == window:
                prices = (Decimal(str(row[name])) for name in ("open", "high", "low", "close", "volume"))
                return (*prices, row["trades"])
        return None

    async def truths(self, symbols: Iterable[str], instant: float) -> dict[tuple[str, Timeframe, int], tuple | None]:
        """The numbers of every window of `symbols` that `instant` is in."""
        keys = [(symbol, timeframe, timeframe.floor(instant)) for symbol in symbols for timeframe in TIMEFRAMES]
        return {key: await self.truth(*key) for key in keys}

    async def health(self) -> dict[str, str]:
        """What is red, with its detail; empty if `/health` is 200."""
        assert self.admin is not None
        async with httpx.AsyncClient(timeout=30.0) as client:
            answer = await client.get(f"http://127.0.0.1:{self.admin.port}/health")
        failing = {check["name"]: check["detail"] for check in answer.json()["checks"] if not check["ok"]}
        assert (answer.status_code == 200) is not bool(failing)
        return failing

    async def until_healthy(self, seconds: float = 60.0) -> None:
        async def healthy() -> bool:
            return not await self.health()

        await until(healthy, seconds, what=self.health, every=0.5)

    async def expect(self, truths: dict[tuple[str, Timeframe, int], tuple | None], folder: Path) -> None:
        """Wait until each window that traded is closed on the bus, and expect the same numbers there, in the store,
        from `/candles` and in the exported CSV.
        """
        traded = {key: numbers for key, numbers in truths.items() if numbers}
        await until(lambda: traded.keys() <= self.closed.keys(), 60.0, what=lambda: traded.keys() - self.closed.keys())
        rows = await self._exported({symbol for symbol, _, _ in truths}, folder)
        assert self.admin is not None
        address = f"http://127.0.0.1:{self.admin.port}/candles"
        async with self.place.open(self.clock) as store, httpx.AsyncClient(timeout=30.0) as client:
            for key, truth in truths.items():
                symbol, timeframe, window = key
                published = self.closed.get(key)
                found = numbers(published) if published and published.trades else None
                assert found == truth, f"{key}: expected {truth}, got {found}"
                if published is None:
                    continue
                (stored,) = await store.candles(symbol, timeframe, start=window, end=window + 1, limit=1)
                assert (stored.closed, stored.complete, stored.revision) == (
                    True,
                    published.complete,
                    published.revision,
                )
                expected = [float(number) for number in numbers(published)]
                assert [float(number) for number in numbers(stored)] == expected, key
                query = {"timeframe": timeframe.value, "from": str(window), "to": str(window + 1)}
                answer = await client.get(f"{address}/{symbol.replace('/', '-')}", params=query)
                (served,) = answer.raise_for_status().json()["candles"]
                assert served["closed"]
                assert [served[name] for name in FIELDS] == expected, key
                assert [float(rows[key][name]) for name in FIELDS] == expected, key

    async def _exported(self, symbols: set[str], folder: Path) -> dict[tuple[str, Timeframe, int], dict[str, str]]:
        """The rows that `crypto-ingress export` writes to CSV files, by candle."""
        out = folder / f"export-{uuid4().hex[:8]}"
        arguments = ["--symbol", ",".join(sorted(symbols)), "--timeframe", ",".join(t.value for t in TIMEFRAMES)]
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        command = (sys.executable, "-m", "crypto_ingress", "export", *arguments, "--format", "csv", "--out", str(out))
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**environment, **self.place.environment},
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        found = {}
        for symbol in symbols:
            for timeframe in TIMEFRAMES:
                with (out / f"{symbol.replace('/', '-')}-{timeframe.value}.csv").open() as lines:
                    found |= {(symbol, timeframe, int(row["time"])): row for row in csv.DictReader(lines)}
        return found


FIELDS = ("open", "high", "low", "close", "volume", "trades")


def numbers(candle: Candle) -> tuple:
    """What is compared."""
    return tuple(getattr(candle, name) for name in FIELDS)


def shifted(instant: float) -> Clock:
    """A clock that shows `instant` (unix seconds) now."""
    shift = instant - time.time()
    return lambda: time.time() + shift


def simulator(clock: Clock, symbols: tuple[str, ...]) -> Simulator:
    return Simulator(SimulatorConfig(port=0, control_port=0, symbols=symbols, history_weeks=12), clock=clock)


def on_memory(broker: MemoryBroker) -> Callable[..., Bus]:
    """Makes buses on `broker`."""
    return lambda name, **options: MemoryBus(broker, client_id=name, **options)
