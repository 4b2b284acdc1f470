"""Watches the bus during faults: owners of symbols, closed candles, dead letters."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from chaos.judge import StoredRow
from ingress_common.bus import BusError, Connected, Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import Candle, FeedCondition, FeedState, InstanceState, Status
from ingress_common.payloads import PayloadError, decode_candle, decode_dead_letter, decode_feed_state, decode_status
from ingress_common.times import rfc3339
from ingress_common.topics import Topics

TOPICS = Topics()
_COUNTED_OUT = 35.0
_INACTIVITY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a service could not use messages of a topic."""

    service: str
    topic: str
    reason: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.service}: {self.topic}: {self.reason}"


class Watch:
    """A listener that outlives the broker. `url` returns the broker's current URL, or None while unknown."""

    def __init__(self, url: Callable[[], str | None]) -> None:
        self._url = url
        self._bus: MqttBus | None = None
        self._statuses: dict[tuple[str, str], tuple[Status, float]] = {}
        self._feeds: dict[str, FeedState] = {}
        self.closed: dict[tuple[str, str, int], list[StoredRow]] = {}
        self.dead_letters: Counter[Reason] = Counter()
        self.messages = 0

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            url = self._url()
            if url is not None:
                await self._listen(url)
            await asyncio.sleep(0.5)

    async def _listen(self, url: str) -> None:
        try:
            async with MqttBus(url, client_id="", inbound_limit=5000) as bus:
                await bus.subscribe(
                    TOPICS.status("+", "+"), TOPICS.feed("+"), TOPICS.candles("+", "+"), TOPICS.dead_letter("+")
                )
                self._bus = bus
                consuming = asyncio.create_task(self._consume(bus), name="watch")
                try:
                    while self._url() == url and not consuming.done():
                        await asyncio.sleep(0.5)
                finally:
                    self._bus = None
                    consuming.cancel()
                    await asyncio.wait([consuming])
        except BusError:
            # A fault is running; the next round retries.
            return

    async def _consume(self, bus: MqttBus) -> None:
        async for event in bus.events():
            if isinstance(event, Connected):
                # Retained messages arrive after the reconnect.
                self._statuses.clear()
                self._feeds.clear()
            elif isinstance(event, Message):
                self.messages += 1
                try:
                    self._take(event)
                except PayloadError as error:
                    self.dead_letters[Reason("(the watcher)", event.topic, str(error))] += 1
                event.ack()

    def _take(self, message: Message) -> None:
        match TOPICS.split(message.topic):
            case ("status", service, instance) if message.payload:
                self._statuses[service, instance] = (decode_status(message.payload), time.monotonic())
            case ("status", service, instance):
                self._statuses.pop((service, instance), None)
            case ("feed", _, feed) if message.payload:
                self._feeds[feed] = decode_feed_state(message.payload)
            case ("feed", _, feed):
                self._feeds.pop(feed, None)
            case ("candles", *_) if message.payload:
                self._take_candle(decode_candle(message.payload))
            case ("dead-letter", service):
                letter = decode_dead_letter(message.payload)
                self.dead_letters[Reason(service, letter.topic, letter.reason)] += 1

    def _take_candle(self, candle: Candle) -> None:
        if candle.closed:
            versions = self.closed.setdefault((candle.symbol, candle.timeframe.value, candle.open_time), [])
            row = row_of(candle)
            if not any(_numbers(row) == _numbers(other) for other in versions):
                versions.append(row)

    # --- who has what

    def trouble(self, symbols: Collection[str]) -> str:
        """The first symbols without exactly one aggregator and one live feed; empty if there are none."""
        bus = self._bus
        if bus is None or not bus.connected:
            return "the broker is down"
        feeds = {feed.feed: feed.symbols for feed in self._feeds.values() if feed.state is FeedCondition.LIVE}
        return _unshared("aggregator", self._aggregators(), symbols) or _unshared("live feed", feeds, symbols)

    def _aggregators(self) -> dict[str, tuple[str, ...]]:
        received_after = time.monotonic() - _COUNTED_OUT
        return {
            status.instance: tuple(status.details.get("symbols", ()))
            for status, received_at in self._statuses.values()
            if status.service == "aggregator" and status.state is InstanceState.ONLINE and received_at >= received_after
        }

    def online(self) -> dict[str, list[str]]:
        """The online instances, by service."""
        found: dict[str, list[str]] = {}
        for status, _ in self._statuses.values():
            if status.state is InstanceState.ONLINE:
                found.setdefault(status.service, []).append(status.instance)
        return found


def _unshared(what: str, holders: Mapping[str, Collection[str]], symbols: Collection[str]) -> str:
    counts = Counter(symbol for owned in holders.values() for symbol in owned)
    wrong = {symbol: counts[symbol] for symbol in symbols if counts[symbol] != 1}
    if not wrong:
        return ""
    symbol, count = next(iter(wrong.items()))
    return f"{len(wrong)} symbols without exactly one {what}, such as {symbol} with {count} of {sorted(holders)}"


async def retained_candles(url: str, symbols: Collection[str]) -> dict[str, StoredRow]:
    """The retained candles of `symbols`, by topic."""
    found: dict[str, StoredRow] = {}
    received_at = time.monotonic()

    async def read(bus: MqttBus) -> None:
        nonlocal received_at
        async for event in bus.events():
            if isinstance(event, Message):
                if event.retain and event.topic not in found and event.payload:
                    found[event.topic] = row_of(decode_candle(event.payload))
                    received_at = time.monotonic()
                event.ack()

    async with MqttBus(url, client_id="", inbound_limit=5000) as bus:
        # Read from the beginning: a broker drops what a subscriber does not take.
        reading = asyncio.create_task(read(bus), name="retained")
        try:
            # One by one: the embedded broker gives 100 retained messages for a subscription and leaves out the others.
            for symbol in symbols:
                await bus.subscribe(TOPICS.candles(symbol, "+"))
            received_at = time.monotonic()
            while not reading.done() and time.monotonic() < received_at + _INACTIVITY_SECONDS:
                await asyncio.sleep(0.1)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
    if not reading.cancelled():
        reading.result()
    return found


def row_of(candle: Candle) -> StoredRow:
    """A candle of the bus as a row for the judge."""
    return StoredRow(
        symbol=candle.symbol,
        timeframe=candle.timeframe.value,
        open_time=candle.open_time,
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        volume=candle.volume,
        vwap=candle.vwap,
        trades=candle.trades,
        closed=candle.closed,
        infilled=candle.infilled,
        complete=candle.complete,
        revision=candle.revision,
        source=candle.source.value,
        at=rfc3339(candle.at),
    )


def _numbers(row: StoredRow) -> tuple[object, ...]:
    return row.open, row.high, row.low, row.close, row.volume, row.trades, row.infilled, row.complete
