"""Kraken's time, as far as it can be known here: the clock skew measured on the times that Kraken writes into its
frames.
"""

from collections import deque
from collections.abc import Iterable

_REPLIES = 25
_FRAMES = 51


class KrakenTime:
    """Turns a moment of this process into Kraken's time.

    Kraken's stamp less our steady clock is the offset less the network's delay, so every sample is too low, never too
    high. The second highest of the latest is taken: it claims a little less than has passed, which is the safe side,
    and one wrong stamp does not move it. Replies (pong, ack) are stamped when they are sent and are preferred; data
    frames carry the time of the trade. The steady clock is used because a step of the wall clock would otherwise
    become a false claim.
    """

    def __init__(self) -> None:
        self._replies: deque[float] = deque(maxlen=_REPLIES)
        self._frames: deque[float] = deque(maxlen=_FRAMES)
        self._offset: float | None = None

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


def _second_highest(samples: Iterable[float]) -> float:
    ordered = sorted(samples)
    return ordered[-2:][0]
