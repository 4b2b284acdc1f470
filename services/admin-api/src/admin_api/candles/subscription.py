"""The bounded queue of one reader's events."""

import asyncio
from collections.abc import Hashable

from ingress_common.timeframes import Timeframe

CLIENT, SLOW, SHUTDOWN = "client", "slow", "shutdown"
"""Reasons for the end of a stream: the reader disconnected, the reader is too slow, the service stops."""


class Subscription:
    """Events for one reader, in the order of their ids.

    Forming candles are coalesced: the newest of a series takes the place of the one that waits. Closed ones are never
    dropped: if more than `limit` of them wait, the subscription ends and its queue is discarded.
    """

    def __init__(self, symbols: frozenset[str] | None, timeframes: frozenset[Timeframe], limit: int) -> None:
        self.symbols = symbols
        self.timeframes = timeframes
        self.ended: str | None = None
        self.coalesced = 0
        self._limit = limit
        self._closed = 0
        self._waiting: dict[Hashable, bytes] = {}
        self._wake = asyncio.Event()

    def offer_forming(self, series: Hashable, event: bytes) -> None:
        """Queue the forming candle of a series, without waiting."""
        if self.ended is None:
            # Move it to the end, so that a reader that returns with this id has missed nothing before it.
            if self._waiting.pop(series, None) is not None:
                self.coalesced += 1
            self._waiting[series] = event
            self._wake.set()

    def offer_closed(self, number: int, event: bytes) -> None:
        """Queue a closed candle, without waiting."""
        self._put(number, event)

    def reset(self, event: bytes) -> None:
        """Queue a `reset` event: events may have been missed."""
        self._put(event, event)

    def end(self, reason: str) -> None:
        """End the subscription; the first reason counts."""
        if self.ended is None:
            self.ended = reason
            self._waiting.clear()
        self._wake.set()

    async def take(self) -> list[bytes]:
        """Wait for events and return all of them; empty once the subscription has ended."""
        while not self._waiting and self.ended is None:
            self._wake.clear()
            await self._wake.wait()
        events = list(self._waiting.values())
        self._waiting.clear()
        self._closed = 0
        return events

    def _put(self, key: Hashable, event: bytes) -> None:
        if self.ended is not None:
            return
        self._closed += 1
        if self._closed > self._limit:
            self.end(SLOW)
        else:
            self._waiting[key] = event
            self._wake.set()
