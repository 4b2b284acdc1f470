"""The exchange's own candles: folded trade by trade as they become known, for the WebSocket and REST answers.

What `truth.py` answers is computed apart from this, so that a mistake here shows.
"""

from typing import NamedTuple

from kraken_simulator.tape import Tape
from kraken_simulator.text import NANOS

INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
"""Kraken's intervals in minutes (kraken-protocol.md, WebSocket v2)."""

COMMITTED_ROWS = 720
"""How many committed rows REST gives at most."""

SNAPSHOT_ROWS = 10
"""How many traded candles a snapshot holds (fact 5)."""

_KEPT = COMMITTED_ROWS + 80


class Candle(NamedTuple):
    """The state of an interval that traded; prices and volume in units of their last decimal, time in unix seconds."""

    open_time: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    trades: int

    @property
    def vwap(self) -> int:
        """The volume-weighted price, truncated to the pair's decimals (fact 12)."""
        return self.turnover // self.volume if self.volume else self.close

    def after(self, price: int, quantity: int) -> "Candle":
        """Return the state after one more trade."""
        return Candle(
            self.open_time,
            self.open,
            max(self.high, price),
            min(self.low, price),
            price,
            self.volume + quantity,
            self.turnover + price * quantity,
            self.trades + 1,
        )


class CandleSeries:
    """The latest traded candles of one interval, following a tape."""

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        self._seconds = minutes * 60
        self._candles: dict[int, Candle] = {}
        self._position = 0
        self._revision = -1

    def follow(self, tape: Tape) -> None:
        """Take in the trades that the tape has gained; start again where it was revised."""
        if tape.revision != self._revision:
            self._revision = tape.revision
            self._candles.clear()
            self._position = self._first_position(tape)
        size = self._seconds * NANOS
        for time, price, quantity in tape.states(self._position, len(tape)):
            open_time = time // size * self._seconds
            candle = self._candles.get(open_time)
            if candle is None:
                self._candles[open_time] = Candle(open_time, price, price, price, price, quantity, price * quantity, 1)
                if len(self._candles) > _KEPT:
                    del self._candles[next(iter(self._candles))]
            else:
                self._candles[open_time] = candle.after(price, quantity)
        self._position = len(tape)

    def _first_position(self, tape: Tape) -> int:
        if not len(tape):
            return 0
        size = self._seconds * NANOS
        slot = tape.time(-1) // size
        position = tape.position_at((slot - COMMITTED_ROWS - 1) * size)
        seen = len({tape.time(i) // size for i in range(position, min(len(tape), position + 5_000))})
        while position and seen <= SNAPSHOT_ROWS:
            position = tape.position_at(tape.time(position - 1) // size * size)
            seen += 1
        return position

    def at(self, open_time: int) -> Candle | None:
        """Return the candle that opens at `open_time` (unix seconds), None where that interval did not trade."""
        return self._candles.get(open_time)

    def latest(self, count: int) -> tuple[Candle, ...]:
        """Return the last `count` traded candles, oldest first."""
        return tuple(self._candles.values())[-count:]

    def before(self, open_time: int) -> Candle | None:
        """Return the last traded candle before the one that opens at `open_time`."""
        return next((candle for candle in reversed(self._candles.values()) if candle.open_time < open_time), None)
