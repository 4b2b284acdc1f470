"""Ranges of time that wait to be answered. Pure."""

from collections.abc import Iterable

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe

LIMIT = 32
"""Ranges kept apart for one symbol and timeframe; beyond that, neighbours are asked for together."""

_NEAR = 60


def aligned(span: Range, timeframe: Timeframe) -> Range:
    """`span` widened to whole candles of `timeframe`."""
    return Range(timeframe.floor(span.start), timeframe.ceil(span.end))


def merged(ranges: Iterable[Range], timeframe: Timeframe) -> list[Range]:
    """The same time in few ranges, oldest first: those closer than some candles become one, and so do the nearest
    beyond LIMIT.
    """
    result: list[Range] = []
    for span in sorted(ranges, key=lambda span: span.start):
        if result and span.start - result[-1].end <= _NEAR * timeframe.seconds:
            result[-1] = Range(result[-1].start, max(result[-1].end, span.end))
        else:
            result.append(span)
    while len(result) > LIMIT:
        closest = min(range(len(result) - 1), key=lambda i: result[i + 1].start - result[i].end)
        result[closest : closest + 2] = [Range(result[closest].start, result[closest + 1].end)]
    return result
