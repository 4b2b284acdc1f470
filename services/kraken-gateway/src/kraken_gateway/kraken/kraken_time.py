"""Kraken's time, as far as it can be known here: the clock skew measured on the times that Kraken writes into its
frames.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable

_REPLIES = 25
_FRAMES = 51


class KrakenTime:
    """Turns a moment of this process into Kraken's time.

    Kraken's stamp less our steady clock is the offset less the network's delay, so every sample is too low, never too
    high. The second highest of the latest is taken: it claims a little less than has passed, which is the safe side,
    and one wrong stamp does not move it. Replies (pong, ack) are stamped when they are sent and are preferred; data
    frames carry the time of the trade. The steady clock is used because a step of the wall clock would otherwise
    become a false claim.

    `offset`: what other connections have measured, which holds until this one has measured itself.
    """

    def __init__(self, offset: float | None = None) -> None:
        self._replies: deque[float] = deque(maxlen=_REPLIES)
        self._frames: deque[float] = deque(maxlen=_FRAMES)
        self._offset = offset

    @property
    def offset(self) -> float | None:
        """Kraken's time less our steady clock (seconds); None while nothing is measured."""
        return self._offset

    def observe_reply(self, stamp: float, steady: float) -> None:
        """A pong or ack stamped `stamp` (unix seconds, Kraken's) was received at `steady` (seconds, ours)."""
        self._replies.append(stamp - steady)
        self._offset = _second_highest(self._replies)

    def observe_frame(self, stamp: float, steady: float) -> None:
        """A data frame stamped `stamp` was received at `steady`."""
        if self._replies:
            return
        self._frames.append(stamp - steady)
        self._offset = _second_highest(self._frames)

    def at(self, steady: float, wall: float) -> float:
        """Kraken's time (unix seconds) at the moment that our clocks call `steady` and `wall`; `wall` itself while
        nothing is measured.
        """
        return wall if self._offset is None else steady + self._offset

    def skew(self, steady: float, wall: float) -> float:
        """Seconds that our wall clock is ahead of Kraken's; 0 while nothing is measured."""
        return wall - self.at(steady, wall)


class KrakenClock:
    """Kraken's time in this process, as its live connections have measured it.

    It runs with the steady clock, so that a step of the wall clock neither moves what is stamped nor lets it run
    backwards. `wall` (unix seconds) is used only until Kraken has said anything of the time, and to tell the skew.
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
        """The connection `source` measures `offset`."""
        if offset is None:
            return
        self._offsets[source] = offset
        # Of two the lower one, which claims less.
        self._offset = sorted(self._offsets.values())[(len(self._offsets) - 1) // 2]

    def forget(self, source: str) -> None:
        """The connection `source` is given up for good; what all have measured so far still holds."""
        self._offsets.pop(source, None)

    def date(self, stamp: float) -> None:
        """REST has just answered with a date of `stamp` (unix seconds, whole ones).

        It is at most a second late, and so claims too little; it serves until a connection measures.
        """
        self._dated = stamp - self._steady()

    def now(self) -> float:
        """Kraken's time (unix seconds)."""
        offset = self._dated if self._offset is None else self._offset
        return self._wall() if offset is None else self._steady() + offset

    def wall(self) -> float:
        """Our wall clock (unix seconds)."""
        return self._wall()


def _second_highest(samples: Iterable[float]) -> float:
    ordered = sorted(samples)
    return ordered[-2:][0]
