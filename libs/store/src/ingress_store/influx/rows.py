"""Parse the server's CSV to rows, and rows to candles."""

import csv
from collections.abc import Iterator
from datetime import datetime

from ingress_common.model import EXCHANGE, Candle, Source
from ingress_common.timeframes import Timeframe
from ingress_store.errors import StoreUnavailableError
from ingress_store.influx.versions import StoredVersion
from ingress_store.numbers import decimal_of

NUMBERS = ("open", "high", "low", "close", "volume", "vwap", "trades")
"""The numbers of a candle. While a row is being written, InfluxDB shows its fields one after the other."""

_GROUP = "#group"
"""Begins the line that marks the columns by which the tables below it are grouped."""

_OUR_TAGS = frozenset({"exchange", "symbol"})
_SOURCES = {source.value: source for source in Source}
_NEEDED = ("exchange", "symbol", *NUMBERS)

CsvRow = dict[str, str]
"""Values by column, without the empty ones."""


def rows_of(text: str) -> Iterator[CsvRow]:
    """The rows of a response; StoreUnavailableError if it ends with an error."""
    return (row for _, row in _rows(text))


def our_rows_of(text: str) -> Iterator[CsvRow]:
    """The rows of our own series, which have an exchange, ours, and a symbol, and no other tag. Other programs may have
    written others to the bucket.
    """
    return (row for tags, row in _rows(text) if tags == _OUR_TAGS and row["exchange"] == EXCHANGE)


def _rows(text: str) -> Iterator[tuple[frozenset[str], CsvRow]]:
    """Each row with the columns by which its table is grouped."""
    header: list[str] | None = None
    marks: list[str] = []
    tags: frozenset[str] = frozenset()
    for values in csv.reader(text.splitlines()):
        if not values:
            header = None
        elif values[0] == _GROUP:
            header, marks = None, values
        elif header is None:
            header = values
            if "error" not in header and ("result" not in header or not marks):
                raise StoreUnavailableError(f"expected rows of a query, got {','.join(values)[:100]!r}")
            if "error" in header and "_time" not in header and "_value" not in header:
                header = ["error"] if header[0] == "error" else header
            tags = frozenset(name for name, mark in zip(header, marks, strict=False) if mark == "true")
        else:
            row = dict(zip(header, values, strict=False))
            if row.get("error"):
                raise StoreUnavailableError(f"the query ended early: {row['error']}")
            yield tags, row


def instant_of(text: str) -> float:
    """Unix seconds of a time column, down to microseconds."""
    return datetime.fromisoformat(text).timestamp()


def seconds_of(text: str) -> int:
    """Unix seconds of a time column that holds an open time."""
    return int(instant_of(text))


def at_of(row: CsvRow) -> float | None:
    """The unix seconds of `at`; None without one. A foreign row may hold something else there."""
    microseconds = _whole(row.get("at"))
    return None if microseconds is None else microseconds / 1_000_000


def candle_of(row: CsvRow, timeframe: Timeframe) -> Candle | None:
    """The candle of a row; None if a number is missing or malformed.

    A foreign row may lack the fields beyond the contract; it counts as a complete roll-up received at its close.
    """
    open_time = seconds_of(row["_time"])
    at = at_of(row)
    try:
        return _candle(row, timeframe, open_time, float(open_time + timeframe.seconds) if at is None else at)
    except (ValueError, ArithmeticError):
        return None


def tick_of(row: CsvRow) -> Candle | None:
    """The raw 1m state of a row; None if a number is missing or malformed."""
    open_time, at = _whole(row.get("open_time")), instant_of(row["_time"])
    try:
        return None if open_time is None else _candle(row, Timeframe.M1, open_time, at)
    except (ValueError, ArithmeticError):
        return None


def _candle(row: CsvRow, timeframe: Timeframe, open_time: int, at: float) -> Candle | None:
    if not all(row.get(name) for name in _NEEDED):
        return None
    # The server writes the shortest digits that give the same float.
    return Candle(
        exchange=row["exchange"],
        symbol=row["symbol"],
        timeframe=timeframe,
        open_time=open_time,
        open=decimal_of(row["open"]),
        high=decimal_of(row["high"]),
        low=decimal_of(row["low"]),
        close=decimal_of(row["close"]),
        volume=decimal_of(row["volume"]),
        vwap=decimal_of(row["vwap"]),
        trades=int(row["trades"]),
        closed=row.get("closed") == "true",
        infilled=row.get("infilled") == "true",
        complete=row.get("complete") != "false",
        revision=int(row.get("revision") or 0),
        source=_source(row.get("source")),
        at=at,
    )


def version_of(row: CsvRow) -> StoredVersion:
    """The version of a row with `closed`, `at` and `revision`."""
    return row.get("closed") == "true", at_of(row) or 0.0, _whole(row.get("revision")) or 0


def _whole(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _source(text: str | None) -> Source:
    return _SOURCES.get(text or "", Source.ROLLUP)
