"""Candles as rows of the tables, and back."""

import math
import sqlite3
from decimal import Decimal
from typing import Any

from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe
from ingress_store.numbers import decimal_of

COLUMNS = (
    "exchange, symbol, timeframe, open_time, open, high, low, close, volume, vwap, trades, "
    "closed, infilled, complete, revision, source, at"
)
"""The columns of a candle, in the order of `row_of` and `candle_of`."""

_MAX_INTEGER = 2**63 - 1


def row_of(candle: Candle) -> tuple[Any, ...]:
    """`candle` as column values; `str` of a Decimal keeps its exact digits."""
    return (
        candle.exchange,
        candle.symbol,
        candle.timeframe.value,
        candle.open_time,
        str(candle.open),
        str(candle.high),
        str(candle.low),
        str(candle.close),
        str(candle.volume),
        str(candle.vwap),
        candle.trades,
        candle.closed,
        candle.infilled,
        candle.complete,
        candle.revision,
        candle.source.value,
        candle.at,
    )


def candle_of(row: tuple[Any, ...]) -> Candle:
    """The candle of a row with `COLUMNS`."""
    return Candle(
        exchange=row[0],
        symbol=row[1],
        timeframe=Timeframe(row[2]),
        open_time=row[3],
        open=decimal_of(row[4]),
        high=decimal_of(row[5]),
        low=decimal_of(row[6]),
        close=decimal_of(row[7]),
        volume=decimal_of(row[8]),
        vwap=decimal_of(row[9]),
        trades=row[10],
        closed=bool(row[11]),
        infilled=bool(row[12]),
        complete=bool(row[13]),
        revision=row[14],
        source=Source(row[15]),
        at=row[16],
    )


def rejection(candle: Candle) -> str | None:
    """Why the tables cannot hold `candle`; None if they can."""
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        value: Decimal = getattr(candle, name)
        if not value.is_finite():
            return f"expected a finite {name}, got {value}"
    for name in ("open_time", "trades", "revision"):
        number: int = getattr(candle, name)
        if abs(number) > _MAX_INTEGER:
            return f"expected {name} to fit into 64 bits, got {number}"
    if not math.isfinite(candle.at):
        return f"expected an instant in at, got {candle.at}"
    return None


# The interpolated columns are the constant above.
UPSERT_CANDLE = f"""
INSERT INTO candles ({COLUMNS}, written_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (exchange, symbol, timeframe, open_time) DO UPDATE SET
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
    volume = excluded.volume, vwap = excluded.vwap, trades = excluded.trades,
    closed = excluded.closed, infilled = excluded.infilled, complete = excluded.complete,
    revision = excluded.revision, source = excluded.source, at = excluded.at, written_at = excluded.written_at
WHERE excluded.closed > candles.closed
    OR (excluded.closed = candles.closed AND (excluded.at, excluded.revision) >= (candles.at, candles.revision))
"""  # noqa: S608
"""`ingress_store.ordering.replaces` in SQL."""

UPSERT_TICK = f"""
INSERT OR REPLACE INTO ticks ({COLUMNS}, written_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608
"""A redelivered tick is the same one."""


def write(
    connection: sqlite3.Connection, candles: list[tuple[Any, ...]], ticks: list[tuple[Any, ...]], written_at: float
) -> None:
    """Write rows of `row_of` in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        series = {row[:3] for row in candles}
        connection.executemany("INSERT OR IGNORE INTO series (exchange, symbol, timeframe) VALUES (?, ?, ?)", series)
        connection.executemany(UPSERT_CANDLE, ((*row, written_at) for row in candles))
        connection.executemany(UPSERT_TICK, ((*row, written_at) for row in ticks))
