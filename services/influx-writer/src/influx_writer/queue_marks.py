"""Messages of a writer to itself: when one returns, everything queued before it has been received."""

import asyncio
from collections.abc import Callable

from ingress_common.bus import Bus, Message
from ingress_common.payloads import PayloadError, decode_mark, encode_mark

_REPEAT_SECONDS = 7.0
_LOST_MARKS = 2


class QueueMarks:
    """Sends numbered marks over `bus` on `topic`, to which the session with the candles is subscribed.

    The broker keeps the order within a session. So once a mark has returned and what came before it is stored,
    everything that was queued when it was sent is stored. `repeat` replaces a lost mark.

    `waiting` gives whether messages wait for room in this process: a mark behind them is late, not lost.
    """

    def __init__(self, bus: Bus, topic: str, waiting: Callable[[], bool]) -> None:
        self.topic = topic
        self._bus = bus
        self._waiting = waiting
        self._lost = 0
        self._sent = 0
        self._sent_at = 0.0
        self._stored = 0
        self._returned = False

    async def send(self) -> int:
        """Send a mark; returns its number, for `reached`."""
        self._sent += 1
        self._sent_at = asyncio.get_running_loop().time()
        await self._bus.publish(self.topic, encode_mark(self._sent))
        return self._sent

    async def repeat(self) -> None:
        """Send another mark if the last one has not returned for long; it counts for all before it.

        Call this every few seconds while the broker is connected.
        """
        if self._stored < self._sent and asyncio.get_running_loop().time() - self._sent_at > _REPEAT_SECONDS:
            self._lost = 0 if self._waiting() else self._lost + 1
            await self.send()

    @property
    def problem(self) -> str | None:
        """The reason why no mark returns; None while they return."""
        if self._lost < _LOST_MARKS:
            return None
        return f"none of this writer's own messages returns; its user may not read or publish {self.topic}"

    @property
    def state(self) -> str:
        """What is known while there is no problem."""
        return "this writer's own messages return" if self._returned else "no message of this writer has returned yet"

    def reconnected(self) -> None:
        """Forget the lost marks: the marks before a reconnect may have been lost with the connection."""
        self._lost = 0

    def number_of(self, message: Message) -> int:
        """The number of a returned mark; 0 if an earlier process sent it, or if it is no mark."""
        self._lost, self._returned = 0, True
        try:
            number = decode_mark(message.payload)
        except PayloadError:
            return 0
        return number if number <= self._sent else 0

    def stored(self, number: int) -> None:
        """Note that everything received before this mark is stored."""
        self._stored = max(self._stored, number)

    def reached(self, number: int | None) -> bool:
        """Whether everything that was queued when this mark was sent is stored."""
        return number is not None and self._stored >= number
