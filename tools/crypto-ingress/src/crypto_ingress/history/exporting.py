"""Export of closed candles from a store to CSV, Parquet and Arrow files, 50,000 candles at a time."""

import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import polars as pl

from crypto_ingress.history.numbers import decimal, decimals_in, without_exponents
from crypto_ingress.history.stored import expect_numbers, stored_candles
from crypto_ingress.tables import whole_file
from ingress_common.candle_csv import COLUMNS, HEADER
from ingress_common.timeframes import Timeframe
from ingress_store import BulkSeries

_AT_ONCE = 50_000
_READ = (*COLUMNS, "closed")
_PRICES = ("open", "high", "low", "close")
_TEXTS = (*_PRICES, "volume", "vwap")

Progress = Callable[[int], None]
"""Takes the open time (unix seconds) up to which candles are written."""


class FileFormat(StrEnum):
    """The format of an output file, and the suffix of its name."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


class NumberType(StrEnum):
    """The type of prices and volumes in Parquet and Arrow files."""

    FLOAT = "float"
    DECIMAL = "decimal"


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of open times (unix seconds): includes `start`, excludes `end`."""

    start: int
    end: int


async def span_of(series: BulkSeries, timeframe: Timeframe, start: float | None, end: float | None) -> Span:
    """The part of [start, end) in which a series has candles."""
    bounds = await series.bounds()
    if bounds is None:
        return Span(0, 0)
    first = bounds[0] if start is None else max(bounds[0], timeframe.ceil(start))
    last = bounds[1] + timeframe.seconds
    return Span(first, last if end is None else min(last, timeframe.ceil(end)))


async def export_csv(series: BulkSeries, timeframe: Timeframe, span: Span, path: Path, progress: Progress) -> int:
    """Export candles as CSV with plain decimals and unix seconds. Returns their number.

    OutputError, or StoredNumberError if a stored number is none.
    """
    count = 0
    with whole_file(path) as part, part.open("wb") as file:
        file.write(HEADER.encode())
        async for candles in _pieces(series, timeframe, span, progress):
            rows = candles.with_columns(pl.col("infilled").cast(pl.Int8))
            rows.write_csv(file, include_header=False)
            count += rows.height
    return count


async def export_columns(
    series: BulkSeries,
    timeframe: Timeframe,
    span: Span,
    path: Path,
    form: FileFormat,
    numbers: NumberType,
    progress: Progress,
) -> int:
    """Export candles as a Parquet or Arrow file: `time` in UTC, numbers as floats or exact decimals.

    Pieces are kept on disk until the end, because the scale of the decimals is known only then. Returns the number of
    candles. OutputError, or StoredNumberError if a stored number is none.
    """
    count, price, volume, vwap = 0, 1, 1, 1
    with whole_file(path) as part, tempfile.TemporaryDirectory(prefix=".export-", dir=part.parent) as folder:
        pieces: list[Path] = []
        async for candles in _pieces(series, timeframe, span, progress):
            pieces.append(Path(folder) / f"{len(pieces):06}.arrow")
            candles.write_ipc(pieces[-1])
            count += candles.height
            price = max(price, *(decimals_in(candles[name]) for name in _PRICES))
            volume, vwap = max(volume, decimals_in(candles["volume"])), max(vwap, decimals_in(candles["vwap"]))
        rows = pl.scan_ipc(pieces) if pieces else pl.LazyFrame(schema=_schema())
        kinds = (
            {**dict.fromkeys(_PRICES, decimal(price)), "volume": decimal(volume), "vwap": decimal(vwap)}
            if numbers is NumberType.DECIMAL
            else dict.fromkeys(_TEXTS, pl.Float64())
        )
        rows = rows.with_columns(
            pl.from_epoch("time", time_unit="s").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"),
            *(pl.col(name).cast(kind) for name, kind in kinds.items()),
        )
        if form is FileFormat.PARQUET:
            rows.sink_parquet(part)
        else:
            rows.sink_ipc(part)
    return count


async def _pieces(
    series: BulkSeries, timeframe: Timeframe, span: Span, progress: Progress
) -> AsyncIterator[pl.DataFrame]:
    step = _AT_ONCE * timeframe.seconds
    for start in range(span.start, span.end, step):
        end = min(start + step, span.end)
        candles = expect_numbers((await stored_candles(series, start, end, _READ)).filter("closed").select(COLUMNS))
        if candles.height:
            yield candles.with_columns([_plain(candles[name]) for name in _TEXTS])
        progress(end)


def _plain(texts: pl.Series) -> pl.Series:
    """Numbers with a decimal point and without an exponent, also those that an earlier version has written."""
    texts = without_exponents(texts)
    pointed = texts.str.contains(".", literal=True)
    return (
        texts
        if pointed.all()
        else texts.to_frame()
        .select(pl.when(pointed).then(pl.col(texts.name)).otherwise(pl.col(texts.name) + ".0").alias(texts.name))
        .to_series()
    )


def _schema() -> dict[str, pl.DataType]:
    return {"time": pl.Int64(), **dict.fromkeys(_TEXTS, pl.String()), "trades": pl.Int64(), "infilled": pl.Boolean()}
