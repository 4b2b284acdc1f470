"""Checks of stored candles: complete series, alignment, flat infilled candles, roll-up from the lower timeframe.

The checks work in columns and report each wrong candle.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from crypto_ingress.history.compare import beside, is_same
from ingress_common.timeframes import Timeframe

_PRICES = ("open", "high", "low", "close")
_LATE_SECONDS = 120.0
"""A forming candle may stay this long after its window's end: watermark, writer, restart."""

_RELATIVE = 1e-12  # InfluxDB's floats


class FindingKind(StrEnum):
    """The kinds of errors in stored candles, as the report describes them."""

    MISALIGNED = "is not aligned to its timeframe"
    DUPLICATE = "is stored twice"
    MISSING = "is missing"
    STALE = "is still forming after the end of its window"
    INCOMPLETE = "is incomplete: Kraken had no data for some of its minutes"
    IMPOSSIBLE = "has impossible prices, vwap or volume"
    NOT_INFILLED = "has no trades and is not marked as infilled"
    INFILLED_TRADES = "is infilled and has trades or volume"
    NOT_FLAT = "is infilled and not flat at the previous close"
    NOT_ROLLED_UP = "differs from the roll-up of the lower timeframe"
    NOT_KRAKENS = "differs from Kraken's candle"


@dataclass(frozen=True, slots=True)
class CandleFinding:
    """A wrong candle. `time`: its open time (unix seconds). `count`: number of consecutive windows of a gap."""

    timeframe: Timeframe
    time: int
    kind: FindingKind
    detail: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Before:
    """Open time and close of the last closed candle before a piece of a series; None at the start."""

    time: int | None = None
    close: float | None = None


def newest_last(candles: pl.DataFrame) -> pl.DataFrame:
    """The rows by open time; of repeated ones the row that `ingress_store.ordering` keeps is the last.

    The checks take the last one as the candle.
    """
    return candles.sort("time", "closed", "at", "revision")


def newest(candles: pl.DataFrame) -> pl.DataFrame:
    """One row an open time: of repeated ones the row that `ingress_store.ordering` keeps."""
    return newest_last(candles).unique("time", keep="last", maintain_order=True)


def check_series(timeframe: Timeframe, candles: pl.DataFrame, before: Before, now: float) -> list[CandleFinding]:
    """Check `candles` on their own: all stored candles of a range, by `newest_last`. `now`: unix seconds."""
    return [
        CandleFinding(timeframe, time, kind, detail)
        for kind, rows in _wrong(timeframe, candles, before, now)
        for time, detail in _named(rows, kind)
    ] + list(_missing(timeframe, candles, before))


def after(candles: pl.DataFrame, timeframe: Timeframe, before: Before) -> Before:
    """The `before` of the next piece."""
    sound = _sound(timeframe, candles)
    if not sound.height:
        return before
    return Before(sound["time"][-1], float(sound["close"][-1]))


def check_roll_up(
    timeframe: Timeframe, candles: pl.DataFrame, children: pl.DataFrame, now: float
) -> tuple[list[CandleFinding], list[int]]:
    """Compare `candles` with the roll-up of the next lower timeframe's `children`.

    Returns the findings and the open times of the windows to rebuild. It covers windows that have ended and whose
    children all exist, closed and complete.
    """
    made = _made(timeframe, children).filter(pl.col("time") + timeframe.seconds + _LATE_SECONDS < now)
    stored = _sound(timeframe, candles).with_columns(pl.col(*_PRICES, "vwap").cast(pl.Float64))
    stored = stored.with_columns(impossible=~_vwap_inside())
    rows = beside(made, stored.select("time", *_PRICES, "volume", "trades", "impossible"))
    rows = rows.filter(pl.col("trades").is_not_null())
    wrong = rows.filter(pl.col("trades_theirs").is_not_null() & ~pl.col("same"))
    findings = [
        CandleFinding(timeframe, row["time"], FindingKind.NOT_ROLLED_UP, _difference(row))
        for row in wrong.iter_rows(named=True)
    ]
    absent = rows.filter(pl.col("trades_theirs").is_null())["time"].to_list()
    findings += [CandleFinding(timeframe, time, FindingKind.MISSING) for time in absent]
    # A vwap may differ from the roll-up's, which is made of rounded or estimated ones.
    impossible = rows.filter(pl.col("same") & pl.col("impossible"))["time"]
    return findings, [*absent, *wrong["time"], *impossible]


def check_ends(ends: Mapping[Timeframe, Before], now: float) -> list[CandleFinding]:
    """Gaps at the end of a series: candles that are missing although a higher timeframe goes on.

    `ends`: the last candle of each timeframe. A higher candle may end after the last lower one, but not begin there.
    """
    findings = []
    for timeframe, end in ends.items():
        lower = timeframe.lower
        last = ends[lower].time if lower is not None else None
        if lower is None or last is None or end.time is None or end.time + timeframe.seconds + _LATE_SECONDS >= now:
            continue
        # Windows whose children all exist are findings of `check_roll_up`.
        children = ends[lower.lower].time if lower.lower is not None else None
        first = max(last + lower.seconds, 0 if children is None else lower.floor(children))
        if first <= end.time:
            count = (end.time - first) // lower.seconds + 1
            findings.append(CandleFinding(lower, first, FindingKind.MISSING, count=count))
    return findings


def _made(timeframe: Timeframe, children: pl.DataFrame) -> pl.DataFrame:
    lower = timeframe.lower
    if lower is None:
        raise ValueError(f"expected a timeframe above the lowest, got {timeframe.value}")
    sound = _sound(lower, children).filter("complete").with_columns(pl.col(*_PRICES, "volume").cast(pl.Float64))
    traded = pl.col("trades") > 0
    any_traded = traded.any()

    def of_traded(name: str, value: pl.Expr) -> pl.Expr:
        return pl.when(any_traded).then(value).otherwise(pl.col("close").last()).alias(name)

    return (
        sound.group_by(pl.col("time") // timeframe.seconds * timeframe.seconds, maintain_order=True)
        .agg(
            of_traded("open", pl.col("open").filter(traded).first()),
            of_traded("high", pl.col("high").filter(traded).max()),
            of_traded("low", pl.col("low").filter(traded).min()),
            of_traded("close", pl.col("close").filter(traded).last()),
            pl.col("volume").filter(traded).sum(),
            pl.col("trades").sum(),
            children=pl.len(),
        )
        .filter(pl.col("children") == timeframe.children)
        .drop("children")
    )


def _wrong(
    timeframe: Timeframe, candles: pl.DataFrame, before: Before, now: float
) -> Iterator[tuple[FindingKind, pl.DataFrame]]:
    step = timeframe.seconds
    yield FindingKind.MISALIGNED, candles.filter(pl.col("time") % step != 0)
    yield (
        FindingKind.DUPLICATE,
        candles.filter(pl.col("time").is_duplicated()).unique("time", keep="last", maintain_order=True),
    )
    newest = candles.filter("closed")["time"].max()
    over = (pl.col("time") + step + _LATE_SECONDS < now) | (pl.col("time") < pl.lit(newest, dtype=pl.Int64)).fill_null(
        value=False
    )
    yield FindingKind.STALE, candles.filter(~pl.col("closed") & over)
    closed = candles.filter("closed").with_columns(pl.col(*_PRICES, "volume", "vwap").cast(pl.Float64))
    yield FindingKind.INCOMPLETE, closed.filter(~pl.col("complete"))
    inside = (pl.col("low") <= pl.min_horizontal("open", "close")) & (
        pl.max_horizontal("open", "close") <= pl.col("high")
    )
    possible = inside & (pl.col("low") >= 0) & (pl.col("volume") >= 0) & _vwap_inside()
    yield FindingKind.IMPOSSIBLE, closed.filter(~possible)
    untraded = pl.col("trades") == 0
    yield FindingKind.NOT_INFILLED, closed.filter(untraded & ~pl.col("infilled"))
    yield FindingKind.INFILLED_TRADES, closed.filter(pl.col("infilled") & (~untraded | (pl.col("volume") != 0)))
    yield FindingKind.NOT_FLAT, _not_flat(closed, step, before)


def _vwap_inside() -> pl.Expr:
    noise = pl.col("high") * _RELATIVE
    return pl.col("vwap").is_between(pl.col("low") - noise, pl.col("high") + noise)


def _not_flat(closed: pl.DataFrame, step: int, before: Before) -> pl.DataFrame:
    """Infilled candles with a price other than the previous close, if the previous candle exists."""
    close = pl.col("close").shift(1, fill_value=before.close)
    follows = pl.col("time") - pl.col("time").shift(1, fill_value=before.time) == step
    expected = pl.when(follows.fill_null(value=False)).then(close).otherwise(pl.col("close"))
    differs = pl.any_horizontal((pl.col(name) - expected).abs() > expected * _RELATIVE for name in _PRICES)
    return closed.filter(pl.col("infilled") & differs)


def without_doubles(findings: list[CandleFinding]) -> list[CandleFinding]:
    """The findings without repeated absent windows and without those inside a longer gap."""
    stretches = [f for f in findings if f.kind is FindingKind.MISSING and f.count > 1]
    known = {(f.time, f.count) for f in findings if f.kind is FindingKind.MISSING}
    found: list[CandleFinding] = []
    for finding in findings:
        if finding.kind is FindingKind.MISSING and finding.count == 1:
            inside = any(s.time <= finding.time < s.time + s.count * finding.timeframe.seconds for s in stretches)
            if inside or (finding.time, 1) not in known:
                continue
            known.discard((finding.time, 1))
        found.append(finding)
    return found


def _missing(timeframe: Timeframe, candles: pl.DataFrame, before: Before) -> Iterator[CandleFinding]:
    """Gaps between two closed candles."""
    step = timeframe.seconds
    times = _sound(timeframe, candles).select("time", before=pl.col("time").shift(1, fill_value=before.time))
    for time, earlier in times.filter(pl.col("time") - pl.col("before") > step).iter_rows():
        count = (time - earlier) // step - 1
        yield CandleFinding(timeframe, earlier + step, FindingKind.MISSING, count=count)


def _sound(timeframe: Timeframe, candles: pl.DataFrame) -> pl.DataFrame:
    """The closed, aligned candles, each open time once: the newest row."""
    closed = candles.filter(pl.col("closed") & (pl.col("time") % timeframe.seconds == 0))
    return closed.unique("time", keep="last", maintain_order=True)


def _named(rows: pl.DataFrame, kind: FindingKind) -> Iterator[tuple[int, str]]:
    for row in rows.iter_rows(named=True):
        if kind in (FindingKind.IMPOSSIBLE, FindingKind.NOT_FLAT):
            detail = ", ".join(f"{name} {row[name]:.12g}" for name in (*_PRICES, "vwap", "volume"))
        elif kind is FindingKind.INFILLED_TRADES:
            detail = f"trades {row['trades']}, volume {row['volume']:.12g}"
        else:
            detail = ""
        yield row["time"], detail


def _difference(row: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {row[f'{name}_theirs']:.12g} instead of {row[name]:.12g}"
        for name in (*_PRICES, "volume", "trades")
        if not is_same(name, row[name], row[f"{name}_theirs"])
    )
