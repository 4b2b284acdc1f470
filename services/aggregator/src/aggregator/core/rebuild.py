"""Candles of times that a book has forgotten, rebuilt from history that somebody asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aggregator.core.bars import Bar, candle_of, roll_up
from aggregator.core.coverage import Intervals
from ingress_common.model import Candle, History
from ingress_common.timeframes import TIMEFRAMES, Timeframe

M1 = Timeframe.M1

_APART = 8 * 86400.0
"""Seconds that a batch may be away from what is kept for the two to have a window in common: a week and a bit."""


@dataclass(slots=True)
class _Level:
    """What is known of one timeframe: what traded, which time is known, and prices at known moments."""

    bars: dict[int, Bar] = field(default_factory=dict)
    known: Intervals = field(default_factory=Intervals)
    prices: dict[float, Bar] = field(default_factory=dict)

    def keep(self, start: float, end: float) -> None:
        """Forget what is not in `[start, end)`."""
        self.known.remove(float("-inf"), start)
        self.known.remove(end, float("inf"))
        self.bars = {window: bar for window, bar in self.bars.items() if start <= window < end}
        self.prices = {instant: bar for instant, bar in self.prices.items() if start <= instant < end}

    def price_before(self, window: int) -> Bar | None:
        """A bar that ends with the last price before `window`, if all the time since that price is known."""
        known_from = self.known.start_of(window)
        if known_from is None:
            return None
        moments = [(float(traded), bar) for traded, bar in self.bars.items() if known_from <= traded < window]
        moments += [(instant, bar) for instant, bar in self.prices.items() if known_from <= instant <= window]
        return max(moments, key=lambda moment: moment[0])[1] if moments else None


class Rebuild:
    """Closed candles of one symbol for windows that its book does not look after: those before its horizon.

    A batch gives the candles of its own timeframe; minutes also those of every higher window that the minutes known so
    far cover entirely. Batches may come in pieces, and in any order. Nothing is told about a window that is not known
    whole, or that has no price to be flat at.
    """

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._levels = {timeframe: _Level() for timeframe in TIMEFRAMES}

    def history(self, history: History, final: float, horizons: Mapping[Timeframe, int]) -> list[Candle]:
        """Take a batch that is final up to `final`; gives the closed candles that can be told now.

        `horizons`: the first window of each timeframe (unix seconds) that the book looks after itself. The lowest
        timeframe comes first.
        """
        timeframe, start = history.timeframe, history.covers.start
        level = self._levels[timeframe]
        level.keep(start - _APART, final + _APART)
        for candle in history.candles:
            if candle.trades == 0:
                level.prices[max(start, candle.open_time)] = Bar.of(candle)
                if start <= candle.open_time:
                    level.bars.pop(candle.open_time, None)
            elif candle.close_time <= final:
                level.bars[candle.open_time] = Bar.of(candle)
        level.known.add(start, final)
        out = self._closed(timeframe, start, final, horizons[timeframe], history.at)
        if timeframe is M1:
            for higher in TIMEFRAMES[1:]:
                out += self._rolled_up(higher, start, final, horizons[higher], history.at)
        return out

    def _closed(self, timeframe: Timeframe, start: float, end: float, horizon: int, at: float) -> list[Candle]:
        """The candles of the batch's own timeframe."""
        level = self._levels[timeframe]
        first = timeframe.ceil(start)
        windows = range(first, min(timeframe.floor(end), horizon), timeframe.seconds)
        price = level.price_before(first)
        out = []
        for window in windows:
            bar = level.bars.get(window)
            price = bar or level.prices.get(window) or price
            if price is not None:
                out.append(self._candle(timeframe, window, bar or price.flat(), at))
        return out

    def _rolled_up(self, timeframe: Timeframe, start: float, end: float, horizon: int, at: float) -> list[Candle]:
        """The candles of a higher timeframe over the batch, where all of their minutes are known."""
        minutes = self._levels[M1]
        out = []
        for window in range(timeframe.floor(start), min(timeframe.ceil(end), horizon), timeframe.seconds):
            stop = window + timeframe.seconds
            if not minutes.known.covers(window, stop):
                continue
            bar = roll_up(minutes.bars[m] for m in range(window, stop, M1.seconds) if m in minutes.bars)
            if bar is None and (price := minutes.price_before(stop)):
                bar = price.flat()
            if bar is not None:
                out.append(self._candle(timeframe, window, bar, at))
        return out

    def _candle(self, timeframe: Timeframe, window: int, bar: Bar, at: float) -> Candle:
        return candle_of(self._symbol, timeframe, window, bar, closed=True, complete=True, at=max(at, bar.at))
