"""Gaps that were found, and the windows of a series that the store lacks."""

from dataclasses import dataclass
from enum import StrEnum

from ingress_common.gaps import Gap
from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from ingress_store import CandleStore

ARRIVAL_SECONDS = 60.0
"""Maximum time of a closed candle's way to the store; afterwards it counts as missing."""

_PAGE = 5_000


class GapSource(StrEnum):
    """How a gap was found: by the audit, by an aggregator, or by a request over HTTP."""

    STORE = "store"
    AGGREGATOR = "aggregator"
    REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundGap(Gap):
    """A gap in the store, with its `source` and when it was found (`found_at`, unix seconds)."""

    source: GapSource
    found_at: float


def overlap(one: Range, other: Range) -> bool:
    """Whether two ranges have time in common."""
    return one.start < other.end and other.start < one.end


async def missing_windows(store: CandleStore, symbol: str, timeframe: Timeframe, span: Range) -> list[Range]:
    """The windows of `span` without a closed and complete candle, neighbours joined, oldest first.

    StoreUnavailableError if the store does not answer.
    """
    missing: list[Range] = []
    expected = cursor = float(timeframe.floor(span.start))
    end = float(timeframe.ceil(span.end))
    while cursor < end:
        page = await store.candles(symbol, timeframe, start=cursor, end=end, limit=_PAGE)
        for candle in page:
            if candle.complete:
                _extend(missing, expected, candle.open_time)
                expected = float(candle.close_time)
        if len(page) < _PAGE:
            break
        cursor = float(page[-1].close_time)
    _extend(missing, expected, end)
    return missing


def _extend(ranges: list[Range], start: float, end: float) -> None:
    if start >= end:
        return
    if ranges and ranges[-1].end == start:
        ranges[-1] = Range(ranges[-1].start, end)
    else:
        ranges.append(Range(start, end))
