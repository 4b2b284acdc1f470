"""Several writers on one InfluxDB, which has no conditional write: still the newest version of a candle stays."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from uuid import uuid4

import pytest

from ingress_common.timeframes import Timeframe
from ingress_store import InfluxAccess, InfluxStore, Retention, Settlement, StoreUnavailableError
from ingress_store.influx.server import Server
from ingress_store.influx.versions import Unsettled
from proxy import HoldingProxy

FOREVER = Retention.parse("1m=forever,5m=forever,15m=forever,1h=forever,ticks=forever")
AT_ONCE = (0.0, 0.0)


@pytest.fixture
def access(influx_place):
    return InfluxAccess(f"test-{uuid4().hex[:12]}", influx_place.token)


@pytest.fixture
async def writers(influx_place, access):
    """A writer whose requests can be held back on their way, the proxy that does it, and another writer."""
    host, port = influx_place.url.removeprefix("influxdb://").split(":")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(HoldingProxy(host, int(port), b"/api/v2/write"))
        held = InfluxStore(f"influxdb://127.0.0.1:{proxy.port}", access, retention=FOREVER, settle_ages=AT_ONCE)
        free = InfluxStore(influx_place.url, access, retention=FOREVER, settle_ages=AT_ONCE)
        for store in (held, free):
            await stack.enter_async_context(store)
        await free.bootstrap()
        yield held, proxy, free


async def overtaken(writers, late, early):
    """Let a writer compare `late` with what is stored and then stand still, until another has written `early`."""
    held, proxy, free = writers
    proxy.hold()
    writing = asyncio.create_task(held.write([late], []))
    await asyncio.wait_for(proxy.holds.wait(), 20)
    await free.write([early], [])
    proxy.release()
    await asyncio.wait_for(writing, 20)


async def stored(store):
    return await store.candles("BTC/USD", Timeframe.M1, limit=10)


async def test_a_correction_that_an_older_version_has_replaced_is_written_again(writers, candle):
    held, _, free = writers
    first = candle()
    correction = replace(first, revision=1, trades=99, at=first.at + 3)
    await overtaken(writers, late=first, early=correction)
    assert await stored(free) == [first]
    assert await held.settle() == Settlement()
    assert await free.settle() == Settlement(rewritten=1)
    assert await stored(free) == [correction]
    assert await held.settle() == await free.settle() == Settlement()
    assert await stored(free) == [correction]


async def test_a_correction_that_comes_last_stays(writers, candle):
    held, _, free = writers
    first = candle()
    correction = replace(first, revision=1, trades=99, at=first.at + 3)
    await overtaken(writers, late=correction, early=first)
    assert await free.settle() == await held.settle() == Settlement()
    assert await stored(free) == [correction]


async def test_a_later_word_of_another_aggregator_is_written_again_though_its_revision_is_lower(writers, candle):
    _, _, free = writers
    first = candle(revision=3)
    later = replace(first, revision=0, trades=99, at=first.at + 3)
    await overtaken(writers, late=first, early=later)
    assert (await free.settle()).rewritten == 1
    assert await stored(free) == [later]


async def test_a_closed_candle_that_a_forming_one_has_replaced_is_written_again(writers, candle):
    _, _, free = writers
    closed = candle()
    await overtaken(writers, late=replace(closed, closed=False, trades=3), early=closed)
    assert await stored(free) == []
    assert (await free.settle()).rewritten == 1
    assert await stored(free) == [closed]


async def test_many_that_were_replaced_are_all_written_again_and_the_others_left_alone(writers, candle):
    held, proxy, free = writers
    rows = [candle(n) for n in range(600)]
    corrections = [replace(row, revision=1, trades=99, at=row.at + 3) for row in rows]
    proxy.hold()
    writing = asyncio.create_task(held.write(rows[::2], []))
    await asyncio.wait_for(proxy.holds.wait(), 20)
    await free.write(corrections, [])
    proxy.release()
    await writing
    assert (await free.settle()).rewritten == 300
    assert await free.candles("BTC/USD", Timeframe.M1, limit=1000) == corrections


async def test_two_writes_of_one_moment_never_make_a_candle_that_nobody_wrote(writers, candle):
    one, _, other = writers
    for turn in range(10):
        rows = [candle(400 * turn + n) for n in range(400)]
        corrections = [replace(row, revision=1, trades=99, volume=row.volume + 1, at=row.at + 3) for row in rows]
        await asyncio.gather(one.write(rows, []), other.write(corrections, []))
        both = {row.open_time: (row, correction) for row, correction in zip(rows, corrections, strict=True)}
        got = await one.candles("BTC/USD", Timeframe.M1, start=rows[0].open_time, limit=1000)
        assert [row for row in got if row not in both[row.open_time]] == []
        await other.settle()
        assert await one.candles("BTC/USD", Timeframe.M1, start=rows[0].open_time, limit=1000) == corrections


async def test_a_row_that_two_writes_have_made_is_no_version_of_a_candle(writers, candle, influx_place, access):
    _, _, free = writers
    first = candle()
    await free.write([first], [])
    # All that is left of another write, in a field that makes it look newer.
    later = f"candle,exchange=kraken,symbol=BTC/USD at={round((first.at + 60) * 1e6)}i {first.open_time}"
    async with Server.for_writing(influx_place.url.replace("influxdb", "http"), access, "here") as server:
        await server.write("candles_1m", "s", [later])
    assert await stored(free) != [first]
    assert await free.settle() == Settlement(rewritten=1)
    assert await stored(free) == [first]


async def test_an_old_message_does_not_take_the_place_of_what_was_written_and_then_replaced(writers, candle):
    _, _, free = writers
    first, second, third = (replace(candle(), revision=n, trades=10 + n, at=candle().at + n) for n in range(3))
    await overtaken(writers, late=first, early=third)
    assert await stored(free) == [first]
    # It comes again, as a message may.
    await free.write([second], [])
    assert (await free.settle()).rewritten == 1
    assert await stored(free) == [third]


async def test_a_store_that_was_away_is_settled_when_it_is_back(writers, candle):
    held, proxy, free = writers
    first = candle()
    correction = replace(first, revision=1, trades=99, at=first.at + 3)
    await held.write([correction], [])
    proxy.accepting = False
    proxy.cut()
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
        await held.settle()
    proxy.accepting = True
    assert await held.settle() == Settlement()
    assert await stored(free) == [correction]


async def test_what_is_watched_is_bounded_and_what_is_dropped_is_counted(candle):
    unsettled = Unsettled((15.0, 90.0), limit=10)
    rows = [candle(n) for n in range(15)]
    for number, row in enumerate(rows):
        unsettled.put(row, float(number))
    assert unsettled.dropped == 5
    assert unsettled.due(1000.0, limit=100) == rows[5:]
    assert unsettled.due(1000.0, limit=3) == rows[5:8]
    assert unsettled.due(20.5, limit=100) == rows[5:6]
    unsettled.put(replace(rows[5], revision=1), 100.0)
    assert unsettled.dropped == 5
    assert unsettled.due(114.9, limit=100) == rows[6:]


async def test_a_candle_is_looked_at_once_at_each_age(candle):
    unsettled = Unsettled((15.0, 90.0), limit=10)
    row = candle()
    unsettled.put(row, 100.0)
    assert unsettled.due(114.9, limit=10) == []
    assert unsettled.due(115.0, limit=10) == [row]
    unsettled.found(row)
    assert unsettled.due(189.9, limit=10) == []
    assert unsettled.due(190.0, limit=10) == [row]
    unsettled.found(row)
    assert unsettled.due(1e9, limit=10) == []
