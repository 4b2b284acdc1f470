"""The last windows of a symbol that ended while no aggregator ran, from what is retained on the bus and stored."""

from msgspec.structs import replace

from aggregator.core.series import CandleSeries, Depth
from ingress_common.model import Candle, History
from ingress_common.timeframes import TIMEFRAMES, Timeframe

_M1 = Timeframe.M1


class LateEnd:
    """A symbol that ended while no aggregator ran: its retained candles, and the response to its seed request.

    Nobody watched its feed until the end, so every window that was open after the stored candles is `complete` false.
    """

    def __init__(self, symbol: str) -> None:
        self._series = CandleSeries(symbol, Depth(fresh=0))
        self._retained: dict[Timeframe, Candle] = {}
        self._closed: list[Candle] = []

    @property
    def has_response(self) -> bool:
        """Whether history of all timeframes has arrived."""
        return self._series.initialized

    def resume(self, candle: Candle) -> None:
        """Add a candle retained on the bus: the last one that an earlier run published."""
        self._series.resume(candle)
        if not candle.closed:
            self._retained[candle.timeframe] = candle
        if candle.timeframe is _M1:
            self._series.update(candle)

    def history(self, history: History) -> None:
        """Add a batch of history."""
        self._closed += self._series.history(history)

    def last(self, at: float) -> list[Candle]:
        """Returns the closed candles, then the open windows. Only their trades are certain. `at` as in a candle.

        Without a response these are the windows as the retained candles show them.
        """
        series = self._series
        if not series.initialized:
            return [self._unproven(self._retained[t], at) for t in TIMEFRAMES if _traded(self._retained.get(t))]
        closed = self._closed
        # No minute after `at`, which nobody can know.
        newest = max(min(series.newest_minute, _M1.floor(at)), series.clock)
        closed += series.cover(newest, newest, at)
        for timeframe, span in series.gaps():
            closed += series.give_up(timeframe, span, at)
        series.refresh_forming()
        out = [self._at_least_retained(candle) for candle in closed]
        open_windows = {candle.timeframe: candle for candle in series.forming(at) if candle.trades}
        for timeframe, retained in self._retained.items():
            candle = open_windows.get(timeframe)
            if _traded(retained) and (candle is None or candle.open_time < retained.open_time):
                if candle:
                    out.append(self._unproven(replace(candle, closed=True), at))
                open_windows[timeframe] = retained
        out += [self._unproven(self._at_least_retained(open_windows[t]), at) for t in TIMEFRAMES if t in open_windows]
        return out

    def _at_least_retained(self, candle: Candle) -> Candle:
        """`candle`, or the retained state of its window where that has more trades: the store may lack some."""
        retained = self._retained.get(candle.timeframe)
        if retained is None or retained.open_time != candle.open_time or retained.trades <= candle.trades:
            return candle
        return replace(retained, closed=candle.closed, complete=False, revision=candle.revision, at=candle.at)

    @staticmethod
    def _unproven(candle: Candle, at: float) -> Candle:
        return replace(candle, complete=False, at=at)


def _traded(candle: Candle | None) -> bool:
    return candle is not None and candle.trades > 0
