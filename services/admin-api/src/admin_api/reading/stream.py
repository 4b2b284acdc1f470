"""Server-sent events: the answer that does not end, and all of them that are open."""

import asyncio
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from admin_api.metrics import StreamMetrics
from admin_api.reading.live import LiveCandles
from admin_api.reading.subscription import CLIENT, SHUTDOWN, SLOW, Subscription
from ingress_common.http_protocol import ABORT
from ingress_common.timeframes import Timeframe

HEARTBEAT_SECONDS = 15.0

STALLED_SECONDS = 15.0
"""A reader that takes nothing for so long, while there is more for it than the system keeps, is slow."""

PACE_SECONDS = 0.1
"""Between two parcels to one reader; what comes meanwhile goes out together, of a forming candle only the newest."""

_LEAST_WAITING = 500

_HEAD = b"retry: 2000\n\n"

_HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # nginx would collect the events otherwise.
    "X-Accel-Buffering": "no",
}


class TooManyStreamsError(Exception):
    """As many streams are open as may be."""


class Streams:
    """All streams that are open, at most `limit`."""

    def __init__(self, live: LiveCandles, limit: int, metrics: StreamMetrics) -> None:
        self._live = live
        self._limit = limit
        self._metrics = metrics
        self._open: set[Subscription] = set()
        self._stopped = False
        metrics.limit.set(limit)

    def subscribe(self, symbols: frozenset[str] | None, timeframes: frozenset[Timeframe]) -> Subscription:
        """A subscription that gets every candle from now on; TooManyStreamsError if there is no room for it.

        Whoever asks for it gives it back with `release`.
        """
        if self._stopped or len(self._open) >= self._limit:
            self._metrics.refused.inc()
            raise TooManyStreamsError(f"expected at most {self._limit} event streams at once, got another one")
        subscription = Subscription(symbols, timeframes)
        # At a boundary of timeframes every series closes a candle or two.
        subscription.allow(max(_LEAST_WAITING, 2 * len(self._live.known(subscription))))
        self._open.add(subscription)
        self._live.add(subscription)
        self._metrics.open.set(len(self._open))
        return subscription

    def release(self, subscription: Subscription) -> None:
        """The stream is over; counts why."""
        if subscription in self._open:
            self._open.discard(subscription)
            self._live.remove(subscription)
            self._metrics.open.set(len(self._open))
            self._metrics.ended.labels(subscription.ended or CLIENT).inc()
            self._metrics.coalesced.inc(subscription.coalesced)

    def sent(self, events: int) -> None:
        """Count events that went out."""
        self._metrics.events.inc(events)

    async def beat(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for subscription in self._open:
                subscription.beat()

    def stop(self) -> None:
        """End all streams, and take no new ones."""
        self._stopped = True
        for subscription in self._open:
            subscription.end(SHUTDOWN)


class EventStream(Response):
    """The events of a subscription: first `beginning`, then what comes, until the reader goes or it ends."""

    def __init__(self, streams: Streams, subscription: Subscription, beginning: list[bytes]) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._streams = streams
        self._subscription = subscription
        self._beginning = beginning

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until it ends."""
        watcher = asyncio.create_task(self._watch(receive), name="stream.watch")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._write(send)
        except TimeoutError:
            self._subscription.end(SLOW)
            await _abort(scope)
        finally:
            self._streams.release(self._subscription)
            watcher.cancel()

    async def _write(self, send: Send) -> None:
        subscription = self._subscription
        await _send(send, _HEAD)
        for place in range(0, len(self._beginning), _LEAST_WAITING):
            await self._parcel(send, self._beginning[place : place + _LEAST_WAITING])
        while events := await subscription.take():
            await self._parcel(send, events)
            await asyncio.sleep(PACE_SECONDS)
        if subscription.ended == SLOW:
            await _send(send, b'event: error\ndata: {"reason":"slow"}\n\n')
        elif subscription.ended == SHUTDOWN:
            await _send(send, b": the service stops\n\n")
        await _send(send, b"", last=True)

    async def _parcel(self, send: Send, events: list[bytes]) -> None:
        await _send(send, b"".join(events))
        self._streams.sent(len(events))

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._subscription.end(CLIENT)


async def _send(send: Send, body: bytes, *, last: bool = False) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": not last})


async def _abort(scope: Scope) -> None:
    """Cut the connection of a reader that takes nothing, not even the end."""
    extension = (scope.get("extensions") or {}).get(ABORT)
    if extension is not None:
        abort: Callable[[], None] = extension["abort"]
        abort()
        # The server hears of it in the next turn of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
