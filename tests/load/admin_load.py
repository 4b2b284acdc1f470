"""Load on one admin-api: event streams, `/candles`, and readers that do not read, on a full store.

    python tests/load/admin_load.py [--store sqlite|influx] [--streams 500] [--rate 50] [--seconds 60] [--gzip]

It starts admin-api as a process on Mosquitto, with 20 symbols of 2,000 candles each in the store (SQLite, or an
InfluxDB from `tests/servers.py`). It publishes 5 forming candles per second and symbol, opens the streams, and requests
1,000 candles at a fixed rate, however slow the responses are. It prints response times, events per stream and the
service's memory. Exit code 1 if a promise is broken: p99 below 250 ms, every response 200 with 1,000 candles, no good
reader's stream dropped, no closed candle missed, every reader that does not read dropped and counted.
"""

import argparse
import asyncio
import os
import random
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[1]))

from command import Running
from example import CANDLE
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from ingress_common.model import Candle, Source
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics, topic_symbol
from ingress_store import CandleStore, Retention, open_store, parse_store_url
from ingress_store.influx import InfluxAccess
from servers import MosquittoContainer, free_port, own_influx, own_mosquitto

SYMBOLS = [f"C{number:02d}/USD" for number in range(20)]
STORED = 2_000
ASKED = 1_000
FORMING_EVERY = 0.2
P99_MS = 250.0
TOPICS = Topics()


@dataclass
class Seen:
    """The clients' results."""

    milliseconds: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    events: int = 0
    closed: int = 0
    streams: Counter[str] = field(default_factory=Counter)
    lag: float = 0.0
    forming: int = 0
    published: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


def candle_of(symbol: str, open_time: int, now: float, *, closed: bool) -> Candle:
    return replace(
        CANDLE,
        symbol=symbol,
        open_time=open_time,
        trades=random.randrange(1, 50),
        closed=closed,
        source=Source.WS,
        at=round(now, 6),
    )


async def fill(store: CandleStore, now: float) -> None:
    """Fill the store with closed minutes up to the current one."""
    current = Timeframe.M1.floor(now)
    async with store:
        await store.bootstrap()
        for symbol in SYMBOLS:
            rows = [
                candle_of(symbol, current - 60 * age, current - 60 * age + 61, closed=True)
                for age in range(STORED, 0, -1)
            ]
            result = await store.write(rows, [])
            assert result.taken == STORED, result


async def publish(bus: MqttBus, seen: Seen, stop: asyncio.Event) -> None:
    """Publish 5 forming candles per second and symbol, and the closed one at each minute's end."""
    minute = Timeframe.M1.floor(time.time())
    due = time.monotonic()
    while not stop.is_set():
        now = time.time()
        if Timeframe.M1.floor(now) > minute:
            for symbol in SYMBOLS:
                closed = candle_of(symbol, minute, now, closed=True)
                await bus.publish(TOPICS.candles(symbol, "1m"), encode_candle(closed), qos=1, retain=True)
                seen.published[symbol] += 1
            minute = Timeframe.M1.floor(now)
        for symbol in SYMBOLS:
            forming = candle_of(symbol, minute, time.time(), closed=False)
            await bus.publish(TOPICS.candles(symbol, "1m"), encode_candle(forming), qos=0, retain=True)
        seen.forming += len(SYMBOLS)
        due += FORMING_EVERY
        await asyncio.sleep(max(0.0, due - time.monotonic()))


class Reader(asyncio.Protocol):
    """A reader that reads; it counts closed candles while `counting` is set."""

    def __init__(self, query: str, seen: Seen, counting: asyncio.Event) -> None:
        self._query = query
        self._seen = seen
        self._counting = counting
        self._rest = b""
        self._head = True
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(f"GET /stream?{self._query} HTTP/1.1\r\nHost: load\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if self._head:
            self._seen.streams[data.split(b" ", 2)[1].decode()] += 1
            self._head = False
        # A parcel is a chunk, and an event may be in two of them; what is counted is not.
        text = self._rest[-12:] + data
        self._rest = text
        self._seen.events += data.count(b"\nevent: ")
        if b"event: reset" in data or b"event: error" in data:
            self._seen.streams["reset or error"] += 1
        if self._counting.is_set():
            self._seen.closed += text.count(b'"closed":true') - text[:12].count(b'"closed":true')

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self._seen.streams["ended"] += 1


def is_wide(number: int, options: argparse.Namespace) -> bool:
    """Whether a stream requests everything instead of one symbol."""
    return number % options.wide == options.wide - 1


def open_stalled(port: int) -> socket.socket:
    """A reader that requests everything and reads nothing."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.connect(("127.0.0.1", port))
    stalled.sendall(b"GET /stream HTTP/1.1\r\nHost: load\r\n\r\n")
    return stalled


async def watch_ourselves(seen: Seen, stop: asyncio.Event) -> None:
    """The worst scheduling delay of this program, a lower bound of its measurements."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        before = loop.time()
        await asyncio.sleep(0.01)
        seen.lag = max(seen.lag, loop.time() - before - 0.01)


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int, *, gzip: bool) -> None:
        self._port = port
        self._gzip = gzip
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> tuple[int, bytes]:
        if self._writer is None or self._writer.is_closing() or self._reader is None or self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        accept = "Accept-Encoding: gzip\r\n" if self._gzip else ""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: load\r\n{accept}\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        return int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


async def send_requests(port: int, rate: float, seconds: float, seen: Seen, *, gzip: bool) -> None:
    """Send requests at fixed times, however long the responses take."""
    idle: list[Client] = []
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def one(due: float) -> None:
        await asyncio.sleep(max(0.0, due - loop.time()))
        client = idle.pop() if idle else Client(port, gzip=gzip)
        symbol = topic_symbol(random.choice(SYMBOLS))
        start = loop.time()
        try:
            status, body = await client.get(f"/candles/{symbol}?timeframe=1m&limit={ASKED}")
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.wrong[repr(error)] += 1
            return
        seen.milliseconds.append((loop.time() - start) * 1000)
        seen.bytes += len(body)
        if status != 200:
            seen.wrong[f"status {status}"] += 1
        elif not gzip and body.count(b'"open_time"') != ASKED:
            seen.wrong[f"{body.count(b'open_time')} candles"] += 1
        idle.append(client)

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            tasks.create_task(one(begin + number / rate))
    for client in idle:
        client.close()


def memory(pid: int) -> int:
    """Resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def processor(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def metrics(port: int) -> dict[str, float]:
    client = Client(port, gzip=False)
    _, body = await client.get("/metrics")
    client.close()
    lines = [line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines if name.startswith("ingress_admin_stream")}


@asynccontextmanager
async def admin(options: argparse.Namespace, folder: Path) -> AsyncIterator[tuple[Any, int, str]]:
    """The service, its port and the broker's URL."""
    async with AsyncExitStack() as stack:
        broker = own_mosquitto(folder)
        broker.start()
        stack.callback(broker.remove if isinstance(broker, MosquittoContainer) else broker.stop)
        settings = {
            "MQTT_URL": broker.url,
            "RATE_LIMIT": "0",
            "MAX_STREAMS_PER_ADDRESS": "1000",
            "LOG_LEVEL": "warning",
        }
        if options.store == "influx":
            influx = own_influx(folder)
            influx.start()
            stack.callback(influx.remove if hasattr(influx, "remove") else influx.stop)
            settings |= {"INFLUX_ORG": "load", "INFLUX_TOKEN": influx.place.token, "STORE_URL": influx.place.url}
            access = InfluxAccess("load", influx.place.token)
        else:
            settings |= {"STORE_URL": f"sqlite:///{folder / 'candles.db'}"}
            access = None
        await fill(
            open_store(parse_store_url(settings["STORE_URL"]), retention=Retention(), influx=access), time.time()
        )
        port = free_port()
        running = Running("admin", "admin_api", folder=folder, HTTP_PORT=str(port), **settings)
        await stack.enter_async_context(running)
        for _ in range(400):
            try:
                status, _ = await Client(port, gzip=False).get("/health/ready")
            except OSError:
                status = 0
            if status == 200:
                break
            await asyncio.sleep(0.05)
        else:
            raise SystemExit(f"admin-api did not become ready: {running.output()}")
        yield running, port, broker.url


async def run(options: argparse.Namespace, folder: Path) -> int:
    seen, stop, started = Seen(), asyncio.Event(), asyncio.Event()
    async with admin(options, folder) as (running, port, url):
        pid = running.process.pid
        idle_memory = memory(pid)
        async with MqttBus(MqttUrl.parse(url), client_id="load") as bus, asyncio.TaskGroup() as tasks:
            tasks.create_task(publish(bus, seen, stop))
            tasks.create_task(watch_ourselves(seen, stop))
            await asyncio.sleep(1)
            readers = []
            for number in range(options.streams):
                query = f"symbol={topic_symbol(SYMBOLS[number % len(SYMBOLS)])}&timeframe=1m"
                reader = Reader("" if is_wide(number, options) else query, seen, started)
                await asyncio.get_running_loop().create_connection(lambda reader=reader: reader, "127.0.0.1", port)
                readers.append(reader)
            stalled = [open_stalled(port) for _ in range(options.stalled)]
            while seen.streams.total() < options.streams:
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)
            started.set()
            seen.published.clear()
            before = processor(pid), time.monotonic()
            await send_requests(port, options.rate, options.seconds, seen, gzip=options.gzip)
            used = (processor(pid) - before[0]) / (time.monotonic() - before[1])
            # Wait for the last published candles.
            await asyncio.sleep(2)
            counted = await metrics(port)
            full_memory = memory(pid)
            stop.set()
        for one in (*stalled, *(reader.transport for reader in readers)):
            one.close()
        began = time.monotonic()
        running.process.terminate()
        await running.ended(15)
        ended = time.monotonic() - began
        printed = running.output()
    return report(options, seen, counted, (idle_memory, full_memory), used, ended, printed)


def report(
    options: argparse.Namespace,
    seen: Seen,
    counted: dict[str, float],
    resident: tuple[int, int],
    used: float,
    ended: float,
    printed: str,
) -> int:
    times = sorted(seen.milliseconds)
    p99 = times[int(len(times) * 0.99)]
    dropped = counted.get('ingress_admin_streams_ended_total{reason="slow"}', 0)
    coalesced = counted.get("ingress_admin_stream_coalesced_total", 0)
    readers = {symbol: len([n for n in range(options.streams) if is_wide(n, options) or n % len(SYMBOLS) == place])
               for place, symbol in enumerate(SYMBOLS)}  # fmt: skip
    missed = sum(readers[s] * seen.published[s] for s in SYMBOLS) - seen.closed
    print(
        f"{options.store}: {options.streams} streams, {options.rate:g} requests/s of {ASKED} candles for "
        f"{options.seconds:g} s{' with gzip' if options.gzip else ''}\n"
        f"  answers: p50 {statistics.median(times):.1f} ms, p99 {p99:.1f} ms, worst {times[-1]:.1f} ms, "
        f"{len(times)} of {int(options.rate * options.seconds)}, {seen.bytes / 1e6:.0f} MB; wrong: {dict(seen.wrong)}\n"
        f"  streams: {seen.events} events of {seen.forming} forming candles, closed ones published "
        f"{seen.published.total()}, missed {missed}; "
        f"{dict(seen.streams)}\n"
        f"  readers that do not read: {options.stalled}, dropped as slow {dropped:g}; coalesced {coalesced:g}\n"
        f"  service: {resident[0]} MiB before, {resident[1]} MiB at the end, {used * 100:.0f} % of a processor, "
        f"stopped in {ended:.1f} s\n"
        f"  this program was up to {seen.lag * 1000:.0f} ms late itself"
    )
    if printed:
        print(f"  it printed: {printed[-1500:]}")
    kept = (
        p99 < P99_MS
        and not seen.wrong
        and missed == 0
        and seen.streams["200"] == options.streams
        and seen.streams["ended"] == 0
        and dropped == options.stalled
    )
    return 0 if kept else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Load on one admin-api")
    parser.add_argument("--store", choices=("sqlite", "influx"), default="sqlite")
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--wide", type=int, default=100, help="every Nth stream requests everything")
    parser.add_argument("--stalled", type=int, default=5)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--gzip", action="store_true")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(options, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
