"""Whether the bus brings candles of every timeframe."""

from ingress_common.model import Candle
from ingress_common.unshown import UnshownTrades

_LIMIT_SECONDS = 8.0
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
        known = self._minutes.get(candle.symbol, _NOTHING)
        if self._unshown.arrived(candle, known, now, retained=retained):
            self._minutes[candle.symbol] = candle.open_time, candle.trades

    def interrupted(self) -> None:
        """Nothing was received for a while: candles may have been lost, or wait behind others."""
        self._unshown.clear()

    def problem(self, now: float) -> str:
        """What does not arrive; empty if everything does."""
        return self._unshown.problem(now, _LIMIT_SECONDS)
