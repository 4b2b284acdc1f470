"""The stores that the tests of history run on, and what each keeps of a number."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from decimal import Decimal
from uuid import uuid4

import httpx
import pytest

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import CandleStore, InfluxAccess, InfluxStore, Retention, SqliteStore
from ingress_store.bulk import COLUMNS, BulkRow, BulkSeries
from servers import InfluxPlace

STORES = ("sqlite", "influx")
KEPT = Retention(dict.fromkeys(TIMEFRAMES))


def open_store(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[CandleStore]:
    """A fresh store of the kind that the fixture's parameter names."""
    if request.param == "influx":
        return influx_store(request.getfixturevalue("influx_place"))
    return SqliteStore(request.getfixturevalue("tmp_path") / "candles.db")


@asynccontextmanager
async def influx_store(place: InfluxPlace) -> AsyncIterator[InfluxStore]:
    """A store in an organisation of its own, which is removed afterwards."""
    org = f"test-{uuid4().hex[:12]}"
    async with InfluxStore(place.store_url, InfluxAccess(org, place.token), retention=KEPT) as store:
        yield store
    headers = {"Authorization": f"Token {place.token}"}
    async with httpx.AsyncClient(base_url=place.url.replace("influxdb", "http", 1), headers=headers) as http:
        for found in (await http.get("/api/v2/orgs", params={"org": org})).json().get("orgs", []):
            await http.delete(f"/api/v2/orgs/{found['id']}")


class _KilledError(Exception):
    pass


@contextmanager
def killed(store: CandleStore, after: int) -> Iterator[None]:
    """What writes to `store` inside ends in the middle of a write, `after` whole ones."""
    series_of, writes = store.series, 0

    def series(symbol: str, timeframe: Timeframe) -> BulkSeries:
        series = series_of(symbol, timeframe)
        write = series.write

        async def dying(rows: Iterable[BulkRow]) -> int:
            nonlocal writes
            writes += 1
            rows = list(rows)
            if writes > after:
                await write(rows[: len(rows) // 2])
                raise _KilledError
            return await write(rows)

        series.write = dying
        return series

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "series", series)
        with pytest.raises(_KilledError):
            yield


async def stored(store: CandleStore, symbol: str = "BTC/USD") -> dict[Timeframe, list[tuple]]:
    """All candles: time, prices, volume and vwap, trades, infilled."""
    found = {}
    for timeframe in TIMEFRAMES:
        candles = await store.candles(symbol, timeframe, limit=1_000_000)
        found[timeframe] = as_kept(
            store,
            [(c.open_time, c.open, c.high, c.low, c.close, c.volume, c.vwap, c.trades, c.infilled) for c in candles],
        )
    return found


def as_kept(store: CandleStore, candles: Iterable[tuple]) -> list[tuple]:
    """Candles with what the store keeps of their numbers: all digits in SQLite, the nearest float in InfluxDB."""
    number = Decimal if isinstance(store, SqliteStore) else float
    return [(c[0], *map(number, c[1:7]), *c[7:]) for c in candles]


def all_as_kept(store: CandleStore, candles: dict[Timeframe, list[tuple]]) -> dict[Timeframe, list[tuple]]:
    """The candles of `archive_files.rolled_up` with what the store keeps of their numbers."""
    return {timeframe: as_kept(store, rows) for timeframe, rows in candles.items()}


async def row_at(store: CandleStore, timeframe: Timeframe, time: int) -> BulkRow:
    """The row of BTC/USD that opens at `time`, a closed or a forming one."""
    text = (await store.series("BTC/USD", timeframe).read(time, time + 1)).decode().split()
    (values,) = (line.split(",") for line in text[1:])
    row = dict(zip(COLUMNS, values, strict=True))
    whole = {name: int(row[name]) for name in ("time", "trades", "revision")}
    flags = {name: row[name] == "1" for name in ("closed", "infilled", "complete")}
    return tuple({**row, **whole, **flags, "at": float(row["at"])}.values())


async def damage(store: CandleStore, timeframe: Timeframe, time: int, /, **fields: object) -> None:
    """Change a stored row of BTC/USD behind everybody's back; without `fields` it is removed."""
    series = store.series("BTC/USD", timeframe)
    row = dict(zip(COLUMNS, await row_at(store, timeframe, time), strict=True))
    await series.delete([time])
    if fields:
        await series.write([tuple({**row, **fields}.values())])


async def write_second_series(store: InfluxStore, timeframe: Timeframe, row: BulkRow) -> None:
    """Write a row of BTC/USD under one tag more, so that InfluxDB keeps it beside the one that is there."""
    series = store.series("BTC/USD", timeframe)
    series._head = series._head.replace("candle,", "candle,by=somebody,", 1)
    await series.write([row])
