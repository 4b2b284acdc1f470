"""admin-api beside all of Kraken: its CPU and memory with few requests.

    PYTHONPATH=tests python -m load.admin_scale [--store sqlite|influx] [--symbols 1449] [--rate 500] [--seconds 60]

It publishes the messages of the other services: retained candles of every symbol and timeframe, forming ones at the
given rate, closed ones at each minute's end, statuses and watermarks. It writes closed candles to the store and
requests admin-api's pages every two seconds. It prints the service's CPU and memory and the response times.
"""

import argparse
import asyncio
import http.client
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random

from msgspec.structs import replace

from example import CANDLE
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from ingress_common.model import Candle, FeedCondition, FeedState, InstanceState, Source, Status, Watermark
from ingress_common.payloads import encode_candle, encode_feed_state, encode_status, encode_watermark
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import Topics
from ingress_store import CandleStore, Retention, open_store, parse_store_url
from ingress_store.influx import InfluxAccess
from load.processes import Broker, Influx, Part, Usage, environment
from servers import free_port

TOPICS = Topics()
PAGES = ("/health", "/symbols", "/symbols?search=00&limit=20", "/gaps", "/metrics", "/candles/S0000-USD?limit=500")
STORED = {timeframe: 100 if timeframe is Timeframe.M1 else 6 for timeframe in TIMEFRAMES}
FEED_SYMBOLS = 500
_FILL_SYMBOLS = 100
_READY_SECONDS = 60
_ASK_SECONDS = 2.0
_SETTLE_SECONDS = 15.0


@dataclass
class Market:
    """Synthetic candles of `symbols`; the first ones trade most."""

    symbols: Sequence[str]
    random: Random = field(default_factory=lambda: Random(1))

    def candle(self, symbol: str, timeframe: Timeframe, open_time: int, *, closed: bool) -> Candle:
        """A candle as an aggregator would publish it now."""
        price = Decimal(self.random.randrange(10_000, 99_999)) / 100
        return replace(
            CANDLE,
            symbol=symbol,
            timeframe=timeframe,
            open_time=open_time,
            open=price,
            high=price,
            low=price,
            close=price,
            vwap=price,
            trades=self.random.randrange(1, 500),
            closed=closed,
            source=Source.WS,
            at=round(time.time(), 6),
        )

    def trading(self, rate: int) -> set[str]:
        """The symbols of which something traded within a second of `rate` trades."""
        weights = [1 / (rank + 1) for rank in range(len(self.symbols))]
        return set(self.random.choices(self.symbols, weights, k=rate))


async def fill(store: CandleStore, market: Market) -> None:
    """Fill the store with the last closed candles of every symbol and timeframe."""
    await store.bootstrap()
    now = time.time()
    for timeframe in TIMEFRAMES:
        current = timeframe.floor(now)
        opens = range(current - STORED[timeframe] * timeframe.seconds, current, timeframe.seconds)
        for start in range(0, len(market.symbols), _FILL_SYMBOLS):
            names = market.symbols[start : start + _FILL_SYMBOLS]
            await store.write([market.candle(name, timeframe, at, closed=True) for name in names for at in opens], [])


class Publisher:
    """Everything that the other services publish, on one connection."""

    def __init__(self, bus: MqttBus, store: CandleStore, market: Market, rate: int) -> None:
        self._bus = bus
        self._store = store
        self._market = market
        self._rate = rate
        self._since = time.time()
        self.messages = 0

    async def begin(self) -> None:
        """Publish the retained state: services, feeds, and the forming candle of every series."""
        await self._statuses()
        for number, symbols in enumerate(self._shares()):
            state = FeedState(f"f{number}", FeedCondition.LIVE, self._since, tuple(symbols))
            await self._bus.publish(TOPICS.feed(state.feed), encode_feed_state(state), qos=1, retain=True)
        now = time.time()
        for timeframe in TIMEFRAMES:
            for symbol in self._market.symbols:
                await self._publish(
                    self._market.candle(symbol, timeframe, timeframe.floor(now) - timeframe.seconds, closed=True)
                )
                await self._publish(self._market.candle(symbol, timeframe, timeframe.floor(now), closed=False))

    async def run(self) -> None:
        """Publish until cancelled, a second at a time."""
        minute, due, second = Timeframe.M1.floor(time.time()), time.monotonic(), 0
        while True:
            if (current := Timeframe.M1.floor(time.time())) > minute:
                await self._close(current)
                minute = current
            for number, _ in enumerate(self._shares()):
                mark = encode_watermark(Watermark(f"f{number}", time.time() - 1, time.time()))
                await self._bus.publish(TOPICS.watermark(f"f{number}"), mark, qos=1)
            if second % 5 == 0:
                await self._statuses()
            now = time.time()
            for symbol in self._market.trading(self._rate):
                for timeframe in TIMEFRAMES:
                    await self._publish(self._market.candle(symbol, timeframe, timeframe.floor(now), closed=False))
            second, due = second + 1, due + 1
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _close(self, boundary: int) -> None:
        for timeframe in TIMEFRAMES:
            if boundary % timeframe.seconds == 0:
                closed = [
                    self._market.candle(symbol, timeframe, boundary - timeframe.seconds, closed=True)
                    for symbol in self._market.symbols
                ]
                for candle in closed:
                    await self._publish(candle)
                await self._store.write(closed, [])

    async def _publish(self, candle: Candle) -> None:
        self.messages += 1
        await self._bus.publish(
            TOPICS.candles(candle.symbol, candle.timeframe), encode_candle(candle), qos=int(candle.closed), retain=True
        )

    async def _statuses(self) -> None:
        owned = {symbol: rfc3339(self._since) for symbol in self._market.symbols}
        feeds = {f"f{number}": "live" for number, _ in enumerate(self._shares())}
        symbols = list(self._market.symbols)
        for service, details in (
            ("kraken-gateway", {"ready": True, "owned_since": owned, "feeds": feeds}),
            ("aggregator", {"ready": True, "owned_since": owned, "symbols": symbols, "initialized": len(symbols)}),
            ("influx-writer", {"ready": True, "missing_candles": 0}),
        ):
            status = Status(service, "load", InstanceState.ONLINE, "0", self._since, details)
            await self._bus.publish(TOPICS.status(service, "load"), encode_status(status), qos=1, retain=True)

    def _shares(self) -> Iterable[Sequence[str]]:
        symbols = self._market.symbols
        return [symbols[start : start + FEED_SYMBOLS] for start in range(0, len(symbols), FEED_SYMBOLS)]


@dataclass
class Responses:
    """Times (milliseconds), sizes (bytes) and statuses of the responses."""

    milliseconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    size: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)

    def request(self, port: int, path: str) -> None:
        """Send one request."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        began = time.monotonic()
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
        self.milliseconds[path].append((time.monotonic() - began) * 1000)
        self.size[path], self.status[path] = len(body), answer.status
        connection.close()


@asynccontextmanager
async def servers(options: argparse.Namespace, folder: Path) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """The broker's URL, and the settings of the store."""
    with ExitStack() as stack:
        broker = Broker(folder / "broker")
        stack.callback(broker.stop)
        broker.start()
        if options.store == "sqlite":
            yield broker.url, {"STORE_URL": f"sqlite:///{folder / 'candles.db'}"}
            return
        influx = Influx(folder / "influx")
        stack.callback(influx.stop)
        influx.start()
        place = influx.place
        yield broker.url, {"STORE_URL": place.url, "INFLUX_ORG": "load", "INFLUX_TOKEN": place.token}


async def run(options: argparse.Namespace, folder: Path) -> int:
    """Fill, publish, ask, report."""
    market = Market([f"S{number:04d}/USD" for number in range(options.symbols)])
    async with servers(options, folder) as (url, settings):
        access = InfluxAccess("load", settings["INFLUX_TOKEN"]) if "INFLUX_TOKEN" in settings else None
        store = open_store(parse_store_url(settings["STORE_URL"]), retention=Retention(), influx=access)
        bus = MqttBus(MqttUrl.parse(url), client_id="load")
        async with store, bus:
            await fill(store, market)
            publisher = Publisher(bus, store, market, options.rate)
            await publisher.begin()
            publishing = asyncio.create_task(publisher.run())
            service = _service(url, settings, folder)
            service.start()
            try:
                await _ready(service)
                await asyncio.sleep(_SETTLE_SECONDS)
                before, sent, began = service.usage(), publisher.messages, time.monotonic()
                responses = await _request(service.port, options.seconds)
                seconds = time.monotonic() - began
                used, sent = service.usage(), publisher.messages - sent
            finally:
                service.stop()
                publishing.cancel()
                await asyncio.wait([publishing])
        _report(options, responses, before, used, sent / seconds, seconds)
        print((folder / "admin.log").read_text()[-2000:])
    return 0


def _service(url: str, settings: dict[str, str], folder: Path) -> Part:
    own = {"MQTT_URL": url, "HTTP_PORT": str(free_port()), "LOG_LEVEL": "warning", "RATE_LIMIT": "0", **settings}
    return Part("admin-api", [sys.executable, "-m", "admin_api"], environment(own), folder / "admin.log")


async def _ready(service: Part) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        try:
            responses = Responses()
            await asyncio.to_thread(responses.request, service.port, "/health/ready")
            if responses.status["/health/ready"] == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.2)
    raise SystemExit("expected admin-api to become ready, it did not")


async def _request(port: int, seconds: float) -> Responses:
    responses, deadline = Responses(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in PAGES:
            await asyncio.to_thread(responses.request, port, path)
        await asyncio.sleep(_ASK_SECONDS)
    return responses


def _report(
    options: argparse.Namespace, responses: Responses, before: Usage, used: Usage, rate: float, seconds: float
) -> None:
    print(
        f"{options.store}: {options.symbols} symbols, {rate:.0f} candle messages/s for {seconds:.0f} s: "
        f"{(used.cpu - before.cpu) / seconds:.2f} cores, {used.memory:.0f} MiB now, {used.peak:.0f} MiB at most"
    )
    for path, times in responses.milliseconds.items():
        print(
            f"  {path}: {responses.status[path]}, {responses.size[path] / 1024:.0f} KiB, "
            f"p50 {statistics.median(times):.0f} ms, worst {max(times):.0f} ms of {len(times)}"
        )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="admin-api beside all of Kraken")
    parser.add_argument("--store", choices=("sqlite", "influx"), default="sqlite")
    parser.add_argument("--symbols", type=int, default=1449)
    parser.add_argument("--rate", type=int, default=500, help="trades a second over all symbols")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(options, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
