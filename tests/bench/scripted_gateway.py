"""The gateway's messages on the bus: a live feed, seeds on request, and minutes at full speed."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from itertools import count
from uuid import uuid4

from bench.candle_feed import SEEDED, Minute, feeds_of, first_watermarks
from bench.market import market
from ingress_common.bus import Bus, Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import Candle
from ingress_common.payloads import (
    decode_seed_request,
    encode_candle,
    encode_feed_state,
    encode_history,
    encode_watermark,
)
from ingress_common.topics import Topics

_TOPICS = Topics()
_SECONDS = 60.0
_REPEAT_SECONDS = 0.5


def bus(url: str) -> Bus:
    """A client of the broker at `url` for the bench itself."""
    return MqttBus(url, client_id=f"bench-{uuid4().hex[:8]}")


async def announce(client: Bus, names: Sequence[str]) -> None:
    """Be live with `names`, retained."""
    for feed in feeds_of(names):
        await (await client.publish(_TOPICS.feed(feed.feed), encode_feed_state(feed), retain=True))


async def seed(url: str, names: Sequence[str]) -> None:
    """Publish the live feed and respond until all of `names` are seeded; TimeoutError without requests."""
    async with bus(url) as client, asyncio.timeout(_SECONDS):
        await client.subscribe(_TOPICS.seed_requests())
        await announce(client, names)
        repeating = asyncio.create_task(_repeat_watermarks(client, names), name="bench.watermarks")
        try:
            await _answer(client, set(names))
        finally:
            repeating.cancel()


async def play(url: str, minutes: Iterable[Minute]) -> None:
    """Publish `minutes` in order, and wait until the broker has them."""
    async with bus(url) as client:
        for minute in minutes:
            ticks = [await client.publish(_TOPICS.raw(tick.symbol), encode_candle(tick)) for tick in minute.ticks]
            marks = [
                await client.publish(_TOPICS.watermark(mark.feed), encode_watermark(mark)) for mark in minute.watermarks
            ]
            await _confirmed((*ticks, *marks))


async def publish_candles(client: Bus, topics: Topics, candles: Iterable[Candle]) -> None:
    """Publish closed candles as an aggregator does, numbered a symbol, and wait until the broker has them."""
    run, numbers = uuid4().hex[:8], defaultdict[str, Iterator[int]](lambda: count(1))
    await _confirmed(
        [
            await client.publish(
                topics.candles(candle.symbol, candle.timeframe),
                encode_candle(candle),
                properties={"run": run, "seq": str(next(numbers[candle.symbol]))},
            )
            for candle in candles
        ]
    )


async def _answer(client: Bus, unseeded: set[str]) -> None:
    async for event in client.events():
        if isinstance(event, Message):
            symbols = decode_seed_request(event.payload).symbols
            histories = [history for name in symbols for history in market().seed(name, SEEDED)]
            await _confirmed(
                [
                    await client.publish(_TOPICS.history(history.symbol, history.timeframe), encode_history(history))
                    for history in histories
                ]
            )
            unseeded -= set(symbols)
            event.ack()
        if not unseeded:
            return


async def _repeat_watermarks(client: Bus, names: Sequence[str]) -> None:
    while True:
        for mark in first_watermarks(names):
            await client.publish(_TOPICS.watermark(mark.feed), encode_watermark(mark))
        await asyncio.sleep(_REPEAT_SECONDS)


async def _confirmed(deliveries: Iterable[Awaitable[None]]) -> None:
    for delivery in deliveries:
        await delivery
