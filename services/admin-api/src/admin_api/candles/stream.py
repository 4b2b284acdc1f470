"""Server-sent events: the endless response, and the set of open ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from admin_api.candles.live import LiveCandles, Position
from admin_api.candles.subscription import CLIENT, SHUTDOWN, SLOW, Subscription
from ingress_common.http_protocol import ABORT
from ingress_common.timeframes import Timeframe

HEARTBEAT_SECONDS = 15.0

STALLED_SECONDS = 15.0
"""A reader is slow if it reads nothing for this long while the connection's buffers are full."""

PACE_SECONDS = 0.1
"""Pause between two writes to a reader; the candles of a pause are sent together, a forming one in its newest state."""

_PORTION = 500
"""Events of one write where many wait, and the least that may wait in a reader's queue."""

_ENDS = {
    SLOW: b'event: error\ndata: {"reason":"slow"}\n\n',
    SHUTDOWN: b": the service stops\n\n",
}


class StreamMetrics:
    """Counters of the event streams."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = Gauge("ingress_admin_streams", "Open event streams", registry=registry)
        self.limit = Gauge("ingress_admin_streams_limit", "Maximum number of open event streams", registry=registry)
        self.events = Counter("ingress_admin_stream_events", "Events sent, over all streams", registry=registry)
        self.coalesced = Counter(
            "ingress_admin_stream_coalesced",
            "Forming candles replaced by a newer one before they were sent",
            registry=registry,
        )
        self.refused = Counter(
            "ingress_admin_streams_refused", "Event streams refused, because too many were open", registry=registry
        )
        self.ended = Counter(
            "ingress_admin_streams_ended",
            "Event streams that ended: client (closed it), slow (did not read), shutdown (of the service)",
            ("reason",),
            registry=registry,
        )
        for reason in (CLIENT, SLOW, SHUTDOWN):
            self.ended.labels(reason)


class Streams:
    """All streams that are open, at most `limit`, and `limit_per_address` of one client."""

    def __init__(self, live: LiveCandles, limit: int, limit_per_address: int, metrics: StreamMetrics) -> None:
        self._live = live
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._metrics = metrics
        self._open: dict[Subscription, str] = {}
        self._stopped = False
        metrics.limit.set(limit)

    def subscribe(self, symbols: frozenset[str] | None, timeframes: frozenset[Timeframe], address: str) -> Subscription:
        """A subscription to every candle from now on; HTTPException (503) if the limit is reached.

        The caller ends it with `release`.
        """
        if self._stopped or len(self._open) >= self._limit:
            self._metrics.refused.inc()
            raise HTTPException(503, f"expected at most {self._limit} event streams at once, got another one")
        if sum(known == address for known in self._open.values()) >= self._limit_per_address:
            self._metrics.refused.inc()
            limit = self._limit_per_address
            raise HTTPException(503, f"expected at most {limit} event streams from one address, got another one")
        # At a common boundary of all timeframes every series closes one or two candles.
        waiting = max(_PORTION, 2 * len(self._live.known(symbols, timeframes)))
        subscription = Subscription(symbols, timeframes, waiting)
        self._open[subscription] = address
        self._live.add(subscription)
        self._metrics.open.set(len(self._open))
        return subscription

    def release(self, subscription: Subscription) -> None:
        """Remove an ended stream, and count the reason."""
        if subscription in self._open:
            del self._open[subscription]
            self._live.remove(subscription)
            self._metrics.open.set(len(self._open))
            self._metrics.ended.labels(subscription.ended or CLIENT).inc()
            self._metrics.coalesced.inc(subscription.coalesced)

    async def take(self, subscription: Subscription) -> list[bytes]:
        """Wait for a reader's next events; empty once its subscription has ended.

        Those that its queue had no place for come from memory, which all readers share. A reader that is further behind
        than memory reaches is slow.
        """
        while not (events := await subscription.take()) and subscription.left_off is not None:
            series = self._live.known(subscription.symbols, subscription.timeframes)
            missed = self._live.missed(series, Position(self._live.epoch, subscription.left_off, 0))
            if missed is None:
                subscription.end(SLOW)
                break
            part = missed[:_PORTION]
            subscription.left_off = part[-1].number if len(part) < len(missed) else None
            if part:
                return [frame.event for frame in part]
        return events

    def sent(self, events: int) -> None:
        """Count events sent."""
        self._metrics.events.inc(events)

    def stop(self) -> None:
        """End all streams, and accept no new ones."""
        self._stopped = True
        for subscription in self._open:
            subscription.end(SHUTDOWN)


class EventStream(EventSourceResponse):
    """The events of a subscription: first `beginning`, then live events, until the reader disconnects or it ends."""

    def __init__(self, streams: Streams, subscription: Subscription, beginning: Sequence[bytes]) -> None:
        super().__init__(
            _parcels(streams, subscription, beginning),
            ping=HEARTBEAT_SECONDS,
            ping_message_factory=lambda: ServerSentEvent(comment="heartbeat", sep="\n"),
            send_timeout=STALLED_SECONDS,
            client_close_handler_callable=self._closed,
        )
        self._streams = streams
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the stream ends."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            self._subscription.end(SLOW)
            await _abort(scope)
        finally:
            self._streams.release(self._subscription)

    async def _closed(self, _message: Message) -> None:
        self._subscription.end(CLIENT)


async def _parcels(streams: Streams, subscription: Subscription, beginning: Sequence[bytes]) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    for place in range(0, len(beginning), _PORTION):
        part = beginning[place : place + _PORTION]
        yield b"".join(part)
        streams.sent(len(part))
    while events := await streams.take(subscription):
        yield b"".join(events)
        streams.sent(len(events))
        await asyncio.sleep(PACE_SECONDS if subscription.left_off is None else 0)
    if subscription.ended in _ENDS:
        yield _ENDS[subscription.ended]


async def _abort(scope: Scope) -> None:
    """Abort the connection of a reader that reads nothing, not even the end of the stream."""
    extension = (scope.get("extensions") or {}).get(ABORT)
    if extension is not None:
        abort: Callable[[], None] = extension["abort"]
        abort()
        # The server notices the abort in the next turns of the event loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
