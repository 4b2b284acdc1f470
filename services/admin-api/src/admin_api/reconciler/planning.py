"""Plans the history requests that fill gaps. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from ingress_common.gaps import Gap
from ingress_common.model import Range
from ingress_common.timeframes import Timeframe

DAY = 86400

MINUTES_OF_A_ROLL_UP = 11 * 3600
"""Minutes older than this many seconds are requested in whole hours. An aggregator remembers 12 h of minutes; older
ones it rolls up from a batch alone, into the windows that the batch covers entirely.
"""

OHLC_ROWS = 710
"""Rows of a timeframe that Kraken's OHLC contains for certain; it has up to 720."""

_PIECE_WINDOWS = 200
_APART_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Planned:
    """A planned history request: candles of `timeframe` in [`start`, `end`) (unix seconds)."""

    symbol: str
    timeframe: Timeframe
    start: int
    end: int

    @property
    def range(self) -> Range:
        """The requested time."""
        return Range(self.start, self.end)


def piece_seconds(timeframe: Timeframe) -> int:
    """The longest range of `timeframe` in one request: a day, or 200 windows of a long timeframe."""
    return DAY if timeframe.seconds < Timeframe.H4.seconds else _PIECE_WINDOWS * timeframe.seconds


def pieces(span: Range, timeframe: Timeframe) -> list[Range]:
    """`span`, widened to whole windows, in pieces that fit one request each, oldest first.

    The cuts do not depend on the span, so a gap that is found again is cut in the same places.
    """
    length = piece_seconds(timeframe)
    start, end = timeframe.floor(span.start), timeframe.ceil(span.end)
    cuts = [start, *range((start // length + 1) * length, end, length), end]
    return [Range(first, last) for first, last in pairwise(cuts) if first < last]


def plan_requests(gaps: Iterable[Gap], now: float) -> list[Planned]:
    """The requests that fill `gaps` at `now` (unix seconds): lowest timeframe first, in each the newest first.

    Neighbours share a request. Beyond the reach of OHLC, timeframes up to 1h are rolled up from minutes.
    """
    wanted: dict[tuple[str, Timeframe], list[Range]] = {}
    for gap in gaps:
        for piece in pieces(gap.range, gap.timeframe):
            timeframe, spans = _requested_as(gap.timeframe, piece, now)
            wanted.setdefault((gap.symbol, timeframe), []).extend(spans)
    planned = [
        Planned(symbol, timeframe, int(span.start), int(span.end))
        for (symbol, timeframe), spans in wanted.items()
        for span in _together(spans, timeframe)
    ]
    return sorted(planned, key=lambda one: (one.timeframe.seconds, -one.start, one.symbol))


def is_rolled_up(gap: Gap, now: float) -> bool:
    """Whether an aggregator rolls up the candles of `gap` on its own once it has their minutes."""
    if gap.timeframe is Timeframe.M1:
        return False
    return gap.timeframe.seconds <= Timeframe.H1.seconds or gap.range.start >= _hours_before(now)


def _requested_as(timeframe: Timeframe, piece: Range, now: float) -> tuple[Timeframe, list[Range]]:
    if timeframe is Timeframe.M1:
        return timeframe, _minutes(piece, now)
    if timeframe.seconds <= Timeframe.H1.seconds and piece.start < now - OHLC_ROWS * timeframe.seconds:
        return Timeframe.M1, _minutes(piece, now)
    return timeframe, [piece]


def _minutes(piece: Range, now: float) -> list[Range]:
    """The minutes of `piece`: older ones in whole hours, newer ones exactly."""
    edge = _hours_before(now)
    if piece.start >= edge:
        return [piece]
    hours = Range(Timeframe.H1.floor(piece.start), min(Timeframe.H1.ceil(piece.end), edge))
    return [hours] if piece.end <= edge else [hours, Range(edge, piece.end)]


def _hours_before(now: float) -> int:
    return Timeframe.H1.ceil(now - MINUTES_OF_A_ROLL_UP)


def _together(spans: list[Range], timeframe: Timeframe) -> list[Range]:
    """`spans` with neighbours joined, each within one piece."""
    length = piece_seconds(timeframe)
    apart = max(_APART_SECONDS, timeframe.seconds)
    joined: list[Range] = []
    for span in sorted(spans, key=lambda span: span.start):
        last = joined[-1] if joined else None
        same_piece = last is not None and last.start // length == (max(last.end, span.end) - 1) // length
        if last is not None and same_piece and span.start - last.end <= apart:
            joined[-1] = Range(last.start, max(last.end, span.end))
        else:
            joined.append(span)
    return joined
