"""Whether the bus brings candles of every timeframe and symbol, and the ticks of every symbol."""

from collections.abc import Callable, Container, Iterable

from ingress_common.health import some
from ingress_common.model import Candle, MinuteTrades
from ingress_common.timeframes import Timeframe
from ingress_common.unshown import UnshownSymbols, UnshownTrades

_LIMIT_SECONDS = 8.0
_NOTHING = (0, 0)
_NAMED = 5


class Arrivals:
    """Compares what arrives: after a forming 1m candle with new trades, candles of all other timeframes; after the
    trades that gateways state, 1m candles and ticks of their symbols.

    Closed candles are numbered, so their losses show. But a long timeframe closes seldom, ticks have no number, and a
    right to read that this writer lacks should show before. Times are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._unshown = UnshownTrades()
        self._minutes: dict[str, tuple[int, int]] = {}
        self._unshown_by_minutes = UnshownSymbols()
        self._unshown_by_ticks = UnshownSymbols()
        self._ticks: dict[str, tuple[int, int]] = {}

    def take(self, candle: Candle, now: float, *, retained: bool) -> None:
        """A candle has arrived. A retained one that is not new does not show that the next ones will."""
        known = self._minutes.get(candle.symbol, _NOTHING)
        self._unshown.arrived(candle, known, now, retained=retained)
        if candle.timeframe is Timeframe.M1:
            newest = self._minutes[candle.symbol] = max(known, (candle.open_time, candle.trades))
            if not retained or newest > known:
                self._unshown_by_minutes.shown(candle.symbol)

    def stored(self, ticks: Iterable[Candle]) -> None:
        """The store has taken `ticks`."""
        for tick in ticks:
            self._unshown_by_ticks.shown(tick.symbol)
            self._ticks[tick.symbol] = max(self._ticks.get(tick.symbol, _NOTHING), (tick.open_time, tick.trades))

    def published(self, trades: MinuteTrades, receives: Callable[[str], bool], now: float) -> None:
        """A gateway has published ticks with `trades`; those that this writer `receives` are to be stored here, and
        followed by a 1m candle.

        A symbol without a candle here may not be seeded yet.
        """
        for minute, by_symbol in trades.items():
            for symbol, count in by_symbol.items():
                if not receives(symbol):
                    continue
                if symbol in self._minutes and (minute, count) > self._minutes[symbol]:
                    self._unshown_by_minutes.published(symbol, minute, count, now)
                if (minute, count) > self._ticks.get(symbol, _NOTHING):
                    self._unshown_by_ticks.published(symbol, minute, count, now)

    def interrupted(self) -> None:
        """Nothing was received for a while: messages may have been lost, or wait behind others."""
        self._unshown.clear()
        self._unshown_by_minutes.clear()
        self._unshown_by_ticks.clear()

    def late_symbols(self, symbols: Container[str], now: float) -> list[str]:
        """Those of `symbols` that trade and of which no 1m candle arrives, sorted."""
        return sorted(self._unshown_by_minutes.late(symbols, now, _LIMIT_SECONDS))

    def problem(self, symbols: Container[str], now: float) -> str:
        """What does not arrive of `symbols`, or of a timeframe; empty if everything does."""
        if problem := self._unshown.problem(now, _LIMIT_SECONDS):
            return problem
        for unshown, what, how in (
            (self._unshown_by_minutes, "no 1m candle", "received"),
            (self._unshown_by_ticks, "none", "stored"),
        ):
            if late := unshown.late(symbols, now, _LIMIT_SECONDS):
                names = some(sorted(late), _NAMED)
                return f"gateways publish ticks, but {what} of {names} was {how} for {max(late.values()):.0f} s"
        return ""
