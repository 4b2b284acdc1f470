"""Reads of the store for HTTP, with limits on running and on waiting ones."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from ingress_store import CandleStore, Freshness, StoreUnavailableError

READS = 8
"""Maximum number of running reads; repair and health checks wait for at most these."""

WAITING = 256
"""Maximum number of waiting reads; further ones are refused."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class BusyError(StoreUnavailableError):
    """The maximum number of reads is waiting."""


class BoundedReads:
    """The reads of `store` for clients. StoreUnavailableError; BusyError if too many wait."""

    def __init__(self, store: CandleStore, reads: int = READS, waiting: int = WAITING) -> None:
        self._slots = asyncio.Semaphore(reads)
        self._limit = reads + waiting
        self._waiting = 0
        self._store = store
        self.candles = self._bounded(store.candles)
        self.newest_candles = self._bounded(store.newest_candles)
        self.forming = self._bounded(store.forming)

    async def series(self) -> dict[str, list[Freshness]]:
        """The newest closed candle of every timeframe, for each symbol that has candles."""
        async with self._slot():
            found: dict[str, list[Freshness]] = {symbol: [] for symbol in await self._store.symbols()}
            for freshness in await self._store.latest():
                found.setdefault(freshness.symbol, []).append(freshness)
            return found

    def _bounded(self, read: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
        async def bounded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            async with self._slot():
                return await read(*args, **kwargs)

        return bounded

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
