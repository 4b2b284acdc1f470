"""Whether the bus brings candles of every timeframe."""

from ingress_common.model import Candle
from ingress_common.timeframes import Timeframe
from ingress_common.unshown import UnshownTrades

_LIMIT_SECONDS = 8.0
_M1 = Timeframe.M1
_NOTHING = (0, 0)


class Arrivals:
    """Compares what arrives of the timeframes: after a forming 1m candle with new trades, candles of all others.

    Closed candles are numbered, so their losses show. But a long timeframe closes seldom, and a right to read that this
    writer lacks should show before. Times are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._unshown = UnshownTrades()
        self._minutes: dict[str, tuple[int, int]] = {}

    def take(self, candle: Candle, now: float, *, retained: bool) -> None:
        """A candle has arrived."""
        if candle.timeframe is _M1 and not (candle.closed or retained) and candle.trades:
            minute = candle.open_time, candle.trades
            if minute > self._minutes.get(candle.symbol, _NOTHING):
                self._minutes[candle.symbol] = minute
                self._unshown.shown_by_a_minute(now)
        self._unshown.arrived(candle.timeframe)

    def interrupted(self) -> None:
        """Nothing was received for a while: candles may have been lost, or wait behind others."""
        self._unshown.clear()

    def problem(self, now: float) -> str:
        """What does not arrive; empty if everything does."""
        return self._unshown.problem(now, _LIMIT_SECONDS)
