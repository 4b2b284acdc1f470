"""The Flux queries that read. Texts and times are inserted only by `quoted` and `time`, so no name can become code."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from ingress_store.influx.names import CANDLE, TICK

FIRST = 0
"""Start (unix seconds) of a range without one: there is no candle before 1970."""

LAST = 9_000_000_000
"""End (unix seconds) of a range without one; InfluxDB's time goes a little further."""


def quoted(text: str) -> str:
    """`text` as a string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def time(instant: float) -> str:
    """`instant` (unix seconds) as a time literal, down to microseconds, within what InfluxDB can hold."""
    return datetime.fromtimestamp(min(max(instant, FIRST), LAST), UTC).isoformat().removesuffix("+00:00") + "Z"


def rows(bucket: str, symbols: Sequence[str] | None, start: float, stop: float, fields: Sequence[str] = ()) -> str:
    """The candles of `symbols` (None for all), one row each, in no order. `fields`: the fields to read."""
    wanted = "".join(_one_of(column, names) for column, names in (("symbol", symbols), ("_field", fields)) if names)
    return (
        f"{_from(bucket, start, stop)}\n"
        f"  |> filter(fn: (r) => r._measurement == {quoted(CANDLE)}{wanted})\n"
        f"  |> {_PIVOT}\n"
        f"  |> {_DROP}"
    )


def ticks(bucket: str, symbol: str, start: float, stop: float, limit: int) -> str:
    """The first `limit` ticks of a symbol, one row each, oldest first."""
    return (
        f"{_from(bucket, start, stop)}\n"
        f"  |> filter(fn: (r) => r._measurement == {quoted(TICK)} and r.symbol == {quoted(symbol)})\n"
        f"  |> {_PIVOT}\n"
        f"  |> {_DROP}\n"
        '  |> sort(columns: ["_time"])\n'
        f"  |> limit(n: {limit})"
    )


def edge(bucket: str, symbol: str, start: float, stop: float, which: str) -> str:
    """The time of each series' `first` or `last` candle and whether it is closed, without reading the others."""
    return (
        f"{_from(bucket, start, stop)}\n"
        f"  |> filter(fn: (r) => r._measurement == {quoted(CANDLE)} and r.symbol == {quoted(symbol)}"
        ' and r._field == "closed")\n'
        f"  |> {which}()\n"
        f"  |> {_DROP}"
    )


def newest_versions(buckets: Iterable[str], start: float, stop: float) -> str:
    """The newest `closed` and `at` of every symbol, one result per bucket."""
    return "\n".join(
        f"{_from(bucket, start, stop)}\n"
        f"  |> filter(fn: (r) => r._measurement == {quoted(CANDLE)}"
        ' and (r._field == "closed" or r._field == "at"))\n'
        "  |> last()\n"
        f"  |> {_PIVOT}\n"
        f"  |> {_DROP}\n"
        f"  |> yield(name: {quoted(bucket)})"
        for bucket in buckets
    )


def newest_closed(bucket: str, start: float, stop: float) -> str:
    """The time of the newest closed candle of every symbol that has one."""
    return (
        f"{_from(bucket, start, stop)}\n"
        f"  |> filter(fn: (r) => r._measurement == {quoted(CANDLE)}"
        ' and r._field == "closed")\n'
        "  |> filter(fn: (r) => r._value == true)\n"
        "  |> last()\n"
        f"  |> {_DROP}"
    )


BY_TIME = '\n  |> group()\n  |> sort(columns: ["_time"])'
"""Puts the rows of `rows` in order, those of all series together."""


def count(bucket: str, symbol: str, start: float, stop: float) -> str:
    """The number of a symbol's candles in each series, foreign ones too; the storage engine counts."""
    return (
        f"{_from(bucket, start, stop)}\n"
        f"  |> filter(fn: (r) => r._measurement == {quoted(CANDLE)} and r.symbol == {quoted(symbol)}"
        ' and r._field == "closed")\n'
        '  |> count()\n  |> keep(columns: ["_value"])'
    )


def closed_edge(bucket: str, symbol: str, which: str) -> str:
    """Query for the time of the `first` or `last` closed candle in the bucket, of each series, foreign ones too."""
    return (
        f"{_from(bucket, FIRST, LAST)}\n"
        f"  |> filter(fn: (r) => r._measurement == {quoted(CANDLE)} and r.symbol == {quoted(symbol)}"
        ' and r._field == "closed" and r._value == true)\n'
        f'  |> {which}()\n  |> keep(columns: ["_time"])'
    )


MISSING, INCOMPLETE, FORMING = "missing", "incomplete", "forming"
"""The results of `gaps`."""


def gaps(bucket: str, window: int, start: float, stop: float) -> str:
    """For all symbols in one query: closed candles more than `window` seconds after the one before (with `elapsed`,
    seconds), candles that are not complete, and candles that are not closed.
    """
    candles = f"{_from(bucket, start, stop)}\n  |> filter(fn: (r) => r._measurement == {quoted(CANDLE)}"
    return (
        f'{candles} and r._field == "closed")\n'
        "  |> filter(fn: (r) => r._value == true)\n"
        "  |> elapsed(unit: 1s)\n"
        f"  |> filter(fn: (r) => r.elapsed > {window})\n"
        f"  |> {_DROP}\n"
        f"  |> yield(name: {quoted(MISSING)})\n"
        f'{candles} and r._field == "complete")\n'
        "  |> filter(fn: (r) => r._value == false)\n"
        f"  |> {_DROP}\n"
        f"  |> yield(name: {quoted(INCOMPLETE)})\n"
        f'{candles} and r._field == "closed")\n'
        "  |> filter(fn: (r) => r._value == false)\n"
        f"  |> {_DROP}\n"
        f"  |> yield(name: {quoted(FORMING)})"
    )


def symbols(buckets: Iterable[str]) -> str:
    """Every symbol of some buckets, one result each, from the index, without reading candles."""
    values = "\n".join(
        f'schema.tagValues(bucket: {quoted(bucket)}, tag: "symbol", start: {time(FIRST)}, stop: {time(LAST)},'
        f" predicate: (r) => r._measurement == {quoted(CANDLE)})\n"
        f"  |> yield(name: {quoted(bucket)})"
        for bucket in buckets
    )
    return f'import "influxdata/influxdb/schema"\n\n{values}'


def _one_of(column: str, values: Sequence[str]) -> str:
    return f" and ({' or '.join(f'r.{column} == {quoted(value)}' for value in values)})"


_PIVOT = 'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'


_DROP = 'drop(columns: ["_start", "_stop", "_measurement", "_field"])'
"""What is left to group by are the tags of a series: `ingress_store.influx.rows.our_rows_of`."""


def _from(bucket: str, start: float, stop: float) -> str:
    return f"from(bucket: {quoted(bucket)})\n  |> range(start: {time(start)}, stop: {time(stop)})"
