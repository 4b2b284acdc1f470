"""`crypto-ingress verify`: checks stored candles, and compares them with Kraken's, piece by piece."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from crypto_ingress.history.candle_checks import (
    Before,
    CandleFinding,
    FindingKind,
    after,
    check_ends,
    check_roll_up,
    check_series,
    newest_last,
    windows_over_unusable,
    without_doubles,
)
from crypto_ingress.history.compare import THE_STORE, beside, counted_twice, differences
from crypto_ingress.history.fixing import correction, row_of
from crypto_ingress.history.stored import stored_candles
from crypto_ingress.history.written import write_confirmed
from ingress_common.model import Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_store import CandleStore, Retention

_LISTED = 10
_SPAN = 20 * Timeframe.W1.seconds

KrakenCandles = Callable[[str, Timeframe], Awaitable[pl.DataFrame]]
"""Returns Kraken's last closed candles of a symbol and timeframe, in the columns of the store."""


_Bounds = Mapping[Timeframe, tuple[int, int] | None]
"""The open times (unix seconds) of the oldest and the newest candle of each series; None for an empty one."""


@dataclass(slots=True)
class SymbolFindings:
    """The findings about one symbol: all counted, the first 10 of each kind kept.

    `left`: windows that are not rebuilt, because a candle below them is wrong and stays so. `twice`: the side that
    counts trades twice.
    """

    symbol: str
    candles: Counter[Timeframe] = field(default_factory=Counter)
    counts: Counter[tuple[Timeframe, FindingKind]] = field(default_factory=Counter)
    kept: dict[tuple[Timeframe, FindingKind], list[CandleFinding]] = field(default_factory=dict)
    fixed: int = 0
    left: Counter[Timeframe] = field(default_factory=Counter)
    twice: dict[Timeframe, str] = field(default_factory=dict)

    def note(self, findings: Sequence[CandleFinding]) -> None:
        """Count all findings and keep the first ones."""
        for finding in findings:
            key = finding.timeframe, finding.kind
            self.counts[key] += finding.count
            kept = self.kept.setdefault(key, [])
            if len(kept) < _LISTED:
                kept.append(finding)

    @property
    def total(self) -> int:
        """Number of wrong windows."""
        return sum(self.counts.values()) + len(self.twice)


class Verifier:
    """Verifies the candles of a symbol, 20 weeks at a time.

    `kraken_candles`: source of Kraken's last candles to compare with; None: no comparison. `fix`: correct wrong candles
    from lower timeframes or Kraken's candles. `start`, `end`: limits (unix seconds), extended to whole weeks.
    `retention`: candles older than that need not be stored; default: all must be. `clock`: unix seconds.
    """

    def __init__(
        self,
        store: CandleStore,
        clock: Callable[[], float],
        kraken_candles: KrakenCandles | None,
        *,
        fix: bool,
        start: int | None = None,
        end: int | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._kraken_candles = kraken_candles
        self._fix = fix
        self._start = start
        self._end = end
        self._retention = retention

    async def run(self, symbol: str) -> SymbolFindings:
        """Verify one symbol. Raises StoreUnavailableError and what `kraken_candles` raises."""
        report = SymbolFindings(symbol)
        if self._kraken_candles is not None:
            for timeframe in TIMEFRAMES:
                await self._compare(symbol, timeframe, report)
        bounds = {timeframe: await self._store.series(symbol, timeframe).bounds() for timeframe in TIMEFRAMES}
        span = self._range(bounds)
        if span is not None:
            before = self._before(bounds, span[0])
            for start in range(Timeframe.W1.floor(span[0]), span[1], _SPAN):
                await self._piece(symbol, max(start, span[0]), min(start + _SPAN, span[1]), before, report)
            report.note(check_ends(before, self._clock()))
        return report

    def _before(self, bounds: _Bounds, start: int) -> dict[Timeframe, Before]:
        """What comes before the first piece: for an empty series the time from which its candles are missing."""
        before = dict.fromkeys(TIMEFRAMES, Before())
        for timeframe in TIMEFRAMES[1:]:
            lower, higher = timeframe.lower, bounds[timeframe]
            if lower is None or bounds[lower] is not None or higher is None:
                continue
            # The first higher window may begin before the first price is known, but ends after it.
            first = max(start, higher[0] + timeframe.seconds - lower.seconds)
            kept = None if self._retention is None else self._retention.candles[lower]
            if kept is not None:
                first = max(first, lower.ceil(self._clock() - kept))
            before[lower] = Before(lower.floor(first) - lower.seconds)
        return before

    def _range(self, bounds: _Bounds) -> tuple[int, int] | None:
        known = [pair for pair in bounds.values() if pair is not None]
        if not known:
            return None
        start = Timeframe.W1.floor(min(first for first, _ in known))
        # A forming candle may be newer than the newest closed one.
        end = Timeframe.W1.ceil(max(last for _, last in known) + 1) + Timeframe.W1.seconds
        if self._start is not None:
            start = max(start, Timeframe.W1.floor(self._start))
        if self._end is not None:
            end = min(end, Timeframe.W1.ceil(self._end))
        return start, end

    async def _piece(
        self, symbol: str, start: int, end: int, before: dict[Timeframe, Before], report: SymbolFindings
    ) -> None:
        children: pl.DataFrame | None = None
        for timeframe in TIMEFRAMES:
            series = self._store.series(symbol, timeframe)
            candles = newest_last(await stored_candles(series, start, end))
            report.candles[timeframe] += candles.height
            now = self._clock()
            findings = await asyncio.to_thread(check_series, timeframe, candles, before[timeframe], now)
            rebuild: list[int] = []
            left: set[int] = set()
            if children is not None:
                left = windows_over_unusable(timeframe, children) if self._fix else left
                wrong, rebuild = await asyncio.to_thread(check_roll_up, timeframe, candles, children, now)
                findings = without_doubles([*findings, *wrong])
            report.note(findings)
            report.left[timeframe] += len(left)
            if self._fix and (findings or rebuild):
                corrected = correction(timeframe, candles, before[timeframe], children, findings, rebuild, left, now)
                await series.delete(corrected.removed)
                report.fixed += await write_confirmed(series, corrected.rows) + len(set(corrected.removed))
                candles = newest_last(await stored_candles(series, start, end))
            before[timeframe] = after(candles, timeframe, before[timeframe], now)
            children = candles

    async def _compare(self, symbol: str, timeframe: Timeframe, report: SymbolFindings) -> None:
        """Compare Kraken's last candles with the stored ones of the same windows."""
        assert self._kraken_candles is not None  # noqa: S101 - the caller has checked
        series = self._store.series(symbol, timeframe)
        bounds = await series.bounds()
        if bounds is None:
            return
        theirs = await self._kraken_candles(symbol, timeframe)
        # Candles before and after the stored ones are no errors.
        theirs = theirs.filter((pl.col("time") >= bounds[0]) & (pl.col("time") <= bounds[1]))
        if not theirs.height:
            return
        start, end = theirs["time"][0], theirs["time"][-1] + timeframe.seconds
        stored = newest_last(await stored_candles(series, start, end))
        rows = beside(theirs, stored.filter("closed").unique("time", keep="last", maintain_order=True))
        rows = rows.filter(pl.col("trades").is_not_null())
        twice = counted_twice(rows, "Kraken", THE_STORE)
        if twice is not None:
            report.twice[timeframe] = twice
            return
        found = differences(rows, "Kraken", THE_STORE, rows.height)
        report.note([CandleFinding(timeframe, each.time, FindingKind.NOT_KRAKENS, each.what) for each in found])
        if self._fix and found:
            wrong = {each.time for each in found}
            there = {row["time"]: row for row in stored.iter_rows(named=True)}
            now = self._clock()
            corrected = [
                row_of(row["time"], row, row["trades"], Source.REST, there.get(row["time"]), now)
                for row in theirs.iter_rows(named=True)
                if row["time"] in wrong
            ]
            report.fixed += await write_confirmed(series, corrected)


def findings_lines(report: SymbolFindings) -> Iterator[str]:
    """The report as lines of text."""
    counted = ", ".join(f"{report.candles[t]:,} of {t.value}" for t in TIMEFRAMES if report.candles[t])
    yield f"{report.symbol}: {counted or 'no candles'}: {report.total:,} wrong" + (
        f", {report.fixed:,} candles fixed" if report.fixed else ""
    )
    for timeframe, side in report.twice.items():
        yield f"  {timeframe.value}: {side} counts one trade in every 1,000 twice (1000/999 of the other side's trades)"
    for (timeframe, kind), count in sorted(report.counts.items(), key=lambda item: TIMEFRAMES.index(item[0][0])):
        yield f"  {timeframe.value} {kind.value}: {count:,}"
        kept = report.kept[timeframe, kind]
        for finding in kept:
            until = ""
            if finding.count > 1:
                until = f" to {rfc3339(finding.time + (finding.count - 1) * timeframe.seconds)}"
            yield f"    {rfc3339(finding.time)}{until}" + (f": {finding.detail}" if finding.detail else "")
        if len(kept) == _LISTED and count > sum(finding.count for finding in kept):
            yield "    ..."
    left = ", ".join(f"{report.left[t]:,} of {t.value}" for t in TIMEFRAMES if report.left[t])
    if left:
        yield f"  left as they are, because a candle of the lower timeframe is wrong and cannot be corrected: {left}"
    if report.counts[Timeframe.M1, FindingKind.MISSING] and not report.fixed:
        yield "  fill missing minutes: crypto-ingress backfill, or import Kraken's archive"
