"""The tape: every trade a market made, in the order of time, kept in columns so that days of a busy market stay small.

Prices are whole numbers of the pair's last decimal and quantities whole numbers of 1e-8: exact, and quick to add up.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple


class Trade(NamedTuple):
    """One trade: unix nanoseconds, price and quantity in units of their last decimal, taker side and order type."""

    time: int
    price: int
    quantity: int
    sell: bool = False
    limit: bool = False


class NumberedTrade(NamedTuple):
    """A trade with the number the exchange gave it."""

    number: int
    trade: Trade


class Tape:
    """The trades of one market by time; times are strictly ascending (a tie is moved by a nanosecond)."""

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
        """Rises when a trade came in before the last one, so that what was folded from the tape is out of date."""
        return self._revision

    def append(self, trade: Trade) -> None:
        """Add a trade at the end."""
        last = self._times[-1] if self._times else -1
        self._insert(len(self._times), trade, max(trade.time, last + 1))

    def insert(self, trade: Trade) -> None:
        """Add a trade where its time belongs."""
        time = trade.time
        position = bisect_left(self._times, time)
        while position < len(self._times) and self._times[position] == time:
            position, time = position + 1, time + 1
        if position < len(self._times):
            self._revision += 1
        self._insert(position, trade, time)

    def _insert(self, position: int, trade: Trade, time: int) -> None:
        self._numbers.insert(position, len(self._times) + 1)
        self._times.insert(position, time)
        self._prices.insert(position, trade.price)
        self._quantities.insert(position, trade.quantity)
        self._flags.insert(position, trade.sell + 2 * trade.limit)

    def time(self, position: int) -> int:
        """Return the time of the trade at a position; negative positions count from the end."""
        return self._times[position]

    def position_at(self, time: int) -> int:
        """Return the position of the first trade at `time` or after."""
        return bisect_left(self._times, time)

    def position_after(self, time: int) -> int:
        """Return the position of the first trade after `time`."""
        return bisect_right(self._times, time)

    def price_before(self, time: int) -> int | None:
        """Return the price of the last trade before `time`, None where there is none."""
        position = self.position_at(time)
        return self._prices[position - 1] if position else None

    def states(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Give time, price and quantity of the trades at positions `first` to before `last`."""
        return zip(self._times[first:last], self._prices[first:last], self._quantities[first:last], strict=True)

    def numbered(self, first: int, last: int) -> tuple[NumberedTrade, ...]:
        """Return the trades at positions `first` to before `last`, with their numbers."""
        return tuple(
            NumberedTrade(
                self._numbers[i],
                Trade(
                    self._times[i],
                    self._prices[i],
                    self._quantities[i],
                    bool(self._flags[i] & 1),
                    bool(self._flags[i] & 2),
                ),
            )
            for i in range(first, min(last, len(self._times)))
        )
