"""Import of archive files into the store, some weeks at a time; it can be killed and repeated at any point.

There is no journal: an import reads what the store has and leaves it unchanged. Archive candles are dated at their
close, so live and REST candles are newer and stay (decision 40).
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import polars as pl

from crypto_ingress.history.candle_checks import newest
from crypto_ingress.history.checking import BY_INTERVAL, FileCheck
from crypto_ingress.history.compare import THE_FILE, THE_STORE, beside, counted_twice
from crypto_ingress.history.files import ArchiveFile, FileProblem
from crypto_ingress.history.numbers import TooManyDigitsError
from crypto_ingress.history.reading import sorted_blocks
from crypto_ingress.history.reports import SymbolReport
from crypto_ingress.history.rollup import roll_up
from crypto_ingress.history.stored import expect_numbers, minutes_that_traded, stored_candles, with_numbers
from crypto_ingress.history.trades import trade_blocks
from crypto_ingress.history.weeks import Weeks, in_weeks, joined
from crypto_ingress.history.written import Written
from ingress_common.model import Source
from ingress_common.timeframes import Timeframe
from ingress_store import CandleStore

_MINUTE = Timeframe.M1.seconds
_ROW = (
    "time", "open", "high", "low", "close", "volume", "vwap", "trades", "closed", "infilled", "complete", "revision",
    "source", "at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Edges:
    """Stored minutes before and after a file's, in the file's first and last week.

    `known`: the range in which minutes are known (unix seconds). `absent`: gaps in it.
    """

    minutes: pl.DataFrame | None
    known: tuple[int, int]
    absent: tuple[tuple[int, int], ...]


class Importer:
    """Imports the files of one symbol. `clock`: unix seconds. `progress` gets a file's label, bytes done and size."""

    def __init__(
        self, store: CandleStore, clock: Callable[[], float], progress: Callable[[str, float, float], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._progress = progress

    async def run(self, symbol: str, files: Sequence[ArchiveFile]) -> SymbolReport:
        """Import 1m candles and trades; compare the files of higher timeframes. StoreUnavailableError on failure."""
        report = SymbolReport(symbol, files=len(files))
        minutes = sorted((file for file in files if file.interval in (1, None)), key=lambda file: file.first)
        higher = [file for file in files if file.interval not in (1, None)]
        higher.sort(key=lambda file: file.first)
        report.checks = [FileCheck(f, BY_INTERVAL[f.interval]) for f in higher if f.interval in BY_INTERVAL]
        unused = [file for file in higher if file.interval not in BY_INTERVAL]
        if minutes:
            report.unused = [file.label for file in unused]
        else:
            report.note([_unused(file) for file in unused])
        for file in minutes:
            await self._import(file, report)
        if not minutes:
            await self._compare_with_store(report)
        return report

    async def add(
        self, piece: Weeks, source: Source, received: float, report: SymbolReport, inactive: tuple[int, int] | None
    ) -> None:
        """Add all minutes of a range, just received from Kraken; they are newer than stored ones.

        Only windows whose minutes are all known are written, the minutes last: after a kill before that they
        are absent, so the next run repeats the range. `inactive`: a range without trades before the first known price
        (unix seconds).
        """
        edges = await self._edges(report.symbol, piece, first=True)
        if inactive is not None and inactive[0] < edges.known[0] <= inactive[1]:
            edges = replace(edges, known=(inactive[0], edges.known[1]))
        written = await self._import_piece(piece, edges, source, received, report, received=received)
        await written.confirm()

    async def _import(self, file: ArchiveFile, report: SymbolReport) -> None:
        now = self._clock()
        report.reading = file.label
        reason = await asyncio.to_thread(file.damage)
        if reason is not None:
            report.note([FileProblem(file.label, f"damaged, so any of its rows may be wrong: {reason}; not imported")])
            return
        pieces = in_weeks(sorted_blocks(file, _MINUTE, now) if file.interval == 1 else trade_blocks(file, now))
        source = Source.ARCHIVE if file.interval == 1 else Source.TRADES
        first = True
        before = Written()
        ahead = asyncio.create_task(asyncio.to_thread(_next_piece, pieces))
        try:
            while (piece := await ahead) is not None:
                ahead = asyncio.create_task(asyncio.to_thread(_next_piece, pieces))
                report.note(piece.problems)
                if piece.minutes.width:
                    piece = await self._widened(report.symbol, piece, file, first=first)
                    stored = await self._stored(report.symbol, Timeframe.M1, piece.start, piece.end)
                    if stored is not None:
                        piece = await asyncio.to_thread(_without_doubles, piece, stored, report)
                    edges = await self._edges(report.symbol, piece, first=first)
                    first = False
                    written = await self._import_piece(piece, edges, source, now, report, stored)
                    await before.confirm()
                    before = written
                self._progress(file.label, piece.read, file.size)
        except TooManyDigitsError as error:
            report.note([FileProblem(file.label, str(error))])
        finally:
            ahead.cancel()
        await before.confirm()

    async def _widened(self, symbol: str, piece: Weeks, file: ArchiveFile, *, first: bool) -> Weeks:
        """Extend the first and last piece of a quarter's file to the quarter's ends, because absent minutes had no
        trades.

        The start needs a price, so it is extended only if the minute before is stored.
        """
        quarter = file.quarter
        if quarter is None or quarter[1] > self._clock():
            return piece
        if piece.last and piece.end < quarter[1]:
            piece = replace(piece, end=quarter[1])
        if first and piece.start > quarter[0]:
            series = self._store.series(symbol, Timeframe.M1)
            earlier = expect_numbers((await stored_candles(series, quarter[0] - _MINUTE, quarter[0])).filter("closed"))
            if earlier.height:
                piece = replace(piece, start=quarter[0], before=earlier["close"][0])
        return piece

    async def _import_piece(
        self,
        piece: Weeks,
        edges: _Edges,
        source: Source,
        now: float,
        report: SymbolReport,
        stored: pl.DataFrame | None = None,
        *,
        received: float | None = None,
    ) -> Written:
        """Write the candles of a piece. `stored`: the store's 1m candles in its range, if they are read already."""
        written = Written()
        report.rows += piece.minutes.height
        report.first = piece.start if report.first is None else min(report.first, piece.start)
        report.last = max(report.last or 0, piece.end - _MINUTE)
        report.unknown += sum((end - start) // _MINUTE for start, end in piece.unknown)
        if received is None:
            report.gaps += edges.absent
        rolled_up = await asyncio.to_thread(lambda: list(roll_up(piece, edges.minutes)))
        for timeframe, candles in rolled_up if received is None else reversed(rolled_up):
            step = timeframe.seconds
            over = _rows(candles.filter(pl.col("time") + step <= now), timeframe, source, edges, received)
            rows = over if received is None else _known(over, step, edges)
            theirs = stored if timeframe is Timeframe.M1 else None
            await self._write(timeframe, rows, theirs, edges, report, written)
            for check in report.checks:
                if check.timeframe is timeframe:
                    start, end = timeframe.ceil(piece.start), timeframe.floor(piece.end)
                    await asyncio.to_thread(check.check, candles, start, end, "the minutes")
        return written

    async def _write(
        self,
        timeframe: Timeframe,
        rows: pl.DataFrame,
        stored: pl.DataFrame | None,
        edges: _Edges,
        report: SymbolReport,
        written: Written,
    ) -> None:
        """Write rows that the store lacks or has in an older version; report different rows that are newer there."""
        if not rows.height:
            return
        series = self._store.series(report.symbol, timeframe)
        if stored is None:
            stored = await self._stored(report.symbol, timeframe, rows["time"][0], rows["time"][-1] + timeframe.seconds)
        if stored is not None:
            rows = _newer(rows, stored, timeframe, edges, report)
        report.written[timeframe] += await written.write(series, rows, fresh=stored is None)

    async def _stored(self, symbol: str, timeframe: Timeframe, start: int, end: int) -> pl.DataFrame | None:
        """The stored candles that open in [start, end); None if there are none."""
        series = self._store.series(symbol, timeframe)
        return newest(await stored_candles(series, start, end)) if await series.count(start, end) else None

    async def _edges(self, symbol: str, piece: Weeks, *, first: bool) -> _Edges:
        """The stored minutes outside the file in its first and last week."""
        known = [piece.start, piece.end]
        found: list[pl.DataFrame] = []
        absent: list[tuple[int, int]] = []
        series = self._store.series(symbol, Timeframe.M1)
        ranges = [(Timeframe.W1.floor(piece.start), piece.start)] if first else []
        ranges += [(piece.end, Timeframe.W1.ceil(piece.end))] if piece.last else []
        for start, end in ranges:
            if start >= end or not await series.count(start, end):
                continue
            closed = (await stored_candles(series, start, end)).filter(pl.col("closed"))
            if not closed.height:
                continue
            found.append(minutes_that_traded(closed))
            times = closed["time"]
            known = [min(known[0], times[0]), max(known[1], times[-1] + _MINUTE)]
            absent += _absent(times, piece)
        return _Edges(joined(found) if found else None, (known[0], known[1]), tuple(absent))

    async def _compare_with_store(self, report: SymbolReport) -> None:
        """Compare the files of higher timeframes with the store, because there are no minutes to roll up."""
        for check in report.checks:
            if not await check.check_store(self._store.series(report.symbol, check.timeframe)):
                what = f"candles of {check.timeframe.minutes} minutes are only compared"
                absent = f"the store has no {check.timeframe.value} of {report.symbol}"
                report.note([FileProblem(check.label, f"{what}, and {absent}: expected a file of 1 minute to import")])


def _next_piece(pieces: Iterator[Weeks]) -> Weeks | None:
    return next(pieces, None)


def _unused(file: ArchiveFile) -> FileProblem:
    return FileProblem(file.label, f"candles of {file.interval} minutes have no timeframe here; not used")


def _rows(
    candles: pl.DataFrame, timeframe: Timeframe, source: Source, edges: _Edges, received: float | None
) -> pl.DataFrame:
    """Closed candles as rows of the store. Those of files are dated at their close, because their receipt is unknown.

    A window with absent minutes is not complete.
    """
    step = timeframe.seconds
    traded = (source if timeframe is Timeframe.M1 else Source.ROLLUP).value
    complete = pl.lit(value=True)
    for start, end in edges.absent:
        complete &= (pl.col("time") >= end) | (pl.col("time") + step <= start)
    return candles.with_columns(
        pl.col("open", "high", "low", "close", "volume", "vwap").cast(pl.String),
        closed=pl.lit(value=True),
        complete=complete,
        revision=pl.lit(0, dtype=pl.Int64),
        source=pl.when("infilled").then(pl.lit(Source.INFILL.value)).otherwise(pl.lit(traded)),
        at=(pl.col("time") + step).cast(pl.Float64) if received is None else pl.lit(received),
    ).select(_ROW)


def _known(rows: pl.DataFrame, step: int, edges: _Edges) -> pl.DataFrame:
    """The rows of windows whose minutes are all known."""
    inside = (pl.col("time") >= edges.known[0]) & (pl.col("time") + step <= edges.known[1])
    return rows.filter(inside & pl.col("complete"))


def _newer(
    rows: pl.DataFrame, stored: pl.DataFrame, timeframe: Timeframe, edges: _Edges, report: SymbolReport
) -> pl.DataFrame:
    """Rows that replace stored rows (`ingress_store.ordering`) or complete incomplete ones.

    Different stored rows that stay are reported, except at the edges of the file, where it may know only a part.
    """
    step = timeframe.seconds
    theirs = stored.select(
        "time", "open", "high", "low", "close", "volume", "trades",
        stored_closed="closed", stored_complete="complete", stored_revision="revision", stored_at="at",
    )  # fmt: skip
    both = beside(rows, theirs).filter(pl.col("trades").is_not_null())
    both = both.join(rows.select("time", "complete", "at"), on="time", how="left", maintain_order="left")
    is_closed = pl.col("stored_closed").fill_null(value=False)
    older = is_closed & (pl.col("stored_at") <= pl.col("at"))
    mended = is_closed & ~pl.col("stored_complete") & pl.col("complete")
    both = both.with_columns(
        write=~is_closed | mended | (older & ~pl.col("same")),
        mended=mended,
        replaced=older & ~pl.col("same"),
        edge=(pl.col("time") < edges.known[0]) | (pl.col("time") + step > edges.known[1]) | ~pl.col("complete"),
    )
    kept = both.filter(~pl.col("write") & ~pl.col("same") & ~pl.col("edge"))
    if twice := _twice(both.filter(~pl.col("edge") & ~pl.col("write"))):
        report.count_twice(twice)
    else:
        report.keep(timeframe, kept)
    if timeframe is Timeframe.M1:
        # Rows of one age are of two files. Higher ones also differ where one file knows only a part of the window.
        report.contradict(timeframe, both.filter(pl.col("replaced") & (pl.col("stored_at") == pl.col("at"))))
    report.replaced += both.filter("replaced").height
    report.there += both.filter(~pl.col("write")).height
    changed = pl.col("mended") | pl.col("replaced")
    chosen = both.filter("write").select("time", "stored_revision", "stored_at", changed=changed)
    merged = rows.join(chosen, on="time", how="inner", maintain_order="left")
    revision = pl.col("stored_revision").fill_null(0)
    return merged.with_columns(
        revision=pl.when("changed").then(revision + 1).otherwise(0),
        at=pl.when("changed").then(pl.max_horizontal("at", "stored_at")).otherwise("at"),
    ).select(_ROW)


def _without_doubles(piece: Weeks, stored: pl.DataFrame, report: SymbolReport) -> Weeks:
    """Take the stored minutes where the file counts trades twice, so that no candle over them changes."""
    theirs = minutes_that_traded(with_numbers(stored.filter("complete")))
    both = beside(piece.minutes, theirs.drop("vwap").join(stored.select("time", stored_at="at"), on="time"))
    both = both.filter(pl.col("trades").is_not_null() & pl.col("trades_theirs").is_not_null())
    if _twice(both.filter("same_prices")) == THE_FILE:
        report.count_twice(THE_FILE)
    elif report.reading not in report.twice:
        if not _may_count_twice(both.filter(pl.col("stored_at") <= pl.col("time") + _MINUTE)):
            return piece
        report.keep(Timeframe.M1, both.filter(~pl.col("same")))
    others = piece.minutes.join(theirs, on="time", how="anti")
    return replace(piece, minutes=joined([others, theirs]).sort("time"))


def _twice(rows: pl.DataFrame) -> str | None:
    """The side that counts one trade in every 1,000 twice, by the rows of `beside` that both sides have."""
    return counted_twice(rows, THE_FILE, THE_STORE)


def _may_count_twice(rows: pl.DataFrame) -> bool:
    """Whether the file differs from the store only as a file that counts one trade in 1,000 twice would."""
    no_less = (pl.col("trades") >= pl.col("trades_theirs")) & (pl.col("volume") >= pl.col("volume_theirs"))
    fits, trades, theirs = rows.select(
        (pl.col("same") | (pl.col("same_prices") & no_less)).all(),
        pl.col("trades").sum(),
        pl.col("trades_theirs").sum(),
    ).row(0)
    return bool(fits and trades > theirs and abs(trades - theirs - theirs / 999) <= 1)


def _absent(times: pl.Series, piece: Weeks) -> list[tuple[int, int]]:
    """The gaps between stored minutes outside of a piece, and between them and the piece."""
    ends = [*((time, time + _MINUTE) for time in times), (piece.start, piece.end)]
    ends.sort()
    return [(a[1], b[0]) for a, b in pairwise(ends) if b[0] > a[1]]
