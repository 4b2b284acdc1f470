"""Holes made in the store of a running demo are found and filled, in all timeframes, with the market's truth."""

import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from ingress_common.model import Range
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_store import CandleStore, SqliteStore
from ingress_store.influx import InfluxAccess, InfluxStore
from running_demo import Demo, disagreement, running_demo

SYMBOL = "XRP/GBP"
HOUR = 3600
TOKEN = {"Authorization": "Bearer s3cret"}

pytestmark = pytest.mark.timeout(420)

Delete = Callable[[Timeframe, Range], Awaitable[None]]


@dataclass
class World:
    """A demo, its store (to be opened), and a way to delete closed candles from it."""

    demo: Demo
    store: Callable[[], CandleStore]
    delete: Delete


SETTINGS = {"ADMIN_TOKEN": "s3cret", "AUDIT_MINUTES": "0.1", "SELF_CHECK_SECONDS": "0"}


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[World]:
    async def delete(timeframe: Timeframe, span: Range) -> None:
        with closing(sqlite3.connect(tmp_path / "data" / "demo.db", timeout=10)) as connection, connection:
            connection.execute(
                "DELETE FROM candles WHERE closed AND symbol = ? AND timeframe = ? AND open_time BETWEEN ? AND ?",
                (SYMBOL, timeframe.value, span.start, span.end - 1),
            )

    async with running_demo(tmp_path, **SETTINGS) as demo:
        yield World(demo, lambda: SqliteStore(tmp_path / "data" / "demo.db"), delete)


@pytest.fixture
async def on_influx(tmp_path: Path, influx_place) -> AsyncIterator[World]:
    org = f"test-{uuid4().hex[:12]}"
    url = influx_place.url.replace("influxdb", "http", 1)
    headers = {"Authorization": f"Token {influx_place.token}"}
    async with (
        httpx.AsyncClient(base_url=url, headers=headers) as influx,
        running_demo(
            tmp_path, **SETTINGS, STORE_URL=influx_place.url, INFLUX_ORG=org, INFLUX_TOKEN=influx_place.token
        ) as demo,
    ):

        async def delete(timeframe: Timeframe, span: Range) -> None:
            answer = await influx.post(
                "/api/v2/delete",
                params={"org": org, "bucket": f"candles_{timeframe.value}"},
                # The end is included there.
                json={
                    "start": rfc3339(span.start),
                    "stop": rfc3339(span.end - 1),
                    "predicate": f'_measurement="candle" AND symbol="{SYMBOL}"',
                },
            )
            assert answer.status_code == 204, answer.text

        yield World(demo, lambda: InfluxStore(influx_place.store_url, InfluxAccess(org, influx_place.token)), delete)


async def test_gaps_in_sqlite_are_repaired_in_all_timeframes(on_sqlite):
    await check_that_gaps_are_repaired(on_sqlite)


async def test_gaps_in_influxdb_are_repaired_in_all_timeframes(on_influx):
    await check_that_gaps_are_repaired(on_influx)


async def check_that_gaps_are_repaired(world: World) -> None:
    demo = world.demo

    async def all_timeframes() -> str | None:
        without = [timeframe.value for timeframe in TIMEFRAMES if not await demo.candles(SYMBOL, timeframe)]
        return f"no candles of {', '.join(without)}" if without else None

    await demo.until(all_timeframes, 90)
    await demo.until_health(200, 60)

    # A past to make gaps in: further back than one response of REST OHLC, and than an aggregator remembers.
    start = Timeframe.H1.floor(time.time() - 16 * HOUR)
    answer = await demo.http.post(f"{demo.url}/repair", json={"symbol": SYMBOL, "from": rfc3339(start)}, headers=TOKEN)
    assert answer.status_code == 202, answer.text

    async def past_is_there() -> str | None:
        waiting = await gaps(demo)
        minutes = await demo.candles(SYMBOL, Timeframe.M1)
        there = minutes and minutes[0]["open_time"] == rfc3339(start) and not waiting["gaps"]
        return None if there else f"not all of the past is there: {waiting}"

    await demo.until(past_is_there, 180)
    now = time.time()
    counts = {timeframe: await stored(world, timeframe, now) for timeframe in TIMEFRAMES}
    filled = (await gaps(demo))["filled_since_start"]

    deleted = 0
    for timeframe in TIMEFRAMES:
        # Counted before: afterwards the audit is at it already.
        there = 0
        for span in gaps_to_make(timeframe, start, now):
            there += await stored(world, timeframe, now, span)
            await world.delete(timeframe, span)
        assert there, f"expected a gap in {timeframe.value}"
        deleted += there

    async def repaired() -> str | None:
        waiting = await gaps(demo)
        for timeframe in TIMEFRAMES:
            found = await stored(world, timeframe, now)
            if found != counts[timeframe]:
                return f"expected {counts[timeframe]} candles of {timeframe.value}, got {found}; {waiting}"
            if complaint := await disagreement(demo, SYMBOL, timeframe):
                return complaint
        return None if not waiting["gaps"] else f"there are gaps: {waiting}"

    await demo.until(repaired, 120)
    # InfluxDB's tasks fill some of them too. A window that has ended since may have been stored late.
    windows = sum((t.floor(time.time()) - t.floor(now)) // t.seconds for t in TIMEFRAMES)
    ended = windows * len(await demo.symbols())
    assert filled < (await gaps(demo))["filled_since_start"] <= filled + deleted + ended
    await demo.until_health(200, 30)


def gaps_to_make(timeframe: Timeframe, start: int, now: float) -> list[Range]:
    """An hour long ago and one of today; of the long timeframes a candle between others."""
    if timeframe.seconds <= HOUR:
        return [Range(start + 70 * 60, start + 140 * 60), Range(now - 3 * HOUR, now - 1.5 * HOUR)]
    window = timeframe.floor(now) - 3 * timeframe.seconds
    return [Range(window, window + timeframe.seconds)]


async def stored(world: World, timeframe: Timeframe, now: float, span: Range | None = None) -> int:
    """How many closed candles the store has, in `span`, that opened long enough ago to be final when the test began.

    Past the API: `/candles` knows better for a while.
    """
    final = timeframe.floor(now - 600)
    start, end = (None, final) if span is None else (span.start, min(span.end, final))
    async with world.store() as store:
        return len(await store.candles(SYMBOL, timeframe, start=start, end=end, limit=100_000))


async def gaps(demo: Demo) -> dict:
    return (await demo.http.get(f"{demo.url}/gaps", params={"symbol": SYMBOL})).raise_for_status().json()
