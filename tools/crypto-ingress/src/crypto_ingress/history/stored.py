"""Reads candles from a store into data frames."""

from collections.abc import Sequence

import polars as pl

from crypto_ingress.history.reading import exact_rows
from ingress_store import BulkSeries
from ingress_store.bulk import COLUMNS

SCHEMA: dict[str, pl.DataType] = {
    **dict.fromkeys(COLUMNS, pl.String()),
    **dict.fromkeys(("time", "trades", "closed", "infilled", "complete", "revision"), pl.Int64()),
    "at": pl.Float64(),
}
FLAGS = ("closed", "infilled", "complete")
ROW_SCHEMA = SCHEMA | dict.fromkeys(FLAGS, pl.Boolean())
"""The columns of `ingress_store.bulk.Row`."""


async def stored_candles(series: BulkSeries, start: int, end: int, columns: Sequence[str] = COLUMNS) -> pl.DataFrame:
    """The stored candles that open in [start, end): columns of `ingress_store.bulk`, prices and volumes as text."""
    rows = await series.read(start, end, columns)
    frame = pl.read_csv(rows, schema={name: SCHEMA[name] for name in columns}, quote_char=None)
    return frame.with_columns(pl.col(name) == 1 for name in FLAGS if name in columns)


def minutes_that_traded(candles: pl.DataFrame) -> pl.DataFrame:
    """The closed 1m candles with trades, as rows of `reading.Block` with their stored vwap."""
    traded = candles.filter(pl.col("closed") & (pl.col("trades") > 0))
    return exact_rows(traded.select("time", "open", "high", "low", "close", "volume", "trades", "vwap"))
