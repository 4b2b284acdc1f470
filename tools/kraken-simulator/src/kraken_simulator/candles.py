"""The exchange's own candles, computed from its tape for WebSocket and REST.

`truth.py` computes candles independently, so that an error here shows.
"""

from typing import NamedTuple

from kraken_simulator.tape import Tape, TradeSums
from kraken_simulator.text import NANOS

INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
"""Kraken's intervals in minutes (`docs/kraken-protocol.md`, WebSocket v2)."""

COMMITTED_ROWS = 720
"""Maximum number of committed rows in a REST response."""

SNAPSHOT_ROWS = 10
"""Number of candles with trades in a snapshot (fact 5)."""


class OhlcCandle(NamedTuple):
    """A candle with trades; prices and volume in units of their last decimal, time in unix seconds."""

    open_time: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    trades: int

    def after(self, price: int, quantity: int) -> "OhlcCandle":
        """Return the candle after one more trade."""
        return OhlcCandle(
            self.open_time,
            self.open,
            max(self.high, price),
            min(self.low, price),
            price,
            self.volume + quantity,
            self.turnover + price * quantity,
            self.trades + 1,
        )


def candles_between(tape: Tape, minutes: int, first: int, end: int) -> dict[int, OhlcCandle]:
    """Return the traded candles of an interval that open from `first` to before `end` (unix seconds), by open time."""
    seconds = minutes * 60
    candles: dict[int, OhlcCandle] = {}
    position, limit = tape.position_at(first * NANOS), tape.position_at(end * NANOS)
    while position < limit:
        open_time = tape.time(position) // NANOS // seconds * seconds
        after = tape.position_at((open_time + seconds) * NANOS)
        candles[open_time] = _candle(open_time, tape.sums(position, after))
        position = after
    return candles


def latest_candles(tape: Tape, minutes: int, count: int) -> tuple[OhlcCandle, ...]:
    """Return the last `count` traded candles of an interval, oldest first."""
    seconds = minutes * 60
    candles: list[OhlcCandle] = []
    after = len(tape)
    while after and len(candles) < count:
        open_time = tape.time(after - 1) // NANOS // seconds * seconds
        position = tape.position_at(open_time * NANOS)
        candles.append(_candle(open_time, tape.sums(position, after)))
        after = position
    return tuple(reversed(candles))


def candle_before(tape: Tape, minutes: int, open_time: int) -> OhlcCandle | None:
    """Return the last traded candle before the one that opens at `open_time` (unix seconds)."""
    after = tape.position_at(open_time * NANOS)
    if not after:
        return None
    seconds = minutes * 60
    opened = tape.time(after - 1) // NANOS // seconds * seconds
    return _candle(opened, tape.sums(tape.position_at(opened * NANOS), after))


def _candle(open_time: int, sums: TradeSums) -> OhlcCandle:
    return OhlcCandle(open_time, *sums)


class LiveCandle:
    """The forming candle of one interval, updated trade by trade."""

    def __init__(self, minutes: int) -> None:
        self._seconds = minutes * 60
        self._candle: OhlcCandle | None = None
        self._position = 0
        self._revision = -1

    def take(self, tape: Tape, first: int) -> tuple[tuple[OhlcCandle, int], ...]:
        """Process the trades from position `first` on.

        Return the last candle of each interval that they touch, with the time of its last trade.
        """
        if first >= len(tape):
            return ()
        if (self._position, self._revision) != (first, tape.revision):
            self._candle = self._before(tape, first)
        states: dict[int, tuple[OhlcCandle, int]] = {}
        candle, seconds = self._candle, self._seconds
        for time, price, quantity in tape.states(first, len(tape)):
            open_time = time // NANOS // seconds * seconds
            if candle is not None and candle.open_time == open_time:
                candle = candle.after(price, quantity)
            else:
                candle = OhlcCandle(open_time, price, price, price, price, quantity, price * quantity, 1)
            states[open_time] = candle, time
        self._candle, self._position, self._revision = candle, len(tape), tape.revision
        return tuple(states.values())

    def _before(self, tape: Tape, first: int) -> OhlcCandle | None:
        open_time = tape.time(first) // NANOS // self._seconds * self._seconds
        position = tape.position_at(open_time * NANOS)
        return _candle(open_time, tape.sums(position, first)) if position < first else None
