"""The bounded queue of one reader's events."""

import asyncio
from collections.abc import Hashable

from ingress_common.timeframes import Timeframe

CLIENT, SLOW, SHUTDOWN = "client", "slow", "shutdown"
"""Reasons for the end of a stream: the reader disconnected, the reader is too slow, the service stops."""


class Subscription:
    """Events for one reader, in the order of their ids.

    Forming candles are coalesced: the newest of a series takes the place of the one that waits. Once `limit` events
    wait, the queue takes no more, whatever fills it: a reader that does not read, or a burst. `left_off` is then the
    number after which events are missing from the queue; the caller of `take` gets them elsewhere, and sets it to None.
    """

    def __init__(self, symbols: frozenset[str] | None, timeframes: frozenset[Timeframe], limit: int) -> None:
        self.symbols = symbols
        self.timeframes = timeframes
        self.ended: str | None = None
        self.coalesced = 0
        self.left_off: int | None = None
        self._limit = limit
        self._waiting: dict[Hashable, bytes] = {}
        self._wake = asyncio.Event()

    def offer_forming(self, number: int, series: Hashable, event: bytes) -> None:
        """Queue the forming candle of a series, without waiting."""
        # Move it to the end, so that a reader that returns with this id has missed nothing before it.
        if self.left_off is None and self._waiting.pop(series, None) is not None:
            self.coalesced += 1
        self._put(number, series, event)

    def offer_closed(self, number: int, event: bytes) -> None:
        """Queue a closed candle, without waiting."""
        self._put(number, number, event)

    def reset(self, event: bytes) -> None:
        """Replace all that waits by a `reset` event: events may have been missed, and the reader reads them anew."""
        if self.ended is None:
            self.left_off = None
            self._waiting = {event: event}
            self._wake.set()

    def end(self, reason: str) -> None:
        """End the subscription; the first reason counts."""
        if self.ended is None:
            self.ended = reason
            self.left_off = None
            self._waiting.clear()
        self._wake.set()

    async def take(self) -> list[bytes]:
        """Wait for events and return all of them; empty if it has ended, or has none before those after `left_off`."""
        while not self._waiting and self.ended is None and self.left_off is None:
            self._wake.clear()
            await self._wake.wait()
        events = list(self._waiting.values())
        self._waiting.clear()
        return events

    def _put(self, number: int, key: Hashable, event: bytes) -> None:
        if self.ended is not None or self.left_off is not None:
            return
        if len(self._waiting) >= self._limit:
            self.left_off = number - 1
        else:
            self._waiting[key] = event
            self._wake.set()
