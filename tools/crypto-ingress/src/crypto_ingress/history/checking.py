"""Verification of rolled-up candles against archive files of higher timeframes, which are not imported."""

import asyncio
from collections.abc import Iterator

import polars as pl

from crypto_ingress.history.candle_checks import newest
from crypto_ingress.history.compare import THE_FILE, THE_STORE, CandleDifference, beside, counted_twice, differences
from crypto_ingress.history.exporting import Span
from crypto_ingress.history.files import ArchiveFile, FileProblem
from crypto_ingress.history.reading import Block, sorted_blocks
from crypto_ingress.history.stored import stored_candles
from crypto_ingress.history.weeks import joined
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import BulkSeries

_LISTED = 20
_AT_ONCE = 50_000  # candles

BY_INTERVAL = {timeframe.minutes: timeframe for timeframe in TIMEFRAMES}
"""Timeframes by their length in minutes."""


class FileCheck:
    """Compares a file of one timeframe with candles; reads it piece by piece.

    A file knows nothing of the time before its first and after its last candle, or outside its quarter.
    """

    def __init__(self, file: ArchiveFile, timeframe: Timeframe) -> None:
        self.label = file.label
        self.timeframe = timeframe
        self.compared = 0
        self.differing = 0
        self.differences: list[CandleDifference] = []
        self.problems: list[FileProblem] = []
        self.twice: str | None = None  # the side that counts one trade in every 1,000 twice
        self._file = file
        self._blocks: Iterator[Block] = sorted_blocks(file, timeframe.seconds)
        self._rows: pl.DataFrame | None = None
        self._first: int | None = None
        self._last: int | None = None
        self._given = 0  # rows before this time are read and gone
        self._over = False
        self._restarted = False

    def check(self, candles: pl.DataFrame, start: int, end: int, called: str) -> None:
        """Compare the file with `candles`, all that open in [start, end). `called`: their name in reports.

        Ascending ranges read the file once, each other one reads it once more.
        """
        if start >= end:
            return
        if start < self._given:
            self._restart()
        theirs = self._until(start, end)
        self._given = end
        ours = candles.filter((pl.col("trades") > 0) & (pl.col("time") >= start) & (pl.col("time") < end))
        known = self._known()
        ours = ours.filter((pl.col("time") >= known[0]) & (pl.col("time") < known[1]))
        if theirs is None:
            theirs = ours.clear()
        rows = beside(ours, theirs.select("time", "open", "high", "low", "close", "volume", "trades"))
        self.compared += rows.height
        twice = counted_twice(rows, called, THE_FILE)
        self.twice = twice or self.twice
        found = rows.filter(
            ~pl.col("same") if twice is None else pl.any_horizontal(pl.col("trades", "trades_theirs").is_null())
        )
        self.differing += found.height
        self.differences += differences(found, called, THE_FILE, _LISTED - len(self.differences))

    async def check_store(self, series: BulkSeries, kept: Span | None = None) -> bool:
        """Compare the file with a store's closed candles. Returns False if there are none.

        `kept`: the time of which the store must have all candles of the file; None: from its oldest to its newest one.
        A candle that is newer than the store's oldest one must be there, too.
        """
        bounds = await series.bounds()
        step = self.timeframe.seconds
        if kept is not None:
            first = self.timeframe.ceil(max(self._file.first, kept.start))
            span = Span(first if bounds is None else min(bounds[0], first), self.timeframe.floor(kept.end))
        elif bounds is not None:
            span = Span(bounds[0], bounds[1] + step)
        else:
            return False
        for start in range(self.timeframe.floor(span.start), span.end, _AT_ONCE * step):
            end = min(start + _AT_ONCE * step, span.end)
            stored = newest((await stored_candles(series, start, end)).filter(pl.col("closed")))
            await asyncio.to_thread(self.check, stored, start, end, THE_STORE)
            if self._over and self._known()[1] <= end:
                break  # the file says nothing about the time after it
        return bounds is not None

    def _known(self) -> tuple[int, int]:
        """The half-open range of time (unix seconds) that the file covers, as far as it has been read."""
        quarter = self._file.quarter
        if self._first is None or self._last is None:
            return quarter or (0, 0)
        start, end = self._first, self._last + self.timeframe.seconds
        return (start, end) if quarter is None else (min(start, quarter[0]), max(end, quarter[1]))

    def _restart(self) -> None:
        self._blocks = sorted_blocks(self._file, self.timeframe.seconds)
        self._rows, self._over, self._restarted = None, False, True

    def _until(self, start: int, end: int) -> pl.DataFrame | None:
        """The file's rows that open in [start, end); None if the file has no rows at all."""
        while not self._over and (self._rows is None or not self._rows.height or self._rows["time"][-1] < end):
            block = next(self._blocks, None)
            if block is None:
                self._over = True
                break
            if not self._restarted:
                self.problems += block.problems
            if block.rows.height:
                self._first = block.rows["time"][0] if self._first is None else self._first
                self._last = max(block.rows["time"][-1], self._last or 0)
                self._rows = block.rows if self._rows is None else joined([self._rows, block.rows])
        if self._rows is None:
            return None
        first, last = self._rows["time"].search_sorted(start), self._rows["time"].search_sorted(end)
        found, self._rows = self._rows.slice(first, last - first), self._rows.slice(last)
        return found
