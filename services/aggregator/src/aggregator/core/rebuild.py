"""Candles of windows that a series has forgotten, rebuilt from history that somebody requested."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aggregator.core.coverage import Intervals
from aggregator.core.windows import Window, flat, roll_up, with_state
from ingress_common.model import Candle, History
from ingress_common.timeframes import TIMEFRAMES, Timeframe

M1 = Timeframe.M1

_APART = 8 * 86400.0
"""Seconds: a batch this close to what is kept may share a window with it (a week and a bit)."""


@dataclass(slots=True)
class _Kept:
    """One timeframe: the candles that traded, the known time, and prices at known instants."""

    traded: dict[int, Candle] = field(default_factory=dict)
    known: Intervals = field(default_factory=Intervals)
    prices: dict[float, Candle] = field(default_factory=dict)

    def keep(self, start: float, end: float) -> None:
        """Forget everything outside `[start, end)`."""
        self.known.remove(float("-inf"), start)
        self.known.remove(end, float("inf"))
        self.traded = {window: candle for window, candle in self.traded.items() if start <= window < end}
        self.prices = {instant: candle for instant, candle in self.prices.items() if start <= instant < end}

    def price_before(self, window: int) -> Candle | None:
        """A candle that ends with the last price before `window`, if all the time since that price is known."""
        known_from = self.known.start_of(window)
        if known_from is None:
            return None
        instants = [(float(open_time), c) for open_time, c in self.traded.items() if known_from <= open_time < window]
        instants += [(instant, c) for instant, c in self.prices.items() if known_from <= instant <= window]
        return max(instants, key=lambda item: item[0])[1] if instants else None


class Rebuild:
    """Closed candles of one symbol for windows that its series does not maintain: those before its horizon.

    A batch yields the candles of its own timeframe; minutes also yield every higher window that the known minutes
    cover. Batches may arrive in pieces and in any order. A window that is not completely known, or that did not trade
    and has no earlier price, yields no candle.
    """

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._kept = {timeframe: _Kept() for timeframe in TIMEFRAMES}

    def history(self, history: History, final: float, horizons: Mapping[Timeframe, int]) -> list[Candle]:
        """Add a batch that is final up to `final`. Returns the closed candles that can be built now, lowest timeframe
        first.

        `horizons`: the first window of each timeframe (unix seconds) that the series maintains itself.
        """
        timeframe, start = history.timeframe, history.covers.start
        kept = self._kept[timeframe]
        kept.keep(start - _APART, final + _APART)
        for candle in history.candles:
            if candle.trades == 0:
                kept.prices[max(start, candle.open_time)] = candle
                if start <= candle.open_time:
                    kept.traded.pop(candle.open_time, None)
            elif candle.close_time <= final:
                kept.traded[candle.open_time] = candle
        kept.known.add(start, final)
        out = self._closed(timeframe, start, final, horizons[timeframe], history.at)
        if timeframe is M1:
            for higher in TIMEFRAMES[1:]:
                out += self._rolled_up(higher, start, final, horizons[higher], history.at)
        return out

    def _closed(self, timeframe: Timeframe, start: float, end: float, horizon: int, at: float) -> list[Candle]:
        """The candles of the batch's own timeframe."""
        kept = self._kept[timeframe]
        first = timeframe.ceil(start)
        price = kept.price_before(first)
        out = []
        for window in range(first, min(timeframe.floor(end), horizon), timeframe.seconds):
            traded = kept.traded.get(window)
            price = traded or kept.prices.get(window) or price
            if traded:
                at_last = max(at, traded.at)
                out.append(with_state(traded, closed=True, complete=True, revision=0, at=at_last))
            elif price:
                out.append(self._flat(timeframe, window, price, at))
        return out

    def _rolled_up(self, timeframe: Timeframe, start: float, end: float, horizon: int, at: float) -> list[Candle]:
        """The candles of a higher timeframe over the batch whose minutes are all known."""
        minutes = self._kept[M1]
        out = []
        for window in range(timeframe.floor(start), min(timeframe.ceil(end), horizon), timeframe.seconds):
            stop = window + timeframe.seconds
            if not minutes.known.covers(window, stop):
                continue
            traded = [c for minute in range(window, stop, M1.seconds) if (c := minutes.traded.get(minute))]
            at_last = max((candle.at for candle in traded), default=at)
            rolled_up = roll_up(self._symbol, timeframe, window, map(Window, traded), max(at, at_last))
            if rolled_up and rolled_up.traded:
                out.append(rolled_up.traded)
            elif price := minutes.price_before(stop):
                out.append(self._flat(timeframe, window, price, at))
        return out

    def _flat(self, timeframe: Timeframe, window: int, price: Candle, at: float) -> Candle:
        return flat(self._symbol, timeframe, window, price, closed=True, complete=True, at=max(at, price.at))
