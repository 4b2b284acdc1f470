"""Whether frames are missing after a stall: the stream was held up, or it was cut. Pure."""

STALL = 2.0
"""Seconds without a frame after which the stream has to prove that it is whole: a heartbeat comes every second, and the
grace is one more.
"""

_HEARTBEAT_SECONDS = 1.1
_PROOF_SECONDS = 10.0
_SENT_AFTER = 1.0


class Continuity:
    """Follows the frames of one connection in the order of receipt. Times are steady seconds.

    Kraken sends at least one frame a second on a subscribed connection. So if no frame is missing, two consecutive
    frames were sent at most STALL apart, however late they arrive. After a stall, delayed frames prove this by Kraken's
    time stamps and one heartbeat per second between them; frames sent after the stall prove nothing. The proof ends
    with the first frame sent after the stall, such as a pong.
    """

    def __init__(self, opened: float) -> None:
        self._arrived = opened
        self._whole_until = opened
        self._resumed: float | None = None
        self._begins = False

    @property
    def pending_since(self) -> float | None:
        """The end of the stall since which frames may be missing; None if none can be."""
        return self._resumed

    def arrived(self, arrival: float, sent: float | None, *, in_order: bool = True) -> bool:
        """Process a frame received at `arrival`, which Kraken sent at `sent` (None if unknown).

        `in_order`: no frame before it was skipped. Returns whether frames before it are missing.
        """
        if arrival - self._arrived > STALL:
            if self._resumed is None:
                self._whole_until = self._arrived
            self._resumed, self._begins = arrival, True
        self._arrived = arrival
        if self._resumed is None:
            return False
        if sent is None:
            self._whole_until += _HEARTBEAT_SECONDS
            missing = arrival - self._resumed > _PROOF_SECONDS
            complete = False
        else:
            # No frame is skipped right before the first one after a stall.
            missing = sent - self._whole_until > STALL and (in_order or self._begins)
            complete = sent >= self._resumed - _SENT_AFTER
            self._whole_until, self._begins = max(self._whole_until, sent), False
        if missing or complete:
            self._resumed = None
        return missing
