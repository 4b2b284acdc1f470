"""Reading from the tables, and pruning them."""

import sqlite3
from typing import Any

from ingress_common.model import EXCHANGE, Candle
from ingress_common.timeframes import Timeframe
from ingress_store.port import Freshness
from ingress_store.sqlite.rows import COLUMNS, candle_of

# The interpolated columns are a constant.
_RANGE = f"""
SELECT {COLUMNS} FROM candles
WHERE exchange = ? AND symbol = ? AND timeframe = ? AND open_time >= ? AND open_time < ?"""  # noqa: S608
_TICKS = f"""
SELECT {COLUMNS} FROM ticks
WHERE exchange = ? AND symbol = ? AND at >= ? AND at < ? ORDER BY at, open_time LIMIT ?"""  # noqa: S608
_MISSING = """
SELECT before + ?, open_time FROM (
    SELECT open_time, LAG(open_time) OVER (ORDER BY open_time) AS before FROM candles
    WHERE exchange = ? AND symbol = ? AND timeframe = ? AND open_time >= ? AND open_time < ? AND closed = 1)
WHERE open_time > before + ?"""
_INCOMPLETE = """
SELECT open_time FROM candles
WHERE exchange = ? AND symbol = ? AND timeframe = ? AND open_time >= ? AND open_time < ? AND closed = 1 AND complete = 0
"""
_FIRST, _LAST = float("-inf"), float("inf")


def oldest(
    connection: sqlite3.Connection,
    symbol: str,
    timeframe: Timeframe,
    start: float | None,
    end: float | None,
    limit: int,
) -> list[Candle]:
    """The first `limit` closed candles of [start, end), oldest first."""
    sql = f"{_RANGE} AND closed = 1 ORDER BY open_time LIMIT ?"
    return [candle_of(row) for row in connection.execute(sql, _range(symbol, timeframe, start, end, limit))]


def newest(
    connection: sqlite3.Connection,
    symbol: str,
    timeframe: Timeframe,
    start: float | None,
    end: float | None,
    limit: int,
) -> list[Candle]:
    """The last `limit` closed candles of [start, end), oldest first."""
    sql = f"{_RANGE} AND closed = 1 ORDER BY open_time DESC LIMIT ?"
    return [candle_of(row) for row in connection.execute(sql, _range(symbol, timeframe, start, end, limit))][::-1]


def forming(connection: sqlite3.Connection, symbol: str, timeframe: Timeframe) -> Candle | None:
    """The newest candle, if it is not closed."""
    sql = f"{_RANGE} ORDER BY open_time DESC LIMIT ?"
    row = connection.execute(sql, _range(symbol, timeframe, None, None, 1)).fetchone()
    candle = candle_of(row) if row else None
    return candle if candle and not candle.closed else None


def ticks(connection: sqlite3.Connection, symbol: str, start: float, end: float, limit: int) -> list[Candle]:
    """The first `limit` ticks of [start, end) by `at`, oldest first."""
    return [candle_of(row) for row in connection.execute(_TICKS, (EXCHANGE, symbol, start, end, limit))]


def symbols(connection: sqlite3.Connection) -> list[str]:
    """Every symbol that has candles, sorted."""
    sql = """
        SELECT DISTINCT symbol FROM series WHERE exchange = ? AND EXISTS (
            SELECT 1 FROM candles WHERE candles.exchange = series.exchange
            AND candles.symbol = series.symbol AND candles.timeframe = series.timeframe)
        ORDER BY symbol"""
    return [row[0] for row in connection.execute(sql, (EXCHANGE,))]


def latest(connection: sqlite3.Connection) -> list[Freshness]:
    """The newest closed candle of every series: two lookups in the primary key for each.

    The join is a cross join because SQLite keeps the order of that one; otherwise it would begin with all candles.
    """
    sql = """
        SELECT newest.symbol, newest.timeframe, newest.open_time, newest.at
        FROM series AS s CROSS JOIN candles AS newest
        ON newest.exchange = s.exchange AND newest.symbol = s.symbol AND newest.timeframe = s.timeframe
        AND newest.open_time = (
            SELECT c.open_time FROM candles AS c
            WHERE c.exchange = s.exchange AND c.symbol = s.symbol AND c.timeframe = s.timeframe AND c.closed = 1
            ORDER BY c.open_time DESC LIMIT 1)
        WHERE s.exchange = ?"""
    rows = connection.execute(sql, (EXCHANGE,))
    return [Freshness(symbol, Timeframe(timeframe), open_time, at) for symbol, timeframe, open_time, at in rows]


def newest_closed(connection: sqlite3.Connection, timeframe: Timeframe, since: float) -> dict[str, int]:
    """The open time of every symbol's newest closed candle since `since`: one lookup in the primary key for each."""
    sql = """
        SELECT symbol, (
            SELECT open_time FROM candles AS c
            WHERE c.exchange = s.exchange AND c.symbol = s.symbol AND c.timeframe = s.timeframe AND c.closed = 1
            AND c.open_time >= ? ORDER BY c.open_time DESC LIMIT 1) AS newest
        FROM series AS s WHERE s.exchange = ? AND s.timeframe = ? AND newest IS NOT NULL"""
    return dict(connection.execute(sql, (since, EXCHANGE, timeframe.value)).fetchall())


def missing(
    connection: sqlite3.Connection, symbol: str, timeframe: Timeframe, start: int, end: int
) -> list[tuple[str, int, int]]:
    """Symbol, start and end of each range without closed candles between two of [start, end)."""
    seconds = timeframe.seconds
    found = connection.execute(_MISSING, (seconds, EXCHANGE, symbol, timeframe.value, start, end, seconds))
    return [(symbol, begin, stop) for begin, stop in found]


def incomplete(
    connection: sqlite3.Connection, symbol: str, timeframe: Timeframe, start: int, end: int
) -> list[tuple[str, int]]:
    """Symbol and open time of each closed candle of [start, end) that is not complete."""
    found = connection.execute(_INCOMPLETE, (EXCHANGE, symbol, timeframe.value, start, end))
    return [(symbol, open_time) for (open_time,) in found]


def prune_candles(connection: sqlite3.Connection, timeframe: Timeframe, before: float, limit: int) -> int:
    """Delete up to `limit` candles written before `before` (unix seconds); returns how many."""
    sql = """
        DELETE FROM candles WHERE (exchange, symbol, timeframe, open_time) IN (
            SELECT exchange, symbol, timeframe, open_time FROM candles
            WHERE timeframe = ? AND written_at < ? LIMIT ?)"""
    return connection.execute(sql, (timeframe.value, before, limit)).rowcount


def prune_ticks(connection: sqlite3.Connection, before: float, limit: int) -> int:
    """Delete up to `limit` ticks written before `before` (unix seconds); returns how many."""
    sql = """
        DELETE FROM ticks WHERE (exchange, symbol, at, open_time) IN (
            SELECT exchange, symbol, at, open_time FROM ticks WHERE written_at < ? LIMIT ?)"""
    return connection.execute(sql, (before, limit)).rowcount


def _range(symbol: str, timeframe: Timeframe, start: float | None, end: float | None, limit: int) -> tuple[Any, ...]:
    return (
        EXCHANGE,
        symbol,
        timeframe.value,
        _FIRST if start is None else start,
        _LAST if end is None else end,
        limit,
    )
