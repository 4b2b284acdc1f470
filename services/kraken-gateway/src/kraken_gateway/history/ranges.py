"""Ranges of time that wait to be answered. Pure."""

from collections.abc import Iterable

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from kraken_gateway.history.bounds import longest

LIMIT = 32
"""Ranges kept apart for one symbol and timeframe; beyond that, neighbours are asked for together."""

_NEAR = 60


def aligned(span: Range, timeframe: Timeframe) -> Range:
    """`span` widened to whole candles of `timeframe`."""
    return Range(timeframe.floor(span.start), timeframe.ceil(span.end))


def merged(ranges: Iterable[Range], timeframe: Timeframe) -> list[Range]:
    """The same time in few ranges, oldest first: those closer than some candles become one, and so do the nearest
    beyond LIMIT.

    None gets longer than a request may be, so that one long wish does not become endless; more than LIMIT remain only
    where that forbids to join them.
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
    """Whether two neighbours, the earlier one first, may be asked for as one."""
    return max(first.end, second.end) - first.start <= longest(timeframe)
