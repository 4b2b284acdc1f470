"""The bounded queue of arrived events."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from ingress_common.bus.port import Connected, Event, Message
from ingress_common.metrics import BusMetrics


class EventQueue:
    """A bounded queue of events with one consumer, which iterates over it; cancelling a wait loses nothing.

    A QoS 0 message beyond `limit` drops the oldest QoS 0 message, which is counted. QoS 1 messages are never dropped:
    the producer stops while the queue `is_full`, and `on_room` is called once half of it is free. The receive maximum
    is not enough, because Mosquitto 2.0.11 exceeds it on a resumed session.
    """

    def __init__(self, limit: int, metrics: BusMetrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._queue: deque[Event] = deque()
        self._count = [0, 0]
        self._waiter: asyncio.Future[None] | None = None
        self.on_room: Callable[[], None] | None = None
        """Called once as soon as half of the limit is free."""
        self.is_consumed = False
        """Whether the consumer has begun to take events."""
        self._closed = False
        self._failure: BaseException | None = None

    @property
    def waiting(self) -> int:
        """Number of messages in the queue."""
        return self._count[0] + self._count[1]

    def __len__(self) -> int:
        """Number of events in the queue."""
        return len(self._queue)

    def put(self, message: Message) -> None:
        """Append `message` and count it as received."""
        self._metrics.received.inc()
        if message.qos == 0 and self._count[0] >= self._limit:
            self._drop_oldest(0)
        self._count[message.qos] += 1
        self._queue.append(message)
        if self._waiter is not None:
            self._wake()

    def connected(self, *, session_kept: bool) -> None:
        """Append a `Connected` event. If the session was kept, drop queued QoS 1 messages, which are redelivered."""
        if session_kept:
            kept = [event for event in self._queue if not (isinstance(event, Message) and event.qos)]
            self._queue.clear()
            self._queue.extend(kept)
            self._count[1] = 0
        # Messages of lost sessions are delivered, but must not accumulate over many sessions.
        while self._count[1] > self._limit:
            self._drop_oldest(1)
        last = self._queue[-1] if self._queue else None
        if isinstance(last, Connected):
            # One event stands for both connections, so that the queue stays bounded.
            self._queue[-1] = Connected(session_kept and last.session_kept)
        else:
            self._queue.append(Connected(session_kept))
        self._wake()

    def close(self, failure: BaseException | None = None) -> None:
        """End the queue: the consumer gets the queued events, then the end, or `failure` if given."""
        self._closed = True
        self._failure = failure
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        self.is_consumed = True
        while not self._queue:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        event = self._queue.popleft()
        if isinstance(event, Message):
            self._count[event.qos] -= 1
            if self.on_room is not None and self._count[1] <= self._limit // 2:
                on_room, self.on_room = self.on_room, None
                on_room()
        return event

    @property
    def is_full(self) -> bool:
        """Whether the queue has reached its limit of QoS 1 messages."""
        return self._count[1] >= self._limit

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _drop_oldest(self, qos: int) -> None:
        for position, event in enumerate(self._queue):
            if isinstance(event, Message) and event.qos == qos:
                del self._queue[position]
                self._count[qos] -= 1
                self._metrics.dropped("inbound-full")
                return
