"""The tape: all trades of a market in order of time, in columns to save memory.

Prices are integers in units of the market's last decimal, quantities in units of 1e-8: exact and fast to add.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from operator import mul
from typing import NamedTuple


class TapeTrade(NamedTuple):
    """One trade: unix nanoseconds, price and quantity in units of their last decimal, taker side, order type."""

    time: int
    price: int
    quantity: int
    sell: bool = False
    limit: bool = False


class NumberedTrade(NamedTuple):
    """A trade with its number on the exchange."""

    number: int
    trade: TapeTrade


class TradeSums(NamedTuple):
    """The sums of consecutive trades; prices and volume in units of their last decimal."""

    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    trades: int


class Tape:
    """The trades of one market; times are strictly ascending (an equal time is moved by a nanosecond)."""

    def __init__(self) -> None:
        self._times = array("q")
        self._prices = array("q")
        self._quantities = array("q")
        self._flags = array("B")
        self._numbers = array("q")
        self._revision = 0

    def __len__(self) -> int:
        return len(self._times)

    @property
    def revision(self) -> int:
        """Rises when values derived from the tape become invalid: a late trade, or another scale."""
        return self._revision

    def append(self, trade: TapeTrade) -> None:
        """Add a trade at the end."""
        time, price, quantity, sell, limit = trade
        times = self._times
        if times and times[-1] >= time:
            time = times[-1] + 1
        times.append(time)
        self._prices.append(price)
        self._quantities.append(quantity)
        self._flags.append(sell + 2 * limit)
        self._numbers.append(len(times))

    def insert(self, trade: TapeTrade) -> None:
        """Insert a trade in order of time."""
        time = trade.time
        position = bisect_left(self._times, time)
        while position < len(self._times) and self._times[position] == time:
            position, time = position + 1, time + 1
        if position < len(self._times):
            self._revision += 1
        self._numbers.insert(position, len(self._times) + 1)
        self._times.insert(position, time)
        self._prices.insert(position, trade.price)
        self._quantities.insert(position, trade.quantity)
        self._flags.insert(position, trade.sell + 2 * trade.limit)

    def put_before(self, past: Iterable[TapeTrade]) -> None:
        """Prepend trades (ascending, all before the first one here) and renumber all."""
        before = Tape()
        for trade in past:
            before.append(trade)
        self._times = before._times + self._times
        self._prices = before._prices + self._prices
        self._quantities = before._quantities + self._quantities
        self._flags = before._flags + self._flags
        self._numbers = array("q", range(1, len(self._times) + 1))
        self._revision += 1

    def rescale(self, factor: int) -> None:
        """Convert prices to units `factor` times smaller."""
        self._prices = array("q", (price * factor for price in self._prices))
        self._revision += 1

    def time(self, position: int) -> int:
        """Return the time of the trade at a position; negative positions count from the end."""
        return self._times[position]

    def position_at(self, time: int) -> int:
        """Return the position of the first trade at or after `time`."""
        return bisect_left(self._times, time)

    def position_after(self, time: int) -> int:
        """Return the position of the first trade after `time`."""
        return bisect_right(self._times, time)

    def price_before(self, time: int) -> int | None:
        """Return the price of the last trade before `time`; None if there is none."""
        position = self.position_at(time)
        return self._prices[position - 1] if position else None

    def sums(self, first: int, last: int) -> TradeSums:
        """Return the sums of the trades at positions `first` to before `last`, at least one."""
        prices, quantities = self._prices[first:last], self._quantities[first:last]
        turnover = sum(map(mul, prices, quantities))
        return TradeSums(prices[0], max(prices), min(prices), prices[-1], sum(quantities), turnover, len(prices))

    def states(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Return time, price and quantity of the trades at positions `first` to before `last`."""
        return zip(self._times[first:last], self._prices[first:last], self._quantities[first:last], strict=True)

    def numbered(self, first: int, last: int) -> tuple[NumberedTrade, ...]:
        """Return the trades at positions `first` to before `last`, with their numbers."""
        return tuple(
            NumberedTrade(
                self._numbers[i],
                TapeTrade(
                    self._times[i],
                    self._prices[i],
                    self._quantities[i],
                    bool(self._flags[i] & 1),
                    bool(self._flags[i] & 2),
                ),
            )
            for i in range(first, min(last, len(self._times)))
        )
