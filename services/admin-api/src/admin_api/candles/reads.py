"""Reads of the store for HTTP, with limits on running and on waiting ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingress_common.model import Candle
from ingress_common.timeframes import Timeframe
from ingress_store import CandleStore, Freshness, StoreUnavailableError

READS = 8
"""Maximum number of running reads; repair and health checks wait for at most these."""

WAITING = 256
"""Maximum number of waiting reads; further ones are refused."""


class BusyError(StoreUnavailableError):
    """The maximum number of reads is waiting."""


class BoundedReads:
    """Reads of `store` for clients. StoreUnavailableError; BusyError if too many wait."""

    def __init__(self, store: CandleStore, reads: int = READS, waiting: int = WAITING) -> None:
        self._store = store
        self._slots = asyncio.Semaphore(reads)
        self._limit = reads + waiting
        self._waiting = 0

    async def candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The first `limit` closed candles of [start, end)."""
        async with self._slot():
            return await self._store.candles(symbol, timeframe, start=start, end=end, limit=limit)

    async def newest_candles(
        self, symbol: str, timeframe: Timeframe, *, start: float | None = None, end: float | None = None, limit: int
    ) -> list[Candle]:
        """The last `limit` closed candles of [start, end), oldest first."""
        async with self._slot():
            return await self._store.newest_candles(symbol, timeframe, start=start, end=end, limit=limit)

    async def forming(self, symbol: str, timeframe: Timeframe) -> Candle | None:
        """The candle after the newest closed one."""
        async with self._slot():
            return await self._store.forming(symbol, timeframe)

    async def series(self) -> dict[str, list[Freshness]]:
        """The newest closed candle of every timeframe, for each symbol that has candles."""
        async with self._slot():
            found: dict[str, list[Freshness]] = {symbol: [] for symbol in await self._store.symbols()}
            for freshness in await self._store.latest():
                found.setdefault(freshness.symbol, []).append(freshness)
            return found

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= self._limit:
            raise BusyError(f"expected at most {self._limit} reads of the store at once, got another one")
        self._waiting += 1
        try:
            async with self._slots:
                yield
        finally:
            self._waiting -= 1
