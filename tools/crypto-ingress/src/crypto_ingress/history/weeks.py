"""Splits minutes into whole weeks. Every timeframe nests in a week, so weeks can be processed one by one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from crypto_ingress.history.files import FileProblem
from crypto_ingress.history.numbers import decimal, scale_of
from crypto_ingress.history.reading import PRICES, Block, Unknown
from ingress_common.decimals import plain
from ingress_common.timeframes import Timeframe

WEEKS_AT_ONCE = 20
"""Maximum number of weeks in one piece: 201,600 minutes and 58,000 candles of higher timeframes."""

_WEEK = Timeframe.W1.seconds


@dataclass(frozen=True, slots=True)
class Weeks:
    """The minutes with trades from `start` up to `end` (unix seconds).

    Both are boundaries of weeks, except at the file's first and last minute. `before`: the last close before `start`,
    as text; None in the first piece. `read`: bytes of the file read so far.
    """

    start: int
    end: int
    minutes: pl.DataFrame
    before: str | None
    last: bool
    unknown: tuple[Unknown, ...]
    problems: tuple[FileProblem, ...]
    read: int


def in_weeks(blocks: Iterable[Block]) -> Iterator[Weeks]:
    """The minutes of `blocks` in consecutive pieces of up to `WEEKS_AT_ONCE` weeks.

    A file without a valid row gives one piece without minutes if it has problems, else none.
    """
    waiting = _Waiting()
    for block in blocks:
        waiting.take(block)
        yield from waiting.whole_weeks()
    yield from waiting.rest()


def joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate frames; prices and volumes get the largest scale of all frames."""
    price = decimal(max(scale_of(frame["open"]) for frame in frames))
    volume = decimal(max(scale_of(frame["volume"]) for frame in frames))
    return pl.concat(
        [frame.with_columns(pl.col(PRICES).cast(price), pl.col("volume").cast(volume)) for frame in frames]
    )


class _Waiting:
    """Rows that wait for the end of their week."""

    def __init__(self) -> None:
        self._rows: pl.DataFrame | None = None
        self._start: int | None = None
        self._before: str | None = None
        self._unknown: list[Unknown] = []
        self._problems: list[FileProblem] = []
        self._read = 0

    def take(self, block: Block) -> None:
        self._unknown += block.unknown
        self._problems += block.problems
        self._read = block.read
        if block.rows.height:
            self._rows = block.rows if self._rows is None else joined([self._rows, block.rows])
            if self._start is None:
                self._start = block.rows["time"][0]

    def whole_weeks(self) -> Iterator[Weeks]:
        if self._rows is None:
            return
        newest_week = self._rows["time"][-1] // _WEEK * _WEEK
        while self._start is not None and self._start < newest_week:
            end = min((self._start // _WEEK + WEEKS_AT_ONCE) * _WEEK, newest_week)
            yield self._cut(self._start, end, last=False)

    def rest(self) -> Iterator[Weeks]:
        if self._rows is not None and self._start is not None:
            end = self._rows["time"][-1] + Timeframe.M1.seconds if self._rows.height else self._start
            yield self._cut(self._start, end, last=True)
        elif self._problems:
            yield Weeks(0, 0, pl.DataFrame(), None, True, (), tuple(self._problems), self._read)

    def _cut(self, start: int, end: int, *, last: bool) -> Weeks:
        assert self._rows is not None  # noqa: S101 - a piece is cut only from rows
        count = self._rows["time"].search_sorted(end)
        minutes, self._rows = self._rows.head(count), self._rows.slice(count)
        unknown = tuple((max(a, start), min(b, end)) for a, b in self._unknown if a < end and b > start)
        piece = Weeks(start, end, minutes, self._before, last, unknown, tuple(self._problems), self._read)
        self._problems = []
        self._start = end
        if minutes.height:
            self._before = plain(minutes["close"][-1])
        return piece
