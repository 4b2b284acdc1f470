"""The reference of the export: a store's own client copies 1m candles out as CSV.

`python -m bench.copy_out FILE sqlite DATABASE SYMBOL START END`, or `influx URL ORGANISATION TOKEN SYMBOL START END`
with times in unix seconds.
"""

import csv
import sqlite3
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from influxdb_client import InfluxDBClient

_COLUMNS = ("open", "high", "low", "close", "volume", "vwap", "trades", "infilled")


def main() -> None:
    """Copy."""
    file, kind, *place, symbol, start, end = sys.argv[1:]
    rows = {"sqlite": _of_sqlite, "influx": _of_influx}[kind](*place, symbol, int(start), int(end))
    with Path(file).open("w", newline="") as out:
        csv.writer(out).writerows(rows)


def _of_sqlite(database: str, symbol: str, start: int, end: int) -> Iterable[Iterable[object]]:
    sql = (
        f"SELECT open_time, {', '.join(_COLUMNS)} FROM candles WHERE exchange = 'kraken' AND symbol = ?"
        " AND timeframe = '1m' AND open_time >= ? AND open_time < ? AND closed = 1 ORDER BY open_time"
    )
    return sqlite3.connect(database).execute(sql, (symbol, start, end))


def _of_influx(
    url: str, organisation: str, token: str, symbol: str, start: int, end: int
) -> Iterable[Iterable[object]]:
    begin, stop = (datetime.fromtimestamp(instant, UTC).isoformat() for instant in (start, end))
    flux = (
        f'from(bucket: "candles_1m") |> range(start: {begin}, stop: {stop})'
        f' |> filter(fn: (r) => r._measurement == "candle" and r.symbol == "{symbol}")'
        ' |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        f" |> keep(columns: {str(['_time', *_COLUMNS]).replace(chr(39), chr(34))})"
    )
    with InfluxDBClient(url, token, org=organisation, timeout=600_000) as client:
        yield from client.query_api().query_csv(flux)


if __name__ == "__main__":
    main()
