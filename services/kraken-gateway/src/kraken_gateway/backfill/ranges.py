"""Ranges of time: what a request may span, and how waiting ranges are merged. Pure."""

from collections.abc import Iterable

from ingress_common.model import HistoryRequest, Range, SeedRequest
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339

MOST_SYMBOLS = 5_000
"""Symbols in one request; Kraken has about 1,450 pairs."""

MOST_WINDOWS = 5_000
"""Candles above 1m that one request may span, for each symbol."""

MOST_MINUTES = 31 * 1440
"""Minutes that one request may span, for each symbol: about as much as Trades gives of a busy pair in an hour."""

_AHEAD_SECONDS = 86400

LIMIT = 32
"""Ranges kept apart for one symbol and timeframe; beyond that, neighbours are requested together."""

_NEAR = 60


class RequestRefusedError(ValueError):
    """A refused request; the message states what was expected and what was received."""


def longest(timeframe: Timeframe) -> int:
    """Seconds of `timeframe` that one request may span."""
    return (MOST_MINUTES if timeframe is Timeframe.M1 else MOST_WINDOWS) * timeframe.seconds


def check(request: SeedRequest | HistoryRequest, now: float) -> None:
    """RequestRefusedError if `request` spans more than is allowed. `now` in unix seconds."""
    if len(request.symbols) > MOST_SYMBOLS:
        raise RequestRefusedError(f"expected at most {MOST_SYMBOLS} symbols, got {len(request.symbols)}")
    if isinstance(request, SeedRequest):
        return
    span, timeframe = request.range, request.timeframe
    if span.start < 0 or span.end > now + _AHEAD_SECONDS:
        raise RequestRefusedError(
            f"expected a range from 1970 to a day from now, got {rfc3339(span.start)} to {rfc3339(span.end)}"
        )
    if span.end - span.start > longest(timeframe):
        raise RequestRefusedError(
            f"expected at most {longest(timeframe) // timeframe.seconds} candles of {timeframe.value} at once, "
            f"got a range of {(span.end - span.start) / timeframe.seconds:.0f}"
        )


def aligned(span: Range, timeframe: Timeframe) -> Range:
    """`span` widened to whole candles of `timeframe`."""
    return Range(timeframe.floor(span.start), timeframe.ceil(span.end))


def merged(ranges: Iterable[Range], timeframe: Timeframe) -> list[Range]:
    """The same time in few ranges, oldest first: ranges a few candles apart are joined, and beyond LIMIT the nearest
    ones.

    No range becomes longer than a request may be; more than LIMIT ranges remain only where that forbids to join them.
    """
    result: list[Range] = []
    for span in sorted(ranges, key=lambda span: span.start):
        if not result or span.start - result[-1].end > _NEAR * timeframe.seconds:
            result.append(span)
        elif _joined(result[-1], span, timeframe):
            result[-1] = Range(result[-1].start, max(result[-1].end, span.end))
        elif span.end > result[-1].end:
            result.append(Range(max(span.start, result[-1].end), span.end))
    while len(result) > LIMIT:
        joinable = [i for i in range(len(result) - 1) if _joined(result[i], result[i + 1], timeframe)]
        if not joinable:
            break
        closest = min(joinable, key=lambda i: result[i + 1].start - result[i].end)
        result[closest : closest + 2] = [Range(result[closest].start, result[closest + 1].end)]
    return result


def _joined(first: Range, second: Range, timeframe: Timeframe) -> bool:
    """Whether two neighbours, the earlier one first, may be requested as one."""
    return max(first.end, second.end) - first.start <= longest(timeframe)
