"""Writers share the symbols out: one owner each, taken over and handed over without a loss."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from msgspec.structs import replace

from influx_writer.writer import client_id
from ingress_common.membership import owner_of

SYMBOLS = tuple(f"S{n}/USD" for n in range(12))


def rows_of(candle: Any, minute: int) -> list[Any]:
    return [replace(row, at=row.close_time + 1.0) for row in (candle(minute, symbol=symbol) for symbol in SYMBOLS)]


async def all_stored(world: Any) -> bool:
    async with world.store() as store:
        for symbol in SYMBOLS:
            expected = sorted((c for c in world.published.values() if c.symbol == symbol), key=lambda c: c.open_time)
            if await store.candles(symbol, expected[0].timeframe, limit=1000) != expected:
                return False
    return True


def filters(world: Any, instance: str) -> set[str]:
    state = world.broker._clients.get(client_id(world.topics, instance))
    return {f for f in state.filters if "/candles/" in f} if state else set()


def owned(*instances: str, by: str) -> set[str]:
    return {symbol for symbol in SYMBOLS if owner_of(symbol, instances) == by}


def shared(world: Any, *instances: str) -> bool:
    """Whether each lists its share, and is subscribed to that and nothing else."""
    return all(
        world.listed(one) == owned(*instances, by=one)
        and filters(world, one) == {world.topics.candles(symbol, "+") for symbol in world.listed(one)}
        for one in instances
    )


async def test_two_writers_divide_the_symbols_and_store_every_candle(world, candle):
    await world.feed(*SYMBOLS)
    one, _ = world.writer("w1")
    two, _ = world.writer("w2")
    async with world.running(one), world.running(two, "w2"):
        await world.until(lambda: shared(world, "w1", "w2"))
        await world.send(*rows_of(candle, -1))
        await world.until(lambda: all_stored(world))
        assert (one.written, two.written) == (len(world.listed("w1")), len(world.listed("w2")))


async def test_joining_and_leaving_writers_lose_nothing(world, candle):
    await world.feed(*SYMBOLS)
    minute = -200

    async def publish() -> None:
        nonlocal minute
        while True:
            minute += 1
            await world.send(*rows_of(candle, minute))
            await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:
        first, _ = world.writer("w1")
        await stack.enter_async_context(world.running(first))
        publishing = asyncio.create_task(publish())
        for _ in range(2):
            second, _ = world.writer("w2")
            async with world.running(second, "w2"):
                await world.until(lambda: shared(world, "w1", "w2"))
            await world.until(lambda: shared(world, "w1"))
        publishing.cancel()
        await asyncio.wait([publishing])
        await world.until(lambda: all_stored(world))


async def test_leaving_writer_leaves_no_queue_while_others_stay(world, candle):
    await world.feed(*SYMBOLS)
    one, _ = world.writer("w1")
    two, _ = world.writer("w2")
    async with world.running(two, "w2"):
        async with world.running(one):
            await world.until(lambda: shared(world, "w1", "w2"))
        assert filters(world, "w1") == set()
        await world.until(lambda: shared(world, "w2"))
        await world.send(*rows_of(candle, -1))
        await world.until(lambda: all_stored(world))


async def test_last_leaving_writer_keeps_its_queue_for_the_next_start(world, candle):
    await world.feed(*SYMBOLS)
    one, _ = world.writer("w1")
    async with world.running(one):
        await world.send(*rows_of(candle, -9))
        await world.until(lambda: all_stored(world))
    for minute in range(-8, 0):
        await world.send(*rows_of(candle, minute))
    requests = len(world.requests)
    one, _ = world.writer("w1")
    async with world.running(one):
        await world.until(lambda: all_stored(world))
        # The queue joins on to what is stored, so nothing of before was missed.
        await world.until(lambda: len(world.requests) > requests)
        assert min(request.start for request in world.requests[requests:]) > rows_of(candle, -9)[0].at


async def test_takeover_requests_the_candles_queued_for_the_dead_writer(world, candle):
    await world.feed(*SYMBOLS)
    one, bus = world.writer("w1")
    two, _ = world.writer("w2")
    async with world.running(two, "w2"), world.running(one):
        await world.until(lambda: shared(world, "w1", "w2"))
        await world.send(*rows_of(candle, -5))
        await world.until(lambda: all_stored(world))
        # Its session takes what comes, and nobody is there to write it.
        bus.drop(reconnect=False)
        await world.send(*rows_of(candle, -4))
        world.controls[bus].drop(reconnect=False)
        await world.until(lambda: shared_by(world, "w2"))
        await world.until(lambda: all_stored(world))
        world.mend(bus)
        await world.until(lambda: shared(world, "w1", "w2"))
        await world.send(*rows_of(candle, -3))
        await world.until(lambda: all_stored(world))


def shared_by(world: Any, instance: str) -> bool:
    return world.listed(instance) == set(SYMBOLS)


async def test_older_version_in_a_queue_does_not_replace_a_newer_one(world, candle):
    await world.feed(*SYMBOLS)
    one, bus = world.writer("w1")
    two, _ = world.writer("w2")
    async with world.running(two, "w2"), world.running(one):
        await world.until(lambda: shared(world, "w1", "w2"))
        world.cut(bus, reconnect=False)
        first = rows_of(candle, -4)
        await world.send(*first)
        await world.send(*(replace(row, revision=1, trades=99, at=row.at + 5) for row in first))
        await world.until(lambda: all_stored(world))
        world.mend(bus)
        await world.until(lambda: shared(world, "w1", "w2"))
        await world.until(lambda: all_stored(world))


async def test_a_symbol_whose_feed_is_gone_keeps_its_writer_when_another_one_comes(world, candle):
    await world.feed(*SYMBOLS)
    one, _ = world.writer("w1")
    async with world.running(one):
        await world.feed()
        two, _ = world.writer("w2")
        async with world.running(two, "w2"):
            await world.until(lambda: shared(world, "w1", "w2"))
            await world.send(*rows_of(candle, -1))
            await world.until(lambda: all_stored(world))


async def test_session_is_unsubscribed_from_symbols_of_another_writer(world, candle):
    await world.feed(*SYMBOLS)
    one, bus = world.writer("w1")
    async with world.running(one) as task:
        world.cut(bus, reconnect=False)
        task.cancel()
    world.mend(bus)
    assert len(filters(world, "w1")) == len(SYMBOLS)
    two, _ = world.writer("w2")
    async with world.running(two, "w2"):
        one, _ = world.writer("w1")
        async with world.running(one):
            await world.until(lambda: world.listed("w1") | world.listed("w2") == set(SYMBOLS))
            await world.send(*rows_of(candle, -1))
            await world.until(lambda: shared(world, "w1", "w2"))
            await world.until(lambda: all_stored(world))


async def test_malformed_status_or_feed_is_counted_and_ignored(world, candle):
    writer, _ = world.writer()
    async with world.running(writer):
        for topic in (world.topics.status("influx-writer", "x"), world.topics.feed("x")):
            await world.client.publish(topic, b"{", retain=True)
            await world.client.publish(topic, b'{"feed": "y", "symbols": 1}')
        await world.until(lambda: world.metric("ingress_writer_rejected_statuses_total") == 4)
        await world.send(candle())
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == 1)
