"""Checks of stored candles: complete series, alignment, flat infilled candles, roll-up from the lower timeframe.

The checks work in columns and report each wrong candle.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from crypto_ingress.history.compare import beside, is_same, number_text
from ingress_common.timeframes import Timeframe

_PRICES = ("open", "high", "low", "close")
_LATE_SECONDS = 120.0
"""A forming candle may stay this long after its window's end: watermark, writer, restart. Clocks differ by less."""

_RELATIVE = 1e-12  # InfluxDB's floats


class FindingKind(StrEnum):
    """The kinds of errors in stored candles, as the report describes them."""

    MISALIGNED = "is not aligned to its timeframe"
    DUPLICATE = "is stored twice"
    MISSING = "is missing"
    STALE = "is still forming after the end of its window"
    INCOMPLETE = "is incomplete: Kraken had no data for some of its minutes"
    IMPOSSIBLE = "has impossible prices, vwap, volume or trades"
    FUTURE = "is of the future: its window has not ended"
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
    """Open time and close (as stored) of the last closed candle before a piece of a series; None at the start.

    `close` is None, too, if that candle is wrong.
    """

    time: int | None = None
    close: str | None = None


def newest_last(candles: pl.DataFrame) -> pl.DataFrame:
    """The rows by open time. Of repeated rows the one that `ingress_store.ordering` keeps comes last; the checks take
    it as the candle.
    """
    return candles.sort("time", "closed", "at", "revision")


def newest(candles: pl.DataFrame) -> pl.DataFrame:
    """One row per open time: of repeated rows the one that `ingress_store.ordering` keeps."""
    return newest_last(candles).unique("time", keep="last", maintain_order=True)


def check_series(timeframe: Timeframe, candles: pl.DataFrame, before: Before, now: float) -> list[CandleFinding]:
    """Check `candles` on their own: all stored candles of a range, by `newest_last`. `now`: unix seconds."""
    future = _is_future(timeframe, now)
    past = candles.filter(~future)
    found = [(FindingKind.FUTURE, candles.filter(future)), *_wrong(timeframe, past, before, now)]
    return [
        CandleFinding(timeframe, time, kind, detail) for kind, rows in found for time, detail in _named(rows, kind)
    ] + list(_missing(timeframe, past, before))


def after(candles: pl.DataFrame, timeframe: Timeframe, before: Before, now: float) -> Before:
    """The `before` of the next piece."""
    last = _aligned(timeframe, candles.filter(~_is_future(timeframe, now))).tail(1)
    if not last.height:
        return before
    return Before(last["time"][0], next(iter(usable(timeframe, last)["close"]), None))


def usable(timeframe: Timeframe, candles: pl.DataFrame) -> pl.DataFrame:
    """Return closed, aligned, valid candles whose `infilled` matches their trades; the newest row per open time."""
    aligned = _aligned(timeframe, candles)
    return aligned.filter(_is_usable(aligned))


def windows_over_unusable(timeframe: Timeframe, children: pl.DataFrame) -> set[int]:
    """The open times of the windows that cannot be made, because one of their `children` is wrong."""
    aligned = _aligned(_lower(timeframe), children)
    return {timeframe.floor(time) for time in aligned.filter(~_is_usable(aligned))["time"]}


def check_roll_up(
    timeframe: Timeframe, candles: pl.DataFrame, children: pl.DataFrame, now: float
) -> tuple[list[CandleFinding], list[int]]:
    """Compare `candles` with the roll-up of the next lower timeframe's `children`.

    Returns the findings and the open times of the windows to rebuild. It covers windows that have ended and whose
    children all exist, closed, complete and without an error of their own.
    """
    made = _made(timeframe, children).filter(pl.col("time") + timeframe.seconds + _LATE_SECONDS < now)
    stored = _aligned(timeframe, candles)
    stored = stored.with_columns(mendable=~(_is_possible(stored) & stored["complete"]))
    rows = beside(made, stored.select("time", *_PRICES, "volume", "trades", "mendable"))
    rows = rows.filter(pl.col("trades").is_not_null())
    wrong = rows.filter(pl.col("trades_theirs").is_not_null() & ~pl.col("same"))
    findings = [
        CandleFinding(timeframe, row["time"], FindingKind.NOT_ROLLED_UP, _difference(row))
        for row in wrong.iter_rows(named=True)
    ]
    absent = rows.filter(pl.col("trades_theirs").is_null())["time"].to_list()
    findings += [CandleFinding(timeframe, time, FindingKind.MISSING) for time in absent]
    # A vwap may differ from the roll-up's, which is made of rounded or estimated ones. All children are complete.
    mendable = rows.filter(pl.col("same") & pl.col("mendable"))["time"]
    return findings, [*absent, *wrong["time"], *mendable]


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
    lower = _lower(timeframe)
    parts = usable(lower, children).filter("complete").with_columns(_number(*_PRICES, "volume"))
    traded = pl.col("trades") > 0
    any_traded = traded.any()

    def of_traded(name: str, value: pl.Expr) -> pl.Expr:
        return pl.when(any_traded).then(value).otherwise(pl.col("close").last()).alias(name)

    return (
        parts.group_by(pl.col("time") // timeframe.seconds * timeframe.seconds, maintain_order=True)
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
    closed = candles.filter("closed")
    yield FindingKind.INCOMPLETE, closed.filter(~pl.col("complete"))
    yield FindingKind.IMPOSSIBLE, closed.filter(~_is_possible(closed))
    yield FindingKind.NOT_INFILLED, closed.filter(~pl.col("infilled") & (pl.col("trades") == 0))
    yield (
        FindingKind.INFILLED_TRADES,
        closed.filter(pl.col("infilled") & ((pl.col("trades") != 0) | (_number("volume") != 0))),
    )
    yield FindingKind.NOT_FLAT, _not_flat(_aligned(timeframe, candles), step, before)


def _number(*names: str) -> pl.Expr:
    """Stored numbers as floats; null where a text is none, which SQLite can hold."""
    return pl.col(*names).cast(pl.Float64, strict=False)


def _is_possible(candles: pl.DataFrame) -> pl.Series:
    numbers = candles.select(_number(*_PRICES, "volume", "vwap"), "trades")
    finite = pl.all_horizontal(pl.col(*_PRICES, "volume", "vwap").is_finite())
    inside = (pl.col("low") <= pl.min_horizontal("open", "close")) & (
        pl.max_horizontal("open", "close") <= pl.col("high")
    )
    noise = pl.col("high") * _RELATIVE
    vwap_inside = pl.col("vwap").is_between(pl.col("low") - noise, pl.col("high") + noise)
    positive = (pl.col("low") >= 0) & (pl.col("volume") >= 0) & (pl.col("trades") >= 0)
    possible = (finite & inside & vwap_inside & positive).fill_null(value=False)
    return numbers.select(possible.alias("possible")).to_series()


def _is_usable(candles: pl.DataFrame) -> pl.Series:
    without_trades = (pl.col("trades") == 0) & (_number("volume") == 0)
    marked = pl.when("infilled").then(without_trades).otherwise(pl.col("trades") > 0).fill_null(value=False)
    return _is_possible(candles) & candles.select(marked.alias("marked")).to_series()


def _is_future(timeframe: Timeframe, now: float) -> pl.Expr:
    return pl.col("closed") & (pl.col("time") + timeframe.seconds > now + _LATE_SECONDS)


def _not_flat(candles: pl.DataFrame, step: int, before: Before) -> pl.DataFrame:
    """Infilled candles with a price other than the previous close, if the previous candle exists and is usable.

    The close goes through infilled candles as it should be, so a wrong one does not make those after it wrong.
    """
    follows = pl.col("time") - pl.col("time").shift(1, fill_value=before.time) == step
    follows &= pl.col("usable").shift(1, fill_value=before.close is not None)
    first = ~(pl.col("infilled") & follows.fill_null(value=False))
    known = pl.when(first).then("close").forward_fill()
    known = known.fill_null(pl.lit(before.close, dtype=pl.String).cast(pl.Float64))
    numbers = candles.select("time", "infilled", _number(*_PRICES), usable=_is_usable(candles))
    numbers = numbers.with_columns(expected=known)
    differs = pl.any_horizontal(
        (pl.col(name) - pl.col("expected")).abs() > pl.col("expected") * _RELATIVE for name in _PRICES
    )
    return candles.filter(numbers.select(wrong=pl.col("infilled") & differs).to_series())


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
    times = _aligned(timeframe, candles).select("time", before=pl.col("time").shift(1, fill_value=before.time))
    for time, earlier in times.filter(pl.col("time") - pl.col("before") > step).iter_rows():
        count = (time - earlier) // step - 1
        yield CandleFinding(timeframe, earlier + step, FindingKind.MISSING, count=count)


def _lower(timeframe: Timeframe) -> Timeframe:
    if timeframe.lower is None:
        raise ValueError(f"expected a timeframe above the lowest, got {timeframe.value}")
    return timeframe.lower


def _aligned(timeframe: Timeframe, candles: pl.DataFrame) -> pl.DataFrame:
    """The closed, aligned candles, each open time once: the newest row."""
    closed = candles.filter(pl.col("closed") & (pl.col("time") % timeframe.seconds == 0))
    return closed.unique("time", keep="last", maintain_order=True)


def _named(rows: pl.DataFrame, kind: FindingKind) -> Iterator[tuple[int, str]]:
    for row in rows.iter_rows(named=True):
        if kind in (FindingKind.IMPOSSIBLE, FindingKind.NOT_FLAT):
            detail = ", ".join(f"{name} {number_text(row[name])}" for name in (*_PRICES, "vwap", "volume", "trades"))
        elif kind is FindingKind.INFILLED_TRADES:
            detail = f"trades {row['trades']}, volume {number_text(row['volume'])}"
        else:
            detail = ""
        yield row["time"], detail


def _difference(row: dict[str, float | None]) -> str:
    return ", ".join(
        f"{name} {number_text(row[f'{name}_theirs'])} instead of {number_text(row[name])}"
        for name in (*_PRICES, "volume", "trades")
        if not is_same(name, row[name], row[f"{name}_theirs"])
    )
