"""The port of sources of trades."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from kraken_simulator.pairs import SimulatedPair
from kraken_simulator.tape import TapeTrade


class TradeSource(Protocol):
    """A source of one pair's trades, each returned once, in order of time."""

    @property
    def pair(self) -> SimulatedPair:
        """The traded pair."""

    @property
    def next_time(self) -> int | None:
        """Time of the next trade (unix nanoseconds); None if there is none."""

    @property
    def usual_rate(self) -> float:
        """Ticks per second at the source's own pace; 0 if its pace cannot be set."""

    def past(self) -> Iterable[TapeTrade]:
        """Return the trades before the first one of `take_until`; the same at each call."""

    def take_until(self, now: int) -> Iterable[TapeTrade]:
        """Return the new trades up to and including `now` (unix nanoseconds)."""

    def set_pace(self, factor: float, now: int) -> None:
        """Trade `factor` times as often as usual from `now` (unix nanoseconds) on, if the source can."""


class StreamSource:
    """A source over an iterator of trades in order of time, possibly endless; its pace is fixed."""

    def __init__(self, pair: SimulatedPair, trades: Iterator[TapeTrade]) -> None:
        self._pair = pair
        self._trades = trades
        self._next = next(trades, None)

    @property
    def pair(self) -> SimulatedPair:
        """The traded pair."""
        return self._pair

    @property
    def next_time(self) -> int | None:
        """Time of the next trade (unix nanoseconds); None if there is none."""
        return self._next.time if self._next is not None else None

    @property
    def usual_rate(self) -> float:
        """0, because recorded trades have a fixed pace."""
        return 0.0

    def past(self) -> Iterable[TapeTrade]:
        """Return nothing: the past of recorded trades is part of the stream."""
        return ()

    def take_until(self, now: int) -> Iterable[TapeTrade]:
        """Return the new trades up to and including `now` (unix nanoseconds)."""
        if self._next is None or self._next.time > now:
            return ()
        taken = []
        while self._next is not None and self._next.time <= now:
            taken.append(self._next)
            self._next = next(self._trades, None)
        return taken

    def set_pace(self, factor: float, now: int) -> None:
        """Do nothing: recorded trades have a fixed pace."""
