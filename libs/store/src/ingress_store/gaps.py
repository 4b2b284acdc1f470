"""Gaps in the store: ranges whose closed candles are missing or incomplete."""

from collections.abc import Iterable

from ingress_common.gaps import Gap
from ingress_common.model import Range
from ingress_common.timeframes import Timeframe


def gaps_of(
    timeframe: Timeframe, missing: Iterable[tuple[str, int, int]], incomplete: Iterable[tuple[str, int]]
) -> list[Gap]:
    """The gaps of one timeframe, sorted by symbol and time.

    `missing`: symbol, start and end of each range (unix seconds). `incomplete`: symbol and open time of each such
    candle, in any order; neighbours are merged.
    """
    found = [Gap(symbol, timeframe, Range(start, end), incomplete=False) for symbol, start, end in missing]
    stretch: tuple[str, int, int] | None = None
    for symbol, open_time in sorted(incomplete):
        close_time = open_time + timeframe.seconds
        if stretch is not None and stretch[0] == symbol and stretch[2] == open_time:
            stretch = (symbol, stretch[1], close_time)
            continue
        if stretch is not None:
            found.append(_incomplete(timeframe, stretch))
        stretch = (symbol, open_time, close_time)
    if stretch is not None:
        found.append(_incomplete(timeframe, stretch))
    return sorted(found, key=lambda gap: (gap.symbol, gap.range.start))


def _incomplete(timeframe: Timeframe, stretch: tuple[str, int, int]) -> Gap:
    symbol, start, end = stretch
    return Gap(symbol, timeframe, Range(start, end), incomplete=True)
