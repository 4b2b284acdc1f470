"""A gap, and the windows of a series that the store lacks."""

from dataclasses import dataclass
from enum import StrEnum

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_store import CandleStore

SETTLE_SECONDS = 60.0
"""Maximum time of a closed candle's way to the store; afterwards it counts as missing."""

_PAGE = 5_000


class GapSource(StrEnum):
    """How a gap was found: by the audit, by an aggregator, or by a request over HTTP."""

    STORE = "store"
    AGGREGATOR = "aggregator"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive windows of a series whose closed candles are missing in the store, or incomplete.

    `incomplete`: the candles are in the store, but some of their minutes are unknown. `found_at` in unix seconds.
    """

    symbol: str
    timeframe: Timeframe
    range: Range
    incomplete: bool
    source: GapSource
    found_at: float

    def __str__(self) -> str:
        """For people."""
        start, end = rfc3339(self.range.start), rfc3339(self.range.end)
        return f"{self.symbol} {self.timeframe.value} from {start} to {end}"

    @property
    def windows(self) -> int:
        """Number of candles."""
        return windows_of(self.range, self.timeframe)


def windows_of(span: Range, timeframe: Timeframe) -> int:
    """Number of candles of `timeframe` in `span`."""
    return round((span.end - span.start) / timeframe.seconds)


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
