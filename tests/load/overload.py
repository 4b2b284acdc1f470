"""kraken-gateway under many times the ticks that it can publish.

    PYTHONPATH=tests python -m load.overload [--pairs 250] [--rate 1000] [--copies 250] [--seconds 120]

A proxy between simulator and gateway sends each update of a candle many times, as Kraken does with a pair that trades
more often. The gateway may be late meanwhile, but no subscription may count as stale, no live feed be connected anew,
and no minute be lost; it must catch up within 60 s. The exit code is 1 if one of these fails, or if the load was less
than five times of what it published.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from chaos.kraken import Kraken
from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from ingress_common.model import Candle
from ingress_common.payloads import decode_candle, decode_watermark
from ingress_common.topics import Topics
from load.processes import Broker, Part, await_http, environment
from servers import free_port

TOPICS = Topics()
_MINUTE = 60
_SEEDED_SECONDS = 120
_CATCH_UP_SECONDS = 60
_ON_TIME_SECONDS = 3.0
_LOOK_SECONDS = 10.0
_FULL_BYTES = 8_000_000
_TIMES = 5


StartedT = TypeVar("StartedT", Part, Broker)


class Multiplier:
    """Proxy to `url` that sends each update of a candle `copies` times, while the client reads what is sent."""

    def __init__(self, url: str) -> None:
        self.copies = 1
        self.sent = 0
        self._url = url

    async def __call__(self, client: ServerConnection) -> None:
        """Pass everything on in both directions until one of them ends."""
        try:
            async with connect(self._url, max_size=None, ping_interval=None) as kraken:
                ways = [asyncio.ensure_future(self._down(kraken, client)), asyncio.ensure_future(_up(client, kraken))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
        except ConnectionClosed:
            pass

    async def _down(self, kraken: ClientConnection, client: ServerConnection) -> None:
        async for message in kraken:
            payload = message.encode() if isinstance(message, str) else message
            is_update = b'"ohlc"' in payload[:100] and b'"update"' in payload[:100]
            has_room = client.transport.get_write_buffer_size() < _FULL_BYTES
            copies = self.copies if is_update and has_room else 1
            client.transport.write(Frame(Opcode.TEXT, payload).serialize(mask=False) * copies)
            self.sent += copies


async def _up(client: ServerConnection, kraken: ClientConnection) -> None:
    async for message in client:
        await kraken.send(message)


class Observer:
    """The last tick of each minute and symbol, and the watermarks, as a subscriber of `bus` gets them."""

    def __init__(self) -> None:
        self.ticks: dict[tuple[str, int], Candle] = {}
        self.received = 0
        self._watermarks: dict[str, float] = {}

    async def follow(self, bus: MqttBus) -> None:
        """Receive until cancelled."""
        await bus.subscribe(TOPICS.raw("+"), TOPICS.watermark("+"))
        async for event in bus.events():
            if not isinstance(event, Message):
                continue
            if event.topic.endswith("/watermark"):
                mark = decode_watermark(event.payload)
                self._watermarks[mark.feed] = mark.watermark
            else:
                self.received += 1
                tick = decode_candle(event.payload)
                known = self.ticks.get((tick.symbol, tick.open_time))
                if known is None or tick.trades >= known.trades:
                    self.ticks[tick.symbol, tick.open_time] = tick
            event.ack()

    @property
    def lateness(self) -> float:
        """Seconds from the oldest watermark to now; infinity without one."""
        return time.time() - min(self._watermarks.values(), default=float("-inf"))


def main() -> int:
    """Run with the options of the command line."""
    parser = argparse.ArgumentParser(prog="load.overload", description=__doc__)
    parser.add_argument("--pairs", type=int, default=250)
    parser.add_argument("--rate", type=float, default=1000, help="ticks a second of the simulator, over all pairs")
    parser.add_argument("--copies", type=int, default=250, help="how often each is sent")
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    problems = asyncio.run(_run(options.pairs, options.rate, options.copies, options.seconds))
    print("\n".join(problems) or "ok")
    return 1 if problems else 0


async def _run(pairs: int, rate: float, copies: int, seconds: float) -> list[str]:
    ws, control, http, proxied = (free_port() for _ in range(4))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(_started(Broker(folder / "mosquitto")))
        simulated = {"SIM_PORT": ws, "SIM_CONTROL_PORT": control, "SIM_SYMBOLS": pairs, "SIM_RATE": rate}
        stack.enter_context(_started(_part("simulator", "kraken_simulator", folder, **simulated)))
        multiplier = Multiplier(f"ws://127.0.0.1:{ws}/v2")
        await stack.enter_async_context(serve(multiplier, "127.0.0.1", proxied, max_size=None, ping_interval=None))
        settings = {
            "MQTT_URL": broker.url,
            "KRAKEN_WS_URL": f"ws://127.0.0.1:{proxied}/v2",
            "KRAKEN_REST_URL": f"http://127.0.0.1:{ws}",
            "SYMBOLS": "*",
            "HTTP_PORT": http,
        }
        kraken = Kraken(f"http://127.0.0.1:{control}")
        stack.push_async_callback(kraken.close)
        await asyncio.to_thread(await_http, f"http://127.0.0.1:{control}/health", _SEEDED_SECONDS)
        symbols = await kraken.symbols()
        gateway = stack.enter_context(_started(_part("gateway", "kraken_gateway", folder, **settings)))
        observer = Observer()
        bus = await stack.enter_async_context(MqttBus(MqttUrl.parse(broker.url), client_id="observer"))
        following = asyncio.create_task(observer.follow(bus))
        stack.callback(following.cancel)
        await _until_on_time(observer, _SEEDED_SECONDS)

        before = await _metrics(http)
        connects, sent, published = before["ingress_gateway_connects_total"], multiplier.sent, observer.received
        first = int(time.time()) // _MINUTE * _MINUTE
        multiplier.copies = copies
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            await asyncio.sleep(min(_LOOK_SECONDS, seconds - elapsed))
            print(
                f"{multiplier.sent - sent:,} sent, {observer.received - published:,} published, "
                f"watermark {observer.lateness:.1f} s late, {gateway.usage().cpu:.1f} s of CPU",
                flush=True,
            )
        multiplier.copies = 1
        times = (multiplier.sent - sent) / max(1, observer.received - published)
        ended = time.monotonic()
        problems = []
        if await _until_on_time(observer, _CATCH_UP_SECONDS):
            print(f"{times:.1f} times of what it published; caught up after {time.monotonic() - ended:.1f} s")
        else:
            problems.append(f"expected to catch up within {_CATCH_UP_SECONDS} s, late by {observer.lateness:.0f} s")
        await asyncio.sleep(_MINUTE + _ON_TIME_SECONDS)
        after = await _metrics(http)
        if times < _TIMES:
            problems.append(f"expected {_TIMES} times of what it published, got {times:.1f}")
        if found := after["ingress_gateway_stale_subscriptions_found_total"]:
            problems.append(f"expected no stale subscription, got {found:.0f}")
        if made := after["ingress_gateway_connects_total"] - connects:
            problems.append(f"expected no new connection of a live feed, got {made:.0f}")
        return problems + await _differences(kraken, symbols, observer, first, first + int(seconds))


async def _differences(kraken: Kraken, symbols: list[str], observer: Observer, first: int, last: int) -> list[str]:
    """The minutes that open in [first, last] whose last tick is not the truth."""
    problems, equal = [], 0
    for symbol in symbols:
        for true in (await kraken.truth(symbol, "1m", first)).candles:
            if not (first <= true.open_time <= last and true.trades):
                continue
            tick = observer.ticks.get((symbol, true.open_time))
            names = ("trades", "open", "high", "low", "close", "volume")
            if tick is None or any(getattr(tick, name) != getattr(true, name) for name in names):
                problems.append(f"expected {true} of {symbol}, got {tick}")
            else:
                equal += 1
    print(f"{equal} minutes equal the simulator's trades, {len(problems)} differ")
    return problems


def _part(name: str, module: str, folder: Path, **settings: object) -> Part:
    texts = {name: str(value) for name, value in settings.items()}
    return Part(name, [sys.executable, "-m", module], environment(texts), folder / f"{name}.log")


@contextmanager
def _started(part: StartedT) -> Iterator[StartedT]:
    part.start()
    try:
        yield part
    finally:
        part.stop()


async def _until_on_time(observer: Observer, seconds: float) -> bool:
    """Whether the watermark is close to now within `seconds`."""
    deadline = time.monotonic() + seconds
    while observer.lateness > _ON_TIME_SECONDS:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.2)
    return True


async def _metrics(port: int) -> dict[str, float]:
    """The gateway's counters of live feeds, or without a purpose, by name."""

    def fetched() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            return response.read().decode()

    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(await asyncio.to_thread(fetched)):
        for sample in family.samples:
            if sample.labels.get("purpose", "live") == "live":
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


if __name__ == "__main__":
    sys.exit(main())
