"""An archive of 1m candles rolled up by the aggregator's own core: what `history.rollup` must equal."""

from collections.abc import Iterable, Iterator

from aggregator.core import CandleSeries, Depth
from ingress_common.model import Candle, History, Range, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe

_DAY = Timeframe.D1


def roll_up_archive(symbol: str, minutes: Iterable[Candle]) -> Iterator[Candle]:
    """All closed candles of all timeframes, given the 1m candles that traded, oldest first.

    The archive is the whole truth: what is not in it did not trade. Candles begin with the interval of the first row
    and end with that of the last, in each timeframe.
    """
    series = CandleSeries(symbol, Depth(fresh=None))
    for timeframe in TIMEFRAMES[1:]:
        # Higher timeframes are known only from the minutes.
        series.history(History(symbol, timeframe, Source.ARCHIVE, Range(0, 0), ()))
    start: int | None = None
    day: list[Candle] = []
    for minute in minutes:
        if start is None:
            start = Timeframe.W1.floor(minute.open_time)
        if day and _DAY.floor(day[-1].open_time) != _DAY.floor(minute.open_time):
            end = _DAY.floor(day[-1].open_time) + _DAY.seconds
            yield from series.history(_batch(symbol, start, end, day))
            start, day = end, []
        day.append(minute)
    if start is None or not day:
        return
    last = day[-1].open_time
    rest = series.history(_batch(symbol, start, Timeframe.W1.floor(last) + Timeframe.W1.seconds, day))
    yield from (candle for candle in rest if candle.open_time <= last)


def _batch(symbol: str, start: int, end: int, minutes: list[Candle]) -> History:
    return History(symbol, Timeframe.M1, Source.ARCHIVE, Range(start, end), tuple(minutes))
