"""`BulkSeries` on a bucket."""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice

from ingress_common.model import EXCHANGE
from ingress_common.timeframes import Timeframe
from ingress_store.bulk import COLUMNS, BulkRow
from ingress_store.errors import StoreUnavailableError
from ingress_store.influx import flux, names
from ingress_store.influx.lines import microseconds
from ingress_store.influx.new_shards import CONFIRM_SECONDS
from ingress_store.influx.rows import NUMBERS, at_of, rows_of, seconds_of
from ingress_store.influx.server import RefusedError, Server, with_store_errors

_LINES_AT_ONCE = 10_000
_WINDOWS_AT_ONCE = 20_000
_PAUSES = (0.1, 0.3, 1.0)
"""Seconds before a piece is reread: a row in it lacks numbers, because it is being written or is foreign."""
_WRITE_PAUSES = (1.0, 4.0)
"""Seconds before a batch is retried: a busy InfluxDB gives up on a write with a 500."""
_SPECIAL = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})


class InfluxSeries:
    """The candles of one symbol and timeframe, also of series with another tag, which `crypto-ingress verify` finds.

    InfluxDB has no conditional write: a row replaces the existing one, so the caller compares first.
    """

    confirm_seconds = CONFIRM_SECONDS

    def __init__(self, server: Server, location: str, symbol: str, timeframe: Timeframe) -> None:
        self._server = server
        self._location = location
        self._symbol = symbol
        self._timeframe = timeframe
        self._bucket = names.candles(timeframe)
        self._head = f"{names.CANDLE},exchange={EXCHANGE},symbol={symbol.translate(_SPECIAL)} "

    async def count(self, start: int, end: int) -> int:
        """The number of candles."""
        return await with_store_errors(self._location, self._count(start, end))

    async def _count(self, start: int, end: int) -> int:
        text = flux.count(self._bucket, self._symbol, start, end)
        return sum(int(row["_value"]) for row in rows_of(await self._query(text)))

    async def read(self, start: int, end: int, columns: Sequence[str] = COLUMNS) -> bytes:
        """The candles as CSV, read in pieces small enough for the server, which makes one while we parse another."""
        return await with_store_errors(self._location, self._read(start, end, columns))

    async def _read(self, start: int, end: int, columns: Sequence[str]) -> bytes:
        out = [_line(columns)]
        fields = tuple({*columns, "open", "close"} - {"time"})  # a row without prices is none
        step = _WINDOWS_AT_ONCE * self._timeframe.seconds
        queries = (
            flux.rows(self._bucket, [self._symbol], first, min(first + step, end), fields) + flux.BY_TIME
            for first in range(start, end, step)
        )
        async with aclosing(self._responses(queries)) as responses:
            async for query, text in responses:
                # In a thread, so that the loop takes the next response meanwhile.
                lines, whole = await asyncio.to_thread(_lines_of, text, columns)
                for pause in _PAUSES if not whole else ():
                    await asyncio.sleep(pause)
                    lines, whole = await asyncio.to_thread(_lines_of, await self._query(query), columns)
                    if whole:
                        break
                out.append(lines)
        return "".join(out).encode()

    async def _responses(self, queries: Iterable[str]) -> AsyncGenerator[tuple[str, str], None]:
        """Each query with its response; the next one is requested before it."""
        coming: tuple[str, asyncio.Task[str]] | None = None
        try:
            for query in queries:
                response = None if coming is None else (coming[0], await coming[1])
                coming = query, asyncio.create_task(self._query(query), name="influx-series-read")
                if response is not None:
                    yield response
            if coming is not None:
                yield coming[0], await coming[1]
        finally:
            if coming is not None:
                coming[1].cancel()

    async def bounds(self) -> tuple[int, int] | None:
        """The open times of the oldest and the newest closed candle."""
        return await with_store_errors(self._location, self._bounds())

    async def _bounds(self) -> tuple[int, int] | None:
        found = [
            seconds_of(row["_time"])
            for which in ("first", "last")
            for row in rows_of(await self._query(flux.closed_edge(self._bucket, self._symbol, which)))
        ]
        return (min(found), max(found)) if found else None

    async def write(self, rows: Iterable[BulkRow]) -> int:
        """Write rows in batches of lines."""
        written = 0
        lines = self._lines(rows)
        while batch := list(islice(lines, _LINES_AT_ONCE)):
            await self._write("\n".join(batch).encode())
            written += len(batch)
        return written

    async def _write(self, body: bytes) -> None:
        for pause in (*_WRITE_PAUSES, None):
            try:
                await self._server.write(self._bucket, "s", body)
            except RefusedError as error:
                raise StoreUnavailableError(f"{self._location}: {self._bucket} refuses candles: {error}") from error
            except StoreUnavailableError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                return

    async def delete(self, times: Iterable[int]) -> None:
        """Remove some candles."""
        predicate = f'_measurement="{names.CANDLE}" AND symbol="{self._symbol}"'
        for time in times:
            await self._server.delete_points(self._bucket, flux.time(time), flux.time(time), predicate)

    def _lines(self, rows: Iterable[BulkRow]) -> Iterator[str]:
        head = self._head
        for time, o, h, low, c, volume, vwap, trades, closed, infilled, complete, revision, source, at in rows:
            yield (
                f"{head}open={o},high={h},low={low},close={c},volume={volume},vwap={vwap},trades={trades}i,"
                f"closed={closed},infilled={infilled},revision={revision}i,complete={complete},"
                f'source="{source}",at={microseconds(at)}i {time}'
            )

    async def _query(self, text: str) -> str:
        return await self._server.query(text)


def _line(values: Iterable[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


def _lines_of(text: str, columns: Sequence[str]) -> tuple[str, bool]:
    """The rows as lines of CSV, and whether none of them lacks a number."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    wanted = [COLUMNS.index(name) for name in columns]
    needed = [name for name in NUMBERS if name in columns]
    whole = True
    for row in rows_of(text):
        whole = whole and all(map(row.get, needed))
        if row.get("open") and row.get("close"):
            values = _values(row)
            write([values[place] for place in wanted])
    return out.getvalue(), whole


def _values(row: dict[str, str]) -> list[object]:
    """The values of `COLUMNS`; a foreign row may lack those beyond the contract."""
    time = seconds_of(row["_time"])
    at = at_of(row)
    return [
        time,
        *(_plain(row.get(name) or row["close"]) for name in ("open", "high", "low", "close")),
        _plain(row.get("volume") or "0.0"),
        _plain(row.get("vwap") or row["close"]),
        row.get("trades") or 0,
        int(row.get("closed") == "true"),
        int(row.get("infilled") == "true"),
        int(row.get("complete") != "false"),
        row.get("revision") or 0,
        row.get("source") or "rollup",
        time if at is None else at,
    ]


def _plain(number: str) -> str:
    """The server writes the shortest digits, and whole numbers without a decimal point."""
    return number if "." in number else number + ".0"
