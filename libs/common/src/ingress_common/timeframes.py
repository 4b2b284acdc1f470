"""Timeframes: the seven candle lengths and how they nest."""

from enum import Enum


class Timeframe(Enum):
    """A candle length. Candles align to the Unix epoch in UTC, so a week opens on Thursday (`kraken-protocol.md`, fact
    11).

    The value is the name on topics, in payloads and in bucket names.
    """

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"
    W1 = "1w"

    # Set below, once all members exist: plain attributes, because the core reads them for every tick.
    seconds: int
    lower: "Timeframe | None"
    higher: "Timeframe | None"

    @property
    def minutes(self) -> int:
        """The length in minutes, which is what Kraken calls the interval."""
        return self.seconds // 60

    @property
    def children(self) -> int:
        """How many candles of the next lower timeframe one candle spans; 1 for 1m."""
        return self.seconds // self.lower.seconds if self.lower else 1

    def floor(self, instant: float) -> int:
        """The open time (unix seconds) of the candle that `instant` (unix seconds) falls into."""
        return int(instant // self.seconds) * self.seconds

    def ceil(self, instant: float) -> int:
        """The first open time (unix seconds) that is not before `instant` (unix seconds)."""
        return -(int(-instant // self.seconds)) * self.seconds

    @classmethod
    def parse(cls, name: str) -> "Timeframe":
        """The timeframe called `name`; ValueError names what is possible."""
        try:
            return cls(name)
        except ValueError:
            raise ValueError(f"expected a timeframe of {', '.join(t.value for t in cls)}, got {name!r}") from None


_SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400, "1w": 604800}
TIMEFRAMES: tuple[Timeframe, ...] = tuple(Timeframe)
"""All timeframes, lowest first: the order in which candles of one boundary are published."""

for _i, _timeframe in enumerate(TIMEFRAMES):
    _timeframe.seconds = _SECONDS[_timeframe.value]
    _timeframe.lower = TIMEFRAMES[_i - 1] if _i else None
    _timeframe.higher = TIMEFRAMES[_i + 1] if _i + 1 < len(TIMEFRAMES) else None
