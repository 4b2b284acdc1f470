"""Comparison of two series of candles: real differences, apart from floating-point noise."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import polars as pl

from ingress_common.times import rfc3339

VOLUME_NOISE = 1e-8
"""Tolerance for volumes: Kraken's sums are off by about 1e-9, because they are floating-point sums."""

_RELATIVE_NOISE = 1e-12
_PRICES = ("open", "high", "low", "close")
_DOUBLED = 1000 / 999
_DOUBLED_TOLERANCE = 2e-4
_DOUBLED_TRADES = 5_000  # minimum number of trades for a reliable ratio of 1000/999

THE_FILE, THE_STORE = "the file", "the store"
"""Names of the sides of a comparison."""


@dataclass(frozen=True, slots=True)
class CandleDifference:
    """A candle that differs between the two sides: its open time (unix seconds) and a description."""

    time: int
    what: str

    def __str__(self) -> str:
        """A line for the report."""
        return f"{rfc3339(self.time)}: {self.what}"


def beside(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """Both sides joined by `time`: our columns unchanged, theirs with the suffix `_theirs`; numbers as floats.

    A text that is no number becomes null. `same`: both rows exist and have the same prices, trades and volume.
    """
    kept = ["time", *_PRICES, "volume", "trades"]
    more = [name for name in theirs.columns if name not in kept]
    floats = pl.col(*_PRICES, "volume").cast(pl.Float64, strict=False)
    rows = (
        ours.select(kept)
        .with_columns(floats)
        .join(theirs.select(*kept, *more).with_columns(floats), on="time", how="full", coalesce=True, suffix="_theirs")
        .sort("time")
    )
    prices = pl.all_horizontal(pl.col(name) == pl.col(f"{name}_theirs") for name in _PRICES)
    volume = (pl.col("volume") - pl.col("volume_theirs")).abs()
    noise = VOLUME_NOISE * 1.01 + pl.col("volume") * _RELATIVE_NOISE
    return rows.with_columns(
        same_prices=prices.fill_null(value=False),
        # An infinite volume would make the tolerance infinite.
        same=(
            prices & (pl.col("trades") == pl.col("trades_theirs")) & volume.is_finite() & (volume <= noise)
        ).fill_null(value=False),
    )


def counted_twice(rows: pl.DataFrame, ours: str, theirs: str) -> str | None:
    """The name of the side of `beside`, `ours` or `theirs`, that counts one trade in every 1,000 twice.

    Then its trades and volume are 1000/999 of the other side's, at the same prices. None: neither side does.
    """
    both = rows.filter(pl.col("trades").is_not_null() & pl.col("trades_theirs").is_not_null())
    if both.height == 0 or both["same"].all() or not both["same_prices"].all():
        return None
    trades, trades_theirs, volume, volume_theirs = both.select(
        pl.col("trades").sum(), pl.col("trades_theirs").sum(), pl.col("volume").sum(), pl.col("volume_theirs").sum()
    ).row(0)
    if min(trades, trades_theirs) < _DOUBLED_TRADES or min(volume, volume_theirs) <= 0:
        return None
    for name, ratio, volumes in (
        (ours, trades / trades_theirs, volume / volume_theirs),
        (theirs, trades_theirs / trades, volume_theirs / volume),
    ):
        if abs(ratio - _DOUBLED) < _DOUBLED_TOLERANCE and abs(volumes - _DOUBLED) < 10 * _DOUBLED_TOLERANCE:
            return name
    return None


def differences(rows: pl.DataFrame, ours: str, theirs: str, limit: int) -> list[CandleDifference]:
    """Descriptions of the first `limit` differing rows of `beside`. `ours`, `theirs`: names of the sides."""
    return [_difference(row, ours, theirs) for row in rows.filter(~pl.col("same")).head(limit).iter_rows(named=True)]


def _difference(row: dict[str, object], ours: str, theirs: str) -> CandleDifference:
    time = row["time"]
    assert isinstance(time, int)  # noqa: S101 - the column's type
    if row["trades"] is None:
        return CandleDifference(time, f"only in {theirs}")
    if row["trades_theirs"] is None:
        return CandleDifference(time, f"only in {ours}")
    other = (
        f"{name} {number_text(row[name])} in {ours}, {number_text(row[f'{name}_theirs'])} in {theirs}"
        for name in (*_PRICES, "volume", "trades")
        if not is_same(name, row[name], row[f"{name}_theirs"])
    )
    return CandleDifference(time, "; ".join(other))


def is_same(name: str, ours: Any, theirs: Any) -> bool:
    """Whether two numbers of the column `name` are equal, up to floating-point noise in volumes. None: no number."""
    if ours is None or theirs is None:
        return False
    if name == "volume":
        difference = abs(ours - theirs)
        return isfinite(difference) and bool(difference <= VOLUME_NOISE * 1.01 + abs(ours) * _RELATIVE_NOISE)
    return bool(ours == theirs)


def number_text(value: object) -> str:
    """A number for a report; None is no number."""
    if value is None:
        return "no number"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
