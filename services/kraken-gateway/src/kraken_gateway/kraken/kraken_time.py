"""Kraken's time, measured by the time stamps in its frames."""

import time
from collections import deque
from collections.abc import Callable, Iterable

_REPLIES = 25
_FRAMES = 51


class KrakenTime:
    """Converts this process's steady clock to Kraken's time.

    Kraken's stamp less our steady clock is the offset less the network's delay, so every sample is too low, never too
    high. The second highest of the latest is taken: it states a little less than has passed, which is the safe side,
    and one wrong stamp does not move it. Replies (pong, ack) are stamped when they are sent and are preferred; data
    frames carry the time of the trade. The steady clock is used because a step of the wall clock would otherwise become
    a wrong watermark.

    `clock`: what other connections have measured, which holds until this one has measured itself.
    """

    def __init__(self, clock: "KrakenClock") -> None:
        self._clock = clock
        self._replies: deque[float] = deque(maxlen=_REPLIES)
        self._frames: deque[float] = deque(maxlen=_FRAMES)
        self._offset: float | None = None

    @property
    def offset(self) -> float | None:
        """Kraken's time less our steady clock (seconds); None while nothing is measured."""
        return self._offset

    def observe_reply(self, stamp: float, steady: float) -> None:
        """Process a pong or ack stamped `stamp` (unix seconds, Kraken's), received at `steady` (seconds, ours)."""
        self._replies.append(stamp - steady)
        self._offset = _second_highest(self._replies)

    def observe_frame(self, stamp: float, steady: float) -> None:
        """Process a data frame stamped `stamp`, received at `steady`."""
        if self._replies:
            return
        self._frames.append(stamp - steady)
        self._offset = _second_highest(self._frames)

    def at(self, steady: float) -> float:
        """Kraken's time (unix seconds) at `steady` (our steady clock)."""
        return self._clock.at(steady) if self._offset is None else steady + self._offset


class KrakenClock:
    """Kraken's time in this process, as its live connections have measured it.

    It follows the steady clock, so a step of the wall clock changes no time stamp. `wall` (unix seconds) serves only
    until a first measurement, and to compute the skew.
    """

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._offsets: dict[str, float] = {}
        self._offset: float | None = None
        self._dated: float | None = None

    @property
    def offset(self) -> float | None:
        """Kraken's time less our steady clock (seconds); None while nothing is measured."""
        return self._offset

    @property
    def skew(self) -> float:
        """Seconds that our wall clock is ahead of Kraken's; 0 while nothing is measured."""
        return 0.0 if self._offset is None else self._wall() - self.now()

    def learn(self, source: str, offset: float | None) -> None:
        """Note that connection `source` has measured `offset`."""
        if offset is None:
            return
        self._offsets[source] = offset
        # Of two the lower one, which is the safe side.
        self._offset = sorted(self._offsets.values())[(len(self._offsets) - 1) // 2]

    def forget(self, source: str) -> None:
        """Forget connection `source`, which is closed for good; the measurements so far remain valid."""
        self._offsets.pop(source, None)

    def date(self, stamp: float) -> None:
        """Note that REST has just responded with the date `stamp` (whole unix seconds).

        It is up to a second too early; it serves until a connection has measured.
        """
        self._dated = stamp - self._steady()

    def now(self) -> float:
        """Kraken's time (unix seconds)."""
        return self.at(self._steady())

    def at(self, steady: float) -> float:
        """Kraken's time (unix seconds) at `steady` (our steady clock); our own time while nothing is measured."""
        offset = self._dated if self._offset is None else self._offset
        return self._wall() - (self._steady() - steady) if offset is None else steady + offset


def _second_highest(samples: Iterable[float]) -> float:
    ordered = sorted(samples)
    return ordered[-2:][0]
