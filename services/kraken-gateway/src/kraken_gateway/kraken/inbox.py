"""Frames received and not yet processed; conflates updates when there are too many."""

from collections import deque
from collections.abc import Callable

import msgspec

from kraken_gateway.kraken.continuity import STALL
from kraken_gateway.kraken.protocol import update_key

CONFLATE_AT = 5_000
"""Waiting frames beyond which updates that a later one supersedes are left out."""

FULL = 50_000
"""Waiting frames beyond which no more is read from the socket."""


class Arrival(msgspec.Struct, gc=False):
    """A frame as it was received; `steady` (seconds) is our steady clock then."""

    frame: str | bytes
    steady: float
    key: tuple[str, str] | None = None
    peeked: bool = False

    def keep(self) -> None:
        """Never skip it."""
        self.key, self.peeked = None, True


class Inbox:
    """The receive queue of one connection, in the order of receipt.

    Rows are cumulative, so the last of several updates of an interval holds all of it. When more frames than
    CONFLATE_AT wait, the earlier ones are skipped and counted (`conflated`): a gateway that is behind has less to do,
    and no candle loses data.

    Around a stall the last frame before it and the frames after it up to the first update are always kept: they show
    whether the stream is whole.
    """

    def __init__(self, conflated: Callable[[int], None]) -> None:
        self._conflated = conflated
        self._arrivals: deque[Arrival] = deque()
        self._conflate_at = CONFLATE_AT
        self._moved = 0
        self._newest = float("inf")
        self._after_stall = False

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def full(self) -> bool:
        """Whether reading should pause."""
        return len(self._arrivals) >= FULL

    @property
    def in_order(self) -> bool:
        """Whether all that was received before the next frame has been taken out.

        False after a conflation until all frames that waited then were taken: the content of a skipped update is
        further back in the queue.
        """
        return self._moved == 0

    def oldest(self) -> float | None:
        """When the first of the waiting frames was received (steady seconds); None if none waits."""
        return self._arrivals[0].steady if self._arrivals else None

    def put(self, frame: str | bytes, steady: float) -> None:
        """Add a frame."""
        arrival = Arrival(frame, steady)
        if steady - self._newest > STALL:
            self._after_stall = True
            if self._arrivals:
                self._arrivals[-1].keep()
        self._newest = steady
        if self._after_stall:
            self._after_stall = update_key(frame) is None
            arrival.keep()
        self._arrivals.append(arrival)
        if len(self._arrivals) > self._conflate_at:
            self._conflate()

    def take(self) -> Arrival | None:
        """The next frame; None if none waits."""
        if not self._arrivals:
            return None
        if self._moved:
            self._moved -= 1
        return self._arrivals.popleft()

    def _conflate(self) -> None:
        kept: deque[Arrival] = deque()
        latest: set[tuple[str, str]] = set()
        for arrival in reversed(self._arrivals):
            if not arrival.peeked:
                arrival.key, arrival.peeked = update_key(arrival.frame), True
            if arrival.key is not None:
                if arrival.key in latest:
                    continue
                latest.add(arrival.key)
            kept.appendleft(arrival)
        if left_out := len(self._arrivals) - len(kept):
            self._moved = len(kept)
            self._conflated(left_out)
        self._arrivals = kept
        self._conflate_at = max(CONFLATE_AT, 2 * len(kept))
