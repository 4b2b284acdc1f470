"""What has arrived and not been taken yet, bounded."""

import asyncio
from collections import deque

from ingress_common.bus.port import Connected, Event, Message
from ingress_common.metrics import BusMetrics


class Inbox:
    """A bounded queue of events with one consumer.

    The broker bounds QoS 1 (receive maximum, or the limit it has itself: rumqttd takes no notice of ours and stops at
    100), so none is dropped; QoS 0 beyond `limit` push the oldest QoS 0 out, which is counted.
    """

    def __init__(self, limit: int, metrics: BusMetrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._queue: deque[Event] = deque()
        self._count = {0: 0, 1: 0}
        self._arrival = asyncio.Event()
        self._closed = False
        self._failure: BaseException | None = None

    @property
    def waiting(self) -> int:
        """How many messages have not been taken yet."""
        return self._count[0] + self._count[1]

    def __len__(self) -> int:
        """Events that have not been taken yet."""
        return len(self._queue)

    def put(self, message: Message) -> None:
        """Append `message`."""
        self._metrics.received.inc()
        if message.qos == 0 and self._count[0] >= self._limit:
            self._drop_oldest(0)
        self._count[message.qos] += 1
        self._queue.append(message)
        self._arrival.set()

    def connected(self, *, session_kept: bool) -> None:
        """Note a new connection. Where the session was kept, what waits here unacknowledged comes again, so it goes."""
        if session_kept:
            kept = [event for event in self._queue if not (isinstance(event, Message) and event.qos)]
            self._queue.clear()
            self._queue.extend(kept)
            self._count[1] = 0
        # What a lost session left behind is delivered, but may not pile up over many of them.
        while self._count[1] > self._limit:
            self._drop_oldest(1)
        last = self._queue[-1] if self._queue else None
        if isinstance(last, Connected):
            # Nobody takes events, or nothing came in between: one event tells it all, and the queue stays bounded.
            self._queue[-1] = Connected(session_kept and last.session_kept)
        else:
            self._queue.append(Connected(session_kept))
        self._arrival.set()

    def close(self, failure: BaseException | None = None) -> None:
        """End the queue: the consumer gets what is in it, then None, or `failure` if there is one."""
        self._closed = True
        self._failure = failure
        self._arrival.set()

    async def get(self) -> Event | None:
        """The next event; None at the end."""
        while not self._queue:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                return None
            self._arrival.clear()
            await self._arrival.wait()
        event = self._queue.popleft()
        if isinstance(event, Message):
            self._count[event.qos] -= 1
        return event

    def _drop_oldest(self, qos: int) -> None:
        for position, event in enumerate(self._queue):
            if isinstance(event, Message) and event.qos == qos:
                del self._queue[position]
                self._count[qos] -= 1
                self._metrics.dropped("inbound-full")
                return
