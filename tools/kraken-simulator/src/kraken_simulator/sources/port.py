"""The port behind which every source of trades stands."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from kraken_simulator.pairs import Pair
from kraken_simulator.tape import Trade


class TradeSource(Protocol):
    """Trades of one pair, given once each, in the order of time."""

    @property
    def pair(self) -> Pair:
        """The pair that is traded."""

    def take_until(self, now: int) -> Iterable[Trade]:
        """Return the trades up to and including `now` (unix nanoseconds) that were not given before."""


class StreamSource:
    """A source over an iterator of trades in the order of time, which may be endless."""

    def __init__(self, pair: Pair, trades: Iterator[Trade]) -> None:
        self._pair = pair
        self._trades = trades
        self._next = next(trades, None)

    @property
    def pair(self) -> Pair:
        """The pair that is traded."""
        return self._pair

    def take_until(self, now: int) -> Iterable[Trade]:
        """Return the trades up to and including `now` (unix nanoseconds) that were not given before."""
        if self._next is None or self._next.time > now:
            return ()
        taken = []
        while self._next is not None and self._next.time <= now:
            taken.append(self._next)
            self._next = next(self._trades, None)
        return taken
