"""Thousands of hostile messages on every topic that the services read, while a market goes on (`tests/hostile.py`).

HOSTILE_MESSAGES of each kind are sent (2,000 unless it says otherwise; 10,000 in the full run).
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from command import Running
from hostile import ADMIN, AGGREGATOR, GATEWAY, WRITER, Enemy, Hostile, World
from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import Candle
from ingress_common.payloads import decode_candle, decode_dead_letter, decode_status
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339
from ingress_common.topics import Topics
from ingress_store.sqlite import SqliteStore
from servers import free_port
from waiting import until

pytestmark = pytest.mark.timeout(1_800)

COUNT = int(os.environ.get("HOSTILE_MESSAGES", "2000"))
WARM_UP = 500
MEMORY_KIB = 96 * 1024
"""How much more a process may hold after the flood than after the first few hundred messages of each kind: what the
bounds of its view allow, however many messages come.
"""

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "ADA/USD")
INSTANCES = {AGGREGATOR: "agg", WRITER: "wri", ADMIN: "adm", GATEWAY: "gat"}
MODULES = {AGGREGATOR: "aggregator", WRITER: "influx_writer", ADMIN: "admin_api", GATEWAY: "kraken_gateway"}
FEED = "gat-0"
TOPICS = Topics()
BROKER = "allow_anonymous true\nautosave_on_changes false\nmessage_size_limit 4194304\nmax_inflight_bytes 16777216\n"


class DeadLetters:
    """The dead letters, by service and the topic that they are about."""

    def __init__(self) -> None:
        self.count: Counter[tuple[str, str]] = Counter()
        self.longest = 0

    async def follow(self, url: str) -> None:
        async with MqttBus(url, client_id="letters", inbound_limit=5_000) as bus:
            await bus.subscribe(TOPICS.dead_letter("+"))
            async for event in bus.events():
                if not isinstance(event, Message):
                    continue
                service = event.topic.rpartition("/")[2]
                if service in INSTANCES and event.payload.startswith(b'{"topic":"ingress/'):
                    self.count[service, decode_dead_letter(event.payload).topic] += 1
                    self.longest = max(self.longest, len(event.payload))
                event.ack()

    def missing(self, expected: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
        return expected - self.count


class System:
    """The services as processes, and questions to them."""

    def __init__(self, url: str, folder: Path, stack: AsyncExitStack, http: httpx.AsyncClient) -> None:
        self.url = url
        self.store = folder / "candles.db"
        self.running: dict[str, Running] = {}
        self._folder = folder
        self._stack = stack
        self._http = http
        self._ports = {service: free_port() for service in INSTANCES}
        self._kraken, self._control = free_port(), free_port()

    async def start(self) -> None:
        simulator = Running(
            *("simulator", "kraken_simulator", "--port", str(self._kraken), "--control-port", str(self._control)),
            *("--symbols", ",".join(SYMBOLS), "--history-weeks", "12"),
            folder=self._folder,
        )
        await self._stack.enter_async_context(simulator)
        await until(self._simulating, 60, simulator.output)
        # As in the images: what a message of megabytes has taken goes back to the system.
        common = {"MALLOC_MMAP_THRESHOLD_": "131072", "MQTT_URL": self.url, "STORE_URL": f"sqlite:///{self.store}"}
        kraken = {
            "SYMBOLS": ",".join(SYMBOLS),
            "KRAKEN_WS_URL": f"ws://127.0.0.1:{self._kraken}/v2",
            "KRAKEN_REST_URL": f"http://127.0.0.1:{self._kraken}",
        }
        for service, instance in INSTANCES.items():
            settings = common | {"INSTANCE_ID": instance, "HTTP_PORT": str(self._ports[service])}
            settings |= kraken if service == GATEWAY else {}
            running = Running(service, MODULES[service], folder=self._folder, **settings)
            self.running[service] = await self._stack.enter_async_context(running)

    async def _simulating(self) -> bool:
        try:
            return (await self._http.get(f"http://127.0.0.1:{self._control}/health")).status_code == 200
        except httpx.TransportError:
            return False

    async def get(self, service: str, path: str) -> httpx.Response | None:
        """An answer of a service; None before it listens."""
        try:
            return await self._http.get(f"http://127.0.0.1:{self._ports[service]}{path}")
        except httpx.TransportError:
            return None

    async def ready(self, service: str) -> bool:
        answer = await self.get(service, "/health/ready")
        return answer is not None and answer.status_code == 200

    async def followed(self) -> bool:
        """Whether the aggregator looks after all symbols, and none that was made up."""
        ready = await self.ready(AGGREGATOR)
        return ready and await self.metric(AGGREGATOR, "ingress_aggregator_symbols") == len(SYMBOLS)

    async def metric(self, service: str, name: str) -> float:
        """The sum of a metric over its labels."""
        answer = await self.get(service, "/metrics")
        assert answer is not None
        lines = [line for line in answer.text.splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def memory(self) -> dict[str, int]:
        """Resident KiB of each service."""
        found = {}
        for service, running in self.running.items():
            for line in Path(f"/proc/{running.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    found[service] = int(line.split()[1])
        return found

    async def truth(self, symbol: str, timeframe: Timeframe, start: int) -> dict[int, dict[str, Any]]:
        parameters = {"timeframe": timeframe.value, "from": str(start)}
        url = f"http://127.0.0.1:{self._control}/truth/{symbol.replace('/', '-')}"
        answer = await self._http.get(url, params=parameters)
        candles = json.loads(answer.raise_for_status().text, parse_float=Decimal)["candles"]
        return {int(parse_rfc3339(candle["open_time"])): candle for candle in candles}

    async def closed(self, symbol: str, timeframe: Timeframe) -> dict[int, Candle]:
        async with SqliteStore(self.store) as store:
            rows = await store.candles(symbol, timeframe, limit=100_000)
        return {row.open_time: row for row in rows}


@asynccontextmanager
async def system_on(url: str, folder: Path) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        yield System(url, folder, stack, http)


async def retained(url: str, *filters: str) -> dict[str, bytes]:
    """What is retained under `filters`."""
    found: dict[str, bytes] = {}
    async with MqttBus(url, client_id="") as bus:
        await bus.subscribe(*filters)
        events = bus.events()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 2
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    event = await anext(events)
            except TimeoutError:
                return found
            if isinstance(event, Message):
                # What is published meanwhile does not count.
                if event.retain:
                    found[event.topic] = event.payload
                    deadline = loop.time() + 2
                event.ack()


async def send(bus: MqttBus, messages: list[Hostile], *, retain: bool = False) -> None:
    handed = [await bus.publish(message.topic, message.payload, retain=retain) for message in messages]
    for delivery in handed:
        await delivery


def differences(
    symbol: str, timeframe: Timeframe, rows: dict[int, Candle], truth: dict[int, dict[str, Any]]
) -> list[str]:
    """How closed candles differ from the truth: gaps, wrong numbers, trades that nobody made."""
    found = []
    for open_time in range(min(rows), max(rows) + 1, timeframe.seconds):
        row, true = rows.get(open_time), truth.get(open_time)
        what = f"{symbol} {timeframe.value} {open_time}"
        if row is None:
            found.append(f"{what}: not there, traded: {true is not None}")
        elif true is None and row.trades:
            found.append(f"{what}: expected no trades, got {row.trades}")
        elif true is not None:
            numbers = [row.open, row.high, row.low, row.close, row.volume, row.trades]
            expected = [Decimal(true[name]) for name in ("open", "high", "low", "close", "volume", "trades")]
            if numbers != expected:
                found.append(f"{what}: expected {expected}, got {numbers}")
    return found


async def no_differences(system: System, ended: float) -> list[str]:
    """What the closed candles in the store lack, up to the minute of `ended` (unix seconds)."""
    found = []
    for symbol in SYMBOLS:
        for timeframe in TIMEFRAMES:
            rows = await system.closed(symbol, timeframe)
            if timeframe is Timeframe.M1 and (not rows or max(rows) < timeframe.floor(ended)):
                found.append(f"{symbol}: expected closed minutes up to {ended:.0f}, got {max(rows, default=None)}")
            if rows:
                truth = await system.truth(symbol, timeframe, min(rows))
                found += differences(symbol, timeframe, rows, truth)
    return found


GARBAGE = {
    **{f"ingress/candles/kraken/BTC-USD/{t.value}": b'{"symbol":"BTC/USD"' for t in TIMEFRAMES},
    "ingress/candles/kraken/BTC-USD/1y": b"\xff" * 1_000,
    "ingress/candles/kraken/ghost/1m": b"[" * 10_000,
    "ingress/raw/kraken/BTC-USD/1m": b"7",
    "ingress/raw/kraken/ETH-USD/1m": b"x" * 3_900_000,
    "ingress/history/kraken/BTC-USD/1m": b"null",
    "ingress/feed/kraken/ghost": b'{"feed":"ghost","state":"live","since":"2024-02-25T02:15:00Z","symbols":["GH/OST"]}',
    **{
        f"ingress/feed/kraken/{feed}/watermark": b'{"feed":"%s","watermark":"2199-01-01T00:00:00Z",'
        b'"at":"2199-01-01T00:00:00Z"}' % feed.encode()
        for feed in ("ghost", FEED)
    },
    "ingress/feed/kraken/other": b"[]",
    "ingress/request/kraken/seed": b"{}",
    "ingress/request/kraken/history": b'{"symbols":["BTC/USD"],"timeframe":"1m","from":"x","to":"y"}',
    **{
        f"ingress/status/{service}/ghost": b'{"service":"x","instance":"y","state":"online","version":"1",'
        b'"started_at":"2024-02-25T02:15:00Z","x":' + b"1" * 5_000 + b"}"
        for service in INSTANCES
    },
    "ingress/dead-letter/aggregator": b"\0",
}
"""What is retained before any service starts."""


async def test_hostile_messages_are_dead_lettered_or_counted_and_candles_continue(
    mosquitto_of: Callable[..., Any], tmp_path: Path
) -> None:
    mosquitto = mosquitto_of(BROKER)
    dead_letters = DeadLetters()
    async with (
        MqttBus(mosquitto.url, client_id="enemy", outbound_limit=1_000) as bus,
        system_on(mosquitto.url, tmp_path) as system,
        asyncio.TaskGroup() as tasks,
    ):
        await send(bus, [Hostile(topic, payload, frozenset()) for topic, payload in GARBAGE.items()], retain=True)
        follower = tasks.create_task(dead_letters.follow(mosquitto.url))
        await system.start()
        for service in (WRITER, ADMIN, GATEWAY):
            await until(lambda s=service: system.ready(s), 90, system.running[service].output)  # type: ignore[misc]
        for topic in GARBAGE:
            await (await bus.publish(topic, b"", retain=True))
        await until(system.followed, 90, lambda: _text_of(system.get(AGGREGATOR, "/health/ready")))

        enemy = Enemy(5, World(SYMBOLS, FEED, INSTANCES, time.time()))
        await _flood(bus, enemy, dead_letters, WARM_UP)
        before, started, told = system.memory(), time.time(), await _counted(system)
        sent = await _flood(bus, enemy, dead_letters, COUNT)
        print(f"{sum(sent.values())} dead letters for {COUNT} messages of each kind in {time.time() - started:.1f} s")
        after, ended = system.memory(), time.time()
        print("resident KiB", {service: (before[service], after[service]) for service in before})

        # The same processes, alive.
        for service, running in system.running.items():
            assert running.process.returncode is None, running.output()
            answer = await system.get(service, "/health/live")
            assert answer is not None
            assert answer.status_code == 200, running.output()
            status = decode_status(
                (await retained(mosquitto.url, TOPICS.status(service, INSTANCES[service]))).popitem()[1]
            )
            assert status.instance == INSTANCES[service]
        assert {s: kib - before[s] for s, kib in after.items() if kib - before[s] > MEMORY_KIB} == {}
        assert dead_letters.longest < 1024 * 1024

        # What makes no dead letter is counted.
        counted = await _counted(system)
        assert {name: counted[name] - told[name] for name in told if counted[name] <= told[name]} == {}

        # The market is as it was, and went on.
        await until(lambda: _nothing(no_differences(system, ended)), 150, lambda: no_differences(system, ended))
        for topic, payload in (await retained(mosquitto.url, "ingress/candles/#")).items():
            candle = decode_candle(payload)
            if candle.symbol in SYMBOLS and candle.closed:
                truth = await system.truth(candle.symbol, candle.timeframe, candle.open_time)
                assert differences(candle.symbol, candle.timeframe, {candle.open_time: candle}, truth) == [], topic
        follower.cancel()


async def _text_of(answer: Awaitable[httpx.Response | None]) -> str:
    response = await answer
    return response.text if response is not None else "no answer"


async def _nothing(found: Awaitable[list[str]]) -> bool:
    return not await found


async def _counted(system: System) -> dict[str, float]:
    """The counters of what is not put aside."""
    names = {
        "ingress_aggregator_stray_watermarks_total": AGGREGATOR,
        "ingress_aggregator_dead_letters_total": AGGREGATOR,
        "ingress_writer_dead_letters_total": WRITER,
        "ingress_writer_rejected_statuses_total": WRITER,
        "ingress_admin_rejected_total": ADMIN,
        "ingress_gateway_dead_letters_total": GATEWAY,
    }
    return {name: await system.metric(service, name) for name, service in names.items()}


async def _flood(bus: MqttBus, enemy: Enemy, dead_letters: DeadLetters, count: int) -> Counter[tuple[str, str]]:
    """Send `count` messages of each kind, and wait for the dead letters about them."""
    expected = Counter(dead_letters.count)
    promised: Counter[tuple[str, str]] = Counter()
    for kind in enemy.kinds():
        started = time.time()
        for _ in range(0, count, 100):
            messages = list(enemy.messages(kind, 100))
            await send(bus, messages)
            promised.update((service, message.topic) for message in messages for service in message.refused_by)
        sent_at = time.time()
        missing = partial(dead_letters.missing, expected + promised)
        await until(lambda missing=missing: not missing(), 300, lambda missing=missing: missing().most_common(9))  # type: ignore[misc]
        print(f"{kind}: {count} sent in {sent_at - started:.1f} s, all answered {time.time() - sent_at:.1f} s later")
    return promised
