"""Roll-up of minutes into all timeframes, in columns and exact decimals, by the laws (`docs/design.md`, section 1).

The aggregator's core does the same candle by candle; a test compares the results.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import polars as pl

from crypto_ingress.history.numbers import MAXIMUM_DIGITS, TooManyDigitsError, decimal, quotients, scale_of
from crypto_ingress.history.reading import PRICES, Unknown
from crypto_ingress.history.weeks import Weeks, joined
from ingress_common.candle_csv import COLUMNS
from ingress_common.timeframes import TIMEFRAMES, Timeframe

_MEAN_DECIMALS = 2  # decimals that a mean of four prices has beyond theirs
_QUARTER = pl.lit(Decimal("0.25"))
_MOST = 10.0 ** (MAXIMUM_DIGITS - 1)


def roll_up(weeks: Weeks, beyond: pl.DataFrame | None = None) -> Iterator[tuple[Timeframe, pl.DataFrame]]:
    """The candles of `weeks` in every timeframe, shortest first: `COLUMNS`, one row per window.

    Numbers are exact decimals; the vwap of roll-ups is text. Windows with an unknown part are omitted. `beyond`:
    minutes with trades before the first or after the last one, for windows that extend there. TooManyDigitsError.
    """
    minutes = _with_vwap(_wide_enough(weeks))
    yield Timeframe.M1, _finished(weeks, Timeframe.M1, minutes)
    if beyond is not None and beyond.height:
        minutes = _with_vwap(joined([weeks.minutes, beyond]).sort("time"))
    bars = _with_notional(minutes)
    for timeframe in TIMEFRAMES[1:]:
        bars = _bars_above(bars, timeframe)
        # If the volume is 0, the vwap is the close.
        vwap = quotients(bars["notional"], bars["volume"])
        traded = bars.with_columns(vwap=vwap).with_columns(pl.col("vwap").fill_null(pl.col("close").cast(pl.String)))
        yield timeframe, _finished(weeks, timeframe, traded)


def _wide_enough(weeks: Weeks) -> pl.DataFrame:
    """The minutes, with prices in a scale that also fits the previous close."""
    needed = 1 if weeks.before is None else len(weeks.before.partition(".")[2])
    price = decimal(max(scale_of(weeks.minutes["open"]), needed))
    return weeks.minutes.with_columns(pl.col(PRICES).cast(price))


def _with_vwap(minutes: pl.DataFrame) -> pl.DataFrame:
    """The minutes with a vwap; where the file has none, the mean of the four prices (decision 4)."""
    wide = decimal(scale_of(minutes["open"]) + _MEAN_DECIMALS)
    mean = (pl.col("open") + pl.col("high") + pl.col("low") + pl.col("close")).cast(wide) * _QUARTER
    return minutes.with_columns(vwap=pl.coalesce(pl.col("vwap").cast(wide), mean))


def _with_notional(minutes: pl.DataFrame) -> pl.DataFrame:
    """The minutes with their exact notional, vwap times volume."""
    scale = scale_of(minutes["vwap"]) + scale_of(minutes["volume"])
    week = pl.col("time") // Timeframe.W1.seconds
    floats = pl.col("vwap").cast(pl.Float64) * pl.col("volume").cast(pl.Float64)
    largest = max(minutes.group_by(week).agg(floats.sum().alias("sum"))["sum"].to_list(), default=0.0)
    if scale > MAXIMUM_DIGITS or largest > _MOST / 10**scale:
        raise TooManyDigitsError(
            f"expected prices times volumes to have at most {MAXIMUM_DIGITS} digits, got {scale} after the point"
            f" and a sum of {largest:.3g} a week"
        )
    return minutes.with_columns(notional=pl.col("vwap").cast(decimal(scale)) * pl.col("volume"))


def _bars_above(bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """The bars of the next higher timeframe; only windows with trades have one (law 2)."""
    window = pl.col("time") // timeframe.seconds * timeframe.seconds
    return bars.group_by(window, maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume", "notional", "trades").sum(),
    )


def _finished(weeks: Weeks, timeframe: Timeframe, traded: pl.DataFrame) -> pl.DataFrame:
    """A row for every window of `weeks`; windows without trades are flat at the last close."""
    step = timeframe.seconds
    start, end = timeframe.floor(weeks.start), timeframe.ceil(weeks.end)
    windows = pl.int_range(start, end, step, eager=True).alias("time").to_frame()
    bars = traded.select(pl.col("time").alias("traded"), *COLUMNS[1:-1])
    candles = windows.join_asof(bars, left_on="time", right_on="traded", check_sortedness=False)
    price, volume, vwap = traded["close"].dtype, traded["volume"].dtype, traded["vwap"].dtype
    before = pl.lit(weeks.before, dtype=pl.String)
    infilled = (pl.col("time") != pl.col("traded")).fill_null(value=True)
    close = pl.col("close").fill_null(before.cast(price))
    candles = candles.with_columns(close=close, infilled=infilled).with_columns(
        *(pl.when("infilled").then("close").otherwise(name).alias(name) for name in ("open", "high", "low")),
        vwap=pl.when("infilled").then(pl.col("close").cast(vwap)).otherwise("vwap"),
        volume=pl.when("infilled").then(pl.lit("0").cast(volume)).otherwise("volume"),
        trades=pl.when("infilled").then(0).otherwise("trades"),
    )
    return _without_unknown(candles.select(COLUMNS), step, weeks.unknown)


def _without_unknown(candles: pl.DataFrame, step: int, unknown: Sequence[Unknown]) -> pl.DataFrame:
    for begin, stop in unknown:
        touched = (pl.col("time") < stop) & (pl.col("time") + step > begin)
        candles = candles.filter(~touched)
    return candles
