"""The reference of the import: polars reads the file, and rows that are ready already go to the store in batches."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from bench.influx_points import InfluxPoints
from ingress_store.sqlite import schema
from ingress_store.sqlite.rows import COLUMNS

_ROWS_AT_ONCE = 50_000
_LINES_AT_ONCE = 10_000
_INSERT = f"INSERT INTO candles ({COLUMNS}, written_at) VALUES ({', '.join('?' * 18)})"

Row = tuple[Any, ...]


def ready_rows(file: Path) -> list[Row]:
    """All candles in the store that an import made, timeframe by timeframe."""
    with sqlite3.connect(file) as connection:
        sql = f"SELECT {COLUMNS}, written_at FROM candles ORDER BY timeframe, open_time"
        return connection.execute(sql).fetchall()


def read(file: Path) -> float:
    """Seconds for reading the archive file with polars, numbers as floats."""
    began = time.monotonic()
    pl.read_csv(file, has_header=False)
    return time.monotonic() - began


def write_sqlite(file: Path, rows: Sequence[Row]) -> float:
    """Seconds for writing the rows into empty tables like ours, 50,000 a transaction. The caller removes the file."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for sql in (*schema.TABLES.values(), *schema.INDEXES.values()):
        connection.execute(sql)
    began = time.monotonic()
    for batch in _batches(iter(rows), _ROWS_AT_ONCE):
        connection.execute("BEGIN")
        connection.executemany(_INSERT, batch)
        connection.execute("COMMIT")
    taken = time.monotonic() - began
    connection.close()
    return taken


def write_influx(influx: InfluxPoints, rows: Sequence[Row], symbol: str) -> float:
    """Seconds for writing the rows as lines that are ready, 10,000 a request, under `symbol`."""
    ready = [
        (f"candles_{timeframe}", "\n".join(_line(row, symbol) for row in batch))
        for timeframe in dict.fromkeys(row[2] for row in rows)
        for batch in _batches((row for row in rows if row[2] == timeframe), _LINES_AT_ONCE)
    ]
    began = time.monotonic()
    for bucket, lines in ready:
        influx.write(bucket, lines)
    return time.monotonic() - began


def _line(row: Row, symbol: str) -> str:
    exchange, _, _, time_, o, h, low, c, volume, vwap, trades, closed, infilled, complete, revision, source, at, _ = row
    return (
        f"candle,exchange={exchange},symbol={symbol} open={o},high={h},low={low},close={c},volume={volume},vwap={vwap},"
        f"trades={trades}i,closed={bool(closed)},infilled={bool(infilled)},revision={revision}i,"
        f'complete={bool(complete)},source="{source}",at={int(at * 1e6)}i {time_}'
    )


def _batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(islice(rows, size)):
        yield batch
