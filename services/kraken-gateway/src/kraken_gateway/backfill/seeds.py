"""Seed requests: the snapshots of all timeframes, published as they arrive."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from ingress_common.logs import get_logger
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from kraken_gateway.backfill.snapshots import Reading, Snapshot, Snapshots
from kraken_gateway.publisher import Publisher, snapshot_history

log = get_logger(__name__)


class Seeds:
    """Publishes the snapshots of our symbols (`owns`) on request.

    The queue is bounded by the number of symbols: one that is re-requested while it waits is published once.
    Requesters are not remembered: an aggregator repeats a request whose seed does not arrive.
    """

    def __init__(self, snapshots: Snapshots, publisher: Publisher, owns: Callable[[str], bool]) -> None:
        self._snapshots = snapshots
        self._publisher = publisher
        self._owns = owns
        self._under_way: set[asyncio.Future[Reading]] = set()
        self._read: deque[tuple[Timeframe, Snapshot]] = deque()
        self._wake = asyncio.Event()

    @property
    def pending(self) -> int:
        """Snapshots requested and not yet published."""
        return len(self._under_way) + len(self._read)

    def request(self, symbols: Iterable[str]) -> None:
        """Accept a request."""
        for symbol in dict.fromkeys(symbols):
            if self._owns(symbol):
                for timeframe in TIMEFRAMES:
                    self._request(symbol, timeframe)

    def _request(self, symbol: str, timeframe: Timeframe) -> None:
        reading = self._snapshots.of(timeframe).read(symbol)
        if reading in self._under_way:
            return
        self._under_way.add(reading)
        reading.add_done_callback(lambda done: self._take(timeframe, done))

    def _take(self, timeframe: Timeframe, reading: asyncio.Future[Reading]) -> None:
        self._under_way.discard(reading)
        if reading.cancelled():
            return
        result = reading.result()
        if isinstance(result, Snapshot):
            self._read.append((timeframe, result))
            self._wake.set()
        else:
            log.info("seed.rejected", symbol=result.symbol, timeframe=timeframe.value, reason=result.reason)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._read:
                timeframe, snapshot = self._read.popleft()
                if self._owns(snapshot.symbol):
                    history = snapshot_history(snapshot.symbol, timeframe, snapshot.rows, snapshot.taken, snapshot.at)
                    await self._publisher.history(history)
