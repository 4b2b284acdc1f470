"""`BulkSeries` on the tables."""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

from ingress_common.model import EXCHANGE
from ingress_common.timeframes import Timeframe
from ingress_store.bulk import COLUMNS, BulkRow
from ingress_store.sqlite.rows import UPSERT_CANDLE

ResultT = TypeVar("ResultT")

Run = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]
"""Does work in the thread that owns the connection."""

_ROWS_AT_ONCE = 50_000
_SERIES = "exchange = ? AND symbol = ? AND timeframe = ?"
_RANGE = f"{_SERIES} AND open_time >= ? AND open_time < ?"


class SqliteSeries:
    """The candles of one symbol and timeframe in the file. SQLite formats the rows, a line each."""

    confirm_seconds = 0.0

    def __init__(self, run: Run, clock: Callable[[], float], symbol: str, timeframe: Timeframe) -> None:
        self._run = run
        self._clock = clock
        self._key = (EXCHANGE, symbol, timeframe.value)

    async def count(self, start: int, end: int) -> int:
        """The number of candles."""
        sql = f"SELECT COUNT(*) FROM candles WHERE {_RANGE}"  # noqa: S608 - made of constants
        count: int = await self._run(lambda c: c.execute(sql, (*self._key, start, end)).fetchone()[0])
        return count

    async def read(self, start: int, end: int, columns: Sequence[str] = COLUMNS) -> bytes:
        """The candles as CSV."""
        line = " || ',' || ".join("open_time" if name == "time" else name for name in columns)
        sql = f"SELECT {line} FROM candles WHERE {_RANGE} ORDER BY open_time"  # noqa: S608 - made of constants
        lines = await self._run(lambda c: c.execute(sql, (*self._key, start, end)).fetchall())
        return ("\n".join([",".join(columns), *(line for (line,) in lines)]) + "\n").encode()

    async def bounds(self) -> tuple[int, int] | None:
        """The open times of the oldest and the newest closed candle."""
        sql = f"SELECT open_time FROM candles WHERE {_SERIES} AND closed = 1 ORDER BY open_time"  # noqa: S608

        def work(connection: sqlite3.Connection) -> tuple[int, int] | None:
            oldest = connection.execute(f"{sql} LIMIT 1", self._key).fetchone()
            newest = connection.execute(f"{sql} DESC LIMIT 1", self._key).fetchone()
            return (oldest[0], newest[0]) if oldest and newest else None

        bounds: tuple[int, int] | None = await self._run(work)
        return bounds

    async def write(self, rows: Iterable[BulkRow]) -> int:
        """Write rows, `_ROWS_AT_ONCE` per transaction, so that other writers can write in between."""
        written = 0
        left = iter(rows)
        while some := list(islice(left, _ROWS_AT_ONCE)):
            await self._run(lambda connection, some=some: self._write(connection, some))  # type: ignore[misc]
            written += len(some)
        return written

    async def delete(self, times: Iterable[int]) -> None:
        """Remove some candles."""
        keys = [(*self._key, time) for time in times]
        sql = f"DELETE FROM candles WHERE {_SERIES} AND open_time = ?"  # noqa: S608 - made of constants

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                connection.executemany(sql, keys)

        await self._run(work)

    def _write(self, connection: sqlite3.Connection, rows: list[BulkRow]) -> None:
        key, written_at = self._key, self._clock()
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            connection.execute("INSERT OR IGNORE INTO series (exchange, symbol, timeframe) VALUES (?, ?, ?)", key)
            connection.executemany(UPSERT_CANDLE, ((*key, *row, written_at) for row in rows))
