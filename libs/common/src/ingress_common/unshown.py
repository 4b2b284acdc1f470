"""Trades that nothing shows: what should have been published or stored was not."""

from collections.abc import Container
from typing import Protocol

from ingress_common.timeframes import TIMEFRAMES, Timeframe

_MINUTES, *_HIGHER = TIMEFRAMES


class _Arrived(Protocol):
    """What counts of a candle, as in `ingress_common.model.Candle`."""

    @property
    def timeframe(self) -> Timeframe: ...

    @property
    def open_time(self) -> int: ...

    @property
    def trades(self) -> int: ...

    @property
    def closed(self) -> bool: ...


class UnshownTrades:
    """Since when trades are known and no candle of a timeframe has arrived, of any symbol.

    Forming candles of the higher timeframes follow a 1m candle with new trades within about a second. One of another
    symbol counts too, because the bus may lose forming candles (QoS 0). Times are those of the caller, in seconds.
    """

    def __init__(self) -> None:
        self._since: dict[Timeframe, float] = {}

    def published(self, now: float) -> None:
        """Gateways have published trades: a 1m candle follows."""
        self._since.setdefault(_MINUTES, now)

    def arrived(self, candle: _Arrived, known: tuple[int, int], now: float, *, retained: bool) -> None:
        """A candle has arrived. If it is a forming 1m candle with new trades, the others follow.

        `known`: open time and trades of its symbol's newest minute before. A retained candle has been followed already.
        """
        timeframe = candle.timeframe
        self._since.pop(timeframe, None)
        if timeframe is not _MINUTES or candle.closed or retained or not candle.trades:
            return
        if (candle.open_time, candle.trades) > known:
            for higher in _HIGHER:
                self._since.setdefault(higher, now)

    def clear(self) -> None:
        """Forget all: candles may have been lost with a connection."""
        self._since.clear()

    def problem(self, now: float, limit: float) -> str:
        """The timeframes of which no candle has arrived for more than `limit` seconds; empty if there are none."""
        late = {timeframe: now - since for timeframe, since in self._since.items() if now - since > limit}
        if not late:
            return ""
        names = ", ".join(timeframe.value for timeframe in TIMEFRAMES if timeframe in late)
        return f"no candle of {names} was received for {max(late.values()):.0f} s"


class UnshownSymbols:
    """Since when gateways have gone on publishing trades of a symbol that nothing has shown.

    It counts from the second such trade: the bus may have lost what showed the first one (QoS 0). Times are those of
    the caller, in seconds.
    """

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, int]] = {}
        self._since: dict[str, float] = {}

    def published(self, symbol: str, open_time: int, trades: int, now: float) -> None:
        """Gateways have published `trades` trades of the minute at `open_time`, and nothing has shown them yet."""
        if (open_time, trades) > self._first.setdefault(symbol, (open_time, trades)):
            self._since.setdefault(symbol, now)

    def shown(self, symbol: str) -> None:
        """Something has shown trades of `symbol`, or nothing is expected to."""
        self._first.pop(symbol, None)
        self._since.pop(symbol, None)

    def clear(self) -> None:
        """Forget all: what shows them may have been lost with a connection."""
        self._first.clear()
        self._since.clear()

    def late(self, symbols: Container[str], now: float, limit: float) -> dict[str, float]:
        """For how many seconds nothing has shown the trades of a symbol, by symbol; those with more than `limit`.

        Forgets all but `symbols`.
        """
        for symbol in [symbol for symbol in self._first if symbol not in symbols]:
            self.shown(symbol)
        return {symbol: now - since for symbol, since in self._since.items() if now - since > limit}
