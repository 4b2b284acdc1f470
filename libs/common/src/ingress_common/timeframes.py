"""Timeframes: the candle lengths and how they nest."""

from enum import Enum
from itertools import pairwise
from typing import Self


class Timeframe(Enum):
    """A candle length. Candles align to the Unix epoch in UTC, so a week opens on Thursday (`docs/kraken-protocol.md`,
    fact 11).

    A member has a name (its value: on topics, in payloads, in bucket names) and a length in seconds, of which each
    higher timeframe's length is a multiple.
    """

    M1 = "1m", 60
    M5 = "5m", 300
    M15 = "15m", 900
    H1 = "1h", 3_600
    H4 = "4h", 14_400
    D1 = "1d", 86_400
    W1 = "1w", 604_800

    # Plain attributes instead of properties, because the core reads them for every tick.
    _value_: str
    seconds: int
    lower: "Timeframe | None"
    higher: "Timeframe | None"

    def __new__(cls, name: str, seconds: int = 0) -> Self:
        """Create a member. The default lets type checkers accept the look-up `Timeframe("5m")`."""
        member = object.__new__(cls)
        member._value_ = name
        member.seconds = seconds
        member.lower = member.higher = None
        return member

    # Members are singletons. Enum's own hash is a Python function and slows every look-up down.
    __hash__ = object.__hash__

    @property
    def minutes(self) -> int:
        """The length in minutes, which Kraken calls the interval."""
        return self.seconds // 60

    @property
    def children(self) -> int:
        """The number of candles of the next lower timeframe in one candle; 1 for 1m."""
        return self.seconds // self.lower.seconds if self.lower else 1

    def floor(self, instant: float) -> int:
        """The open time (unix seconds) of the candle that contains `instant` (unix seconds)."""
        return int(instant // self.seconds) * self.seconds

    def ceil(self, instant: float) -> int:
        """The first open time (unix seconds) at or after `instant` (unix seconds)."""
        return -(int(-instant // self.seconds)) * self.seconds

    @classmethod
    def parse(cls, name: str) -> "Timeframe":
        """The timeframe with this name; ValueError lists the valid names."""
        try:
            return cls(name)
        except ValueError:
            raise ValueError(f"expected a timeframe of {', '.join(t.value for t in cls)}, got {name!r}") from None


TIMEFRAMES: tuple[Timeframe, ...] = tuple(Timeframe)
"""All timeframes, shortest first: the order in which candles of one boundary are published."""

for _lower, _higher in pairwise(TIMEFRAMES):
    _lower.higher, _higher.lower = _higher, _lower
