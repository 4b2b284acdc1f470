"""Reads candles from a store into data frames."""

from collections.abc import Sequence

import polars as pl

from crypto_ingress.history.reading import exact_rows
from ingress_common.times import rfc3339
from ingress_store import BulkSeries
from ingress_store.bulk import COLUMNS

SCHEMA: dict[str, pl.DataType] = {
    **dict.fromkeys(COLUMNS, pl.String()),
    **dict.fromkeys(("time", "trades", "closed", "infilled", "complete", "revision"), pl.Int64()),
    "at": pl.Float64(),
}
FLAGS = ("closed", "infilled", "complete")
ROW_SCHEMA = SCHEMA | dict.fromkeys(FLAGS, pl.Boolean())
"""The columns of `ingress_store.bulk.BulkRow`."""


_NUMBERS = ("open", "high", "low", "close", "volume", "vwap")


class StoredNumberError(Exception):
    """A stored number is none. The text names the candle's open time, what was expected and what came."""


async def stored_candles(series: BulkSeries, start: int, end: int, columns: Sequence[str] = COLUMNS) -> pl.DataFrame:
    """The stored candles that open in [start, end): columns of `ingress_store.bulk`, prices and volumes as text.

    A text need not be a number, see `expect_numbers`. StoredNumberError for a row whose other columns are invalid.
    """
    rows = await series.read(start, end, columns)
    try:
        frame = pl.read_csv(rows, schema={name: SCHEMA[name] for name in columns}, quote_char=None)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise StoredNumberError(f"{rfc3339(start)} to {rfc3339(end)}: expected rows of numbers, got {reason}") from None
    return frame.with_columns(pl.col(name) == 1 for name in FLAGS if name in columns)


def with_numbers(candles: pl.DataFrame) -> pl.DataFrame:
    """The candles whose prices, volume and vwap are finite numbers."""
    return candles.filter(pl.all_horizontal(_is_number(name) for name in _NUMBERS))


def _is_number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64, strict=False).is_finite().fill_null(value=False)


def expect_numbers(candles: pl.DataFrame) -> pl.DataFrame:
    """Return `candles` if all their prices, volumes and vwaps are finite numbers, else raise StoredNumberError."""
    for name in _NUMBERS:
        wrong = candles.filter(~_is_number(name))
        if wrong.height:
            time, text = wrong.select("time", name).row(0)
            raise StoredNumberError(f"{rfc3339(time)}: expected a number as {name}, got {text or ''!r}")
    return candles


def minutes_that_traded(candles: pl.DataFrame) -> pl.DataFrame:
    """The closed 1m candles with trades, as rows of `reading.Block` with their stored vwap. StoredNumberError."""
    traded = expect_numbers(candles.filter(pl.col("closed") & (pl.col("trades") > 0)))
    return exact_rows(traded.select("time", "open", "high", "low", "close", "volume", "trades", "vwap"))
