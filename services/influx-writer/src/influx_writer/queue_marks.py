"""Messages of a writer to itself: when one returns, everything queued before it has been received."""

import asyncio

from ingress_common.bus import Bus, Message
from ingress_common.payloads import PayloadError, decode_mark, encode_mark

_REPEAT_SECONDS = 10.0


class QueueMarks:
    """Sends numbered marks over `bus` on `topic`, to which the session with the candles is subscribed.

    The broker keeps the order within a session. So once a mark has returned and what came before it is stored,
    everything that was queued when it was sent is stored. `repeat` replaces a lost mark.
    """

    def __init__(self, bus: Bus, topic: str) -> None:
        self.topic = topic
        self._bus = bus
        self._sent = 0
        self._sent_at = 0.0
        self._stored = 0

    async def send(self) -> int:
        """Send a mark; returns its number, for `reached`."""
        self._sent += 1
        self._sent_at = asyncio.get_running_loop().time()
        await self._bus.publish(self.topic, encode_mark(self._sent))
        return self._sent

    async def repeat(self) -> None:
        """Send another mark if the last one has not returned for long; it counts for all before it."""
        if self._stored < self._sent and asyncio.get_running_loop().time() - self._sent_at > _REPEAT_SECONDS:
            await self.send()

    def number_of(self, message: Message) -> int:
        """The number of a returned mark; 0 if an earlier process sent it, or if it is no mark."""
        try:
            number = decode_mark(message.payload)
        except PayloadError:
            return 0
        return number if number <= self._sent else 0

    def stored(self, number: int) -> None:
        """Everything received before this mark is stored."""
        self._stored = max(self._stored, number)

    def reached(self, number: int | None) -> bool:
        """Whether everything that was queued when this mark was sent is stored."""
        return number is not None and self._stored >= number
