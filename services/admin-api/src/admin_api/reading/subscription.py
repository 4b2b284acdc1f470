"""What waits for one reader of events, bounded."""

import asyncio

from admin_api.reading.live import Frame
from ingress_common.timeframes import Timeframe

CLIENT, SLOW, SHUTDOWN = "client", "slow", "shutdown"
"""Why a stream ends: the reader has gone, does not keep up, or the service stops."""


class Subscription:
    """Events for one reader, in the order of their ids.

    Forming candles are coalesced: the newest of a series takes the place of the one that waits. Closed ones are never
    dropped: where more than `limit` of them wait the subscription ends, and with it what it holds.
    """

    def __init__(self, symbols: frozenset[str] | None, timeframes: frozenset[Timeframe], limit: int = 500) -> None:
        self.symbols = symbols
        self.timeframes = timeframes
        self.ended: str | None = None
        self.coalesced = 0
        self._limit = limit
        self._closed = 0
        self._waiting: dict[object, bytes] = {}
        self._wake = asyncio.Event()

    def offer(self, frame: Frame) -> None:
        """Take a candle."""
        if self.ended is not None:
            return
        if not frame.closed:
            # Put at the end, so that a reader who comes back with this id has missed nothing before it.
            if self._waiting.pop(frame.series, None) is not None:
                self.coalesced += 1
            self._waiting[frame.series] = frame.event
        else:
            self._put(frame.number, frame.event)
        self._wake.set()

    def allow(self, limit: int) -> None:
        """Let so many closed candles wait."""
        self._limit = limit

    def reset(self, event: bytes) -> None:
        """Something may have been missed."""
        self._put(event, event)
        self._wake.set()

    def beat(self) -> None:
        """A comment, so that everything on the way knows that the stream lives."""
        if self.ended is None:
            self._waiting["beat"] = b": heartbeat\n\n"
            self._wake.set()

    def end(self, reason: str) -> None:
        """Give out nothing more; the first reason counts."""
        if self.ended is None:
            self.ended = reason
            self._waiting.clear()
        self._wake.set()

    async def take(self) -> list[bytes]:
        """All that waits, once something does; empty once the subscription has ended."""
        while not self._waiting and self.ended is None:
            self._wake.clear()
            await self._wake.wait()
        events = list(self._waiting.values())
        self._waiting.clear()
        self._closed = 0
        return events

    def _put(self, key: object, event: bytes) -> None:
        self._closed += 1
        if self._closed > self._limit:
            self.end(SLOW)
        else:
            self._waiting[key] = event
