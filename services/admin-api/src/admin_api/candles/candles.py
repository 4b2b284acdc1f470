"""The composition of the package, which `app.py` mounts and runs."""

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from admin_api.candles import routes, routes_stream
from admin_api.candles.bulk import BulkReads
from admin_api.candles.cache import CandleCache
from admin_api.candles.live import LiveCandles
from admin_api.candles.reads import BoundedReads
from admin_api.candles.stream import StreamMetrics, Streams
from admin_api.candles.symbols import StoredSymbols, Symbols
from admin_api.system.candle_header import CandleHeader
from admin_api.system.state import SystemState
from ingress_common.model import Series
from ingress_store import CandleStore


class Candles:
    """Pages, bulk reads and events of the candles in `store` and on the bus. `clock` in unix seconds.

    `streams`: the maximum number of open event streams, in total and per address.
    """

    def __init__(
        self,
        *,
        state: SystemState,
        store: CandleStore,
        streams: tuple[int, int],
        registry: CollectorRegistry,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        reads = BoundedReads(store)
        self.live = LiveCandles(lambda: uuid4().hex[:8])
        """The candles of the bus."""
        self.cache = CandleCache(reads, self.live, time.monotonic, clock)
        """The cache of recent candles."""
        self.streams = Streams(self.live, *streams, StreamMetrics(registry))
        """The open event streams."""
        self._stored = StoredSymbols(reads, time.monotonic)
        symbols = Symbols(self._stored, state, clock)
        self.routers: tuple[APIRouter, ...] = (
            routes.router(symbols, self.cache, BulkReads(reads), clock),
            routes_stream.router(symbols, self.live, self.cache, self.streams, clock),
        )
        """The routes to mount."""

    def take(self, candle: CandleHeader, payload: bytes) -> None:
        """Add a candle from the bus; LiveFullError if the maximum number of series is reached."""
        frame = self.live.take(candle, payload, self._clock())
        if frame is not None:
            self.cache.take(frame)

    def forget(self, series: Series) -> None:
        """Drop `series`: its retained candle was deleted."""
        self.live.forget(series)

    def reconnected(self) -> None:
        """Drop the cache and reset the streams: candles may have been missed while the connection was interrupted."""
        self.cache.clear()
        self.live.interrupted("the connection to the broker was interrupted", self._clock())

    async def run(self) -> None:
        """Keep the candle cache and the list of symbols current until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.cache.refresh(), name="candles.refresh")
            tasks.create_task(self._stored.refresh(), name="candles.refresh-symbols")

    def stop(self) -> None:
        """End all streams, and accept no new ones."""
        self.streams.stop()
