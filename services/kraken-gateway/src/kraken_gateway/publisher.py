"""Publishes Kraken's data on the bus, in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from types import MappingProxyType

from ingress_common.bus import Bus, BusError
from ingress_common.dead_letters import DeadLetterPublisher
from ingress_common.minute_trades import trades_property
from ingress_common.model import GRACE, Candle, FeedState, History, MinuteTrades, Range, Source, Watermark
from ingress_common.payloads import (
    encode_candle,
    encode_feed_state,
    encode_history,
    encode_watermark,
)
from ingress_common.service_names import GATEWAY
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from kraken_gateway.kraken.protocol import IntervalRow
from kraken_gateway.metrics import GatewayMetrics

SERVICE = GATEWAY
"""The service's name on topics."""

_PACKET_OVERHEAD = 512
_REFUSED_KEPT = 100


def snapshot_history(
    symbol: str, timeframe: Timeframe, rows: Iterable[IntervalRow], taken: float, at: float
) -> History:
    """A snapshot as history: it covers from its oldest row's open to when it was `taken` (unix seconds, Kraken's time).

    A snapshot without rows covers nothing.
    """
    ordered = {row.open_time: row for row in sorted(rows, key=lambda row: row.open_time)}
    taken = max(taken, *ordered, taken)
    candles = tuple(
        row.candle(Source.SNAPSHOT, closed=open_time + timeframe.seconds <= taken - GRACE, at=at)
        for open_time, row in ordered.items()
    )
    covers = Range(candles[0].open_time if candles else taken, taken)
    return History(symbol, timeframe, Source.SNAPSHOT, covers, candles)


def halves(history: History) -> tuple[History, History] | None:
    """The batch split in two, each covering its own part; None if it has at most one candle."""
    middle = len(history.candles) // 2
    if not middle:
        return None
    cut = float(history.candles[middle].open_time)
    covers = history.covers
    first = Range(covers.start, max(covers.start, min(cut, covers.end)))
    second = Range(first.end, covers.end)
    return (
        History(history.symbol, history.timeframe, history.source, first, history.candles[:middle]),
        History(history.symbol, history.timeframe, history.source, second, history.candles[middle:]),
    )


class Publisher:
    """Publishes on one bus, in order, and waits while the bus accepts no more, so that the caller falls behind visibly.

    `origin`: the topic given in dead letters about Kraken's messages.
    """

    def __init__(self, bus: Bus, topics: Topics, metrics: GatewayMetrics, origin: str) -> None:
        self._bus = bus
        self._topics = topics
        self._metrics = metrics
        self._origin = origin
        self._raw_topics: dict[str, str] = {}
        self._dead_letters = DeadLetterPublisher(bus, topics, SERVICE)
        self._refused: deque[tuple[str, bytes, str, float]] = deque(maxlen=_REFUSED_KEPT)

    async def tick(self, candle: Candle) -> None:
        """A raw 1m candle, as Kraken sent it."""
        topic = self._raw_topics.get(candle.symbol)
        if topic is None:
            topic = self._raw_topics[candle.symbol] = self._topics.raw(candle.symbol)
        await self._bus.publish(topic, encode_candle(candle))

    async def history(self, history: History) -> None:
        """A history batch, in as many messages as the broker's maximum packet size requires.

        A message that the broker still refuses becomes a dead letter.
        """
        topic = self._topics.history(history.symbol, history.timeframe)
        payload = encode_history(history)
        limit = self._bus.maximum_packet
        if limit is not None and len(payload) + _PACKET_OVERHEAD > limit and (parts := halves(history)) is not None:
            for part in parts:
                await self.history(part)
            return
        delivery = asyncio.ensure_future(await self._bus.publish(topic, payload))
        delivery.add_done_callback(lambda done: self._note_refusal(done, topic, payload, history.at))
        self._metrics.history.labels(history.source.value).inc()
        self._metrics.history_rows.labels(history.source.value).inc(len(history.candles))

    async def watermark(self, watermark: Watermark, trades: MinuteTrades = MappingProxyType({})) -> None:
        """A watermark, after everything that it covers.

        `trades`: what was published of the minutes that it ends, and of the symbols that were updated since the last.
        """
        topic, properties = self._topics.watermark(watermark.feed), trades_property(trades)
        await self._bus.publish(topic, encode_watermark(watermark), properties=properties or None)

    async def feed_state(self, state: FeedState) -> Awaitable[None]:
        """A feed's state, retained."""
        return await self._bus.publish(self._topics.feed(state.feed), encode_feed_state(state), retain=True)

    async def dead_letter(self, payload: bytes, reason: str, at: float, topic: str | None = None) -> Awaitable[None]:
        """Publish a dead letter for a message from Kraken, or from `topic`."""
        self._metrics.dead_letters.inc()
        return await self._dead_letters.publish(topic or self._origin, payload, reason, at)

    async def dead_letter_refused(self) -> None:
        """Publish a dead letter for each message that the broker has refused since the last call."""
        while self._refused:
            topic, payload, reason, at = self._refused.popleft()
            await self.dead_letter(payload, reason, at, topic)

    def _note_refusal(self, delivery: asyncio.Future[None], topic: str, payload: bytes, at: float) -> None:
        if not delivery.cancelled() and isinstance(error := delivery.exception(), BusError):
            self._metrics.refused_messages.inc()
            self._refused.append((topic, payload, str(error), at))
