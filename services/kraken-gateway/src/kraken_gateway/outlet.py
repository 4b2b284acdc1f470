"""What the gateway puts on the bus, from what Kraken sent."""

import asyncio
from collections.abc import Awaitable, Iterable

from ingress_common.bus import Bus
from ingress_common.model import GRACE, Candle, FeedState, History, Range, Source, Watermark
from ingress_common.payloads import (
    dead_letter,
    encode_candle,
    encode_dead_letter,
    encode_feed_state,
    encode_history,
    encode_watermark,
)
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from kraken_gateway.kraken.protocol import Row
from kraken_gateway.metrics import GatewayMetrics

SERVICE = "kraken-gateway"
"""The service's name on topics."""

_STALL_SECONDS = 5.0


class BusStalledError(Exception):
    """The broker is away and the outbound window is full: nothing more may be read from Kraken until it is back."""


def candle_of(row: Row, source: Source, *, closed: bool, at: float) -> Candle:
    """The candle that `row` states; its numbers are passed on untouched. `at` in unix seconds.

    A row without trades is one that Kraken has filled in: it tells the price only.
    """
    return Candle(
        symbol=row.symbol,
        timeframe=row.timeframe,
        open_time=row.open_time,
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        vwap=row.vwap,
        trades=row.trades,
        closed=closed,
        infilled=row.trades == 0,
        complete=True,
        revision=0,
        source=source,
        at=at,
    )


def snapshot_history(symbol: str, timeframe: Timeframe, rows: Iterable[Row], taken: float, at: float) -> History:
    """A snapshot as history: it covers from its oldest row's open to when it was `taken` (unix seconds, Kraken's time).

    A snapshot without rows covers nothing.
    """
    ordered = {row.open_time: row for row in sorted(rows, key=lambda row: row.open_time)}
    taken = max(taken, *ordered, taken)
    candles = tuple(
        candle_of(row, Source.SNAPSHOT, closed=row.open_time + timeframe.seconds <= taken - GRACE, at=at)
        for row in ordered.values()
    )
    covers = Range(candles[0].open_time if candles else taken, taken)
    return History(symbol, timeframe, Source.SNAPSHOT, covers, candles)


class Outlet:
    """Publishes on one bus, in order. BusStalledError where the bus takes nothing for some seconds."""

    def __init__(self, bus: Bus, topics: Topics, metrics: GatewayMetrics, origin: str) -> None:
        self._bus = bus
        self._topics = topics
        self._metrics = metrics
        self._origin = origin

    async def tick(self, row: Row, at: float) -> None:
        """A raw 1m tick, as Kraken sent it, received `at` (unix seconds)."""
        candle = candle_of(row, Source.WS, closed=False, at=at)
        await self._publish(self._topics.raw(row.symbol), encode_candle(candle))
        self._metrics.ticks.inc()

    async def history(self, history: History) -> Awaitable[None]:
        """A history batch; the awaitable is done when the broker has it."""
        topic = self._topics.history(history.symbol, history.timeframe)
        done = await self._publish(topic, encode_history(history))
        self._metrics.history.labels(history.source.value).inc()
        self._metrics.history_rows.labels(history.source.value).inc(len(history.candles))
        return done

    async def watermark(self, watermark: Watermark) -> None:
        """A watermark, behind everything that it speaks for."""
        await self._publish(self._topics.watermark(watermark.feed), encode_watermark(watermark))

    async def feed_state(self, state: FeedState) -> Awaitable[None]:
        """A feed's state, retained.

        Waits for the broker as long as it takes: what was claimed before must be taken back.
        """
        return await self._bus.publish(self._topics.feed(state.feed), encode_feed_state(state), retain=True)

    async def dead_letter(self, payload: bytes, reason: str, at: float, topic: str | None = None) -> Awaitable[None]:
        """A message (from Kraken, or from `topic`) that could not be used; awaitable until the broker has it.

        About one from the bus it waits for the broker as long as it takes: there is no connection to Kraken to hold up,
        and no letter may be lost.
        """
        letter = dead_letter(topic or self._origin, payload, reason, at)
        publish = self._publish if topic is None else self._bus.publish
        delivery = await publish(self._topics.dead_letter(SERVICE), encode_dead_letter(letter))
        self._metrics.dead_letters.inc()
        return delivery

    async def _publish(self, topic: str, payload: bytes) -> Awaitable[None]:
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                return await self._bus.publish(topic, payload)
        except TimeoutError:
            raise BusStalledError(f"the broker has taken nothing for {_STALL_SECONDS:.0f} s") from None
