"""What an audit of the store finds: stretches of time whose closed candles are missing or incomplete."""

from collections.abc import Iterable
from dataclasses import dataclass

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch of a series without closed candles, or with such as are not `complete`.

    `range` is of whole windows: from the open of the first one to the close of the last one. `incomplete`: the closed
    candles are there, but not every minute of them is known; otherwise they are missing.
    """

    symbol: str
    timeframe: Timeframe
    range: Range
    incomplete: bool


def holes_of(
    timeframe: Timeframe, missing: Iterable[tuple[str, int, int]], incomplete: Iterable[tuple[str, int]]
) -> list[Hole]:
    """The holes of one timeframe, sorted by symbol and time.

    `missing`: symbol, start and end of each stretch (unix seconds). `incomplete`: symbol and open time of each such
    candle, in any order; neighbours become one hole.
    """
    found = [Hole(symbol, timeframe, Range(start, end), incomplete=False) for symbol, start, end in missing]
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
    return sorted(found, key=lambda hole: (hole.symbol, hole.range.start))


def _incomplete(timeframe: Timeframe, stretch: tuple[str, int, int]) -> Hole:
    symbol, start, end = stretch
    return Hole(symbol, timeframe, Range(start, end), incomplete=True)
