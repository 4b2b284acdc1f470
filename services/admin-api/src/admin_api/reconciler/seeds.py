"""Seeds from the store, for symbols that no gateway follows: Kraken's REST no longer knows a delisted pair.

An aggregator requests them for a symbol that ended while no aggregator ran.
"""

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge

from admin_api.reconciler.context import Context
from admin_api.system.wanted import unfollowed
from ingress_common.bus import BusError
from ingress_common.logs import get_logger
from ingress_common.model import GRACE, Candle, History, Range, SeedRequest, Source
from ingress_common.payloads import encode_history
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import StoreUnavailableError

CANDLES = 24
"""Newest closed candles of each timeframe in a response; ten are enough for the next higher one."""

MOST_WAITING = 100
"""Maximum number of symbols that wait for a response. An aggregator requests 20 at a time, and repeats its requests."""

TICKS_AT_ONCE = 5_000
"""Raw ticks in one query."""

MOST_TICKS = 100_000
"""Maximum number of raw ticks in one response, about half a day of a busy pair."""

_M1 = Timeframe.M1

log = get_logger(__name__)


class SeedMetrics:
    """Metrics of the seeds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seeds = Counter(
            "ingress_store_seeds",
            "Seed requests for symbols that no gateway follows, by outcome: published, unknown, failed, left-out",
            ("outcome",),
            registry=registry,
        )
        self.waiting = Gauge(
            "ingress_store_seeds_waiting", "Symbols that wait for a seed from the store", registry=registry
        )


class StoreSeeds:
    """Responds to seed requests, one symbol after the other."""

    def __init__(self, context: Context, metrics: SeedMetrics) -> None:
        self._context = context
        self._store = context.store
        self._metrics = metrics
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        self._queued: set[str] = set()
        metrics.waiting.set_function(self._waiting.qsize)

    def take(self, request: SeedRequest) -> None:
        """Accept a request; the symbols that a gateway follows are the gateway's."""
        for symbol in unfollowed(self._context.state, self._context.clock(), request.symbols):
            if symbol in self._queued or not self._context.owns(symbol):
                continue
            if self._waiting.full():
                self._metrics.seeds.labels("left-out").inc()
                continue
            self._queued.add(symbol)
            self._waiting.put_nowait(symbol)

    async def run(self) -> None:
        """Respond until cancelled."""
        while True:
            symbol = await self._waiting.get()
            try:
                outcome = await self._publish_seed(symbol)
            except (StoreUnavailableError, BusError) as error:
                # The aggregator repeats its request.
                log.debug("seed.failed", symbol=symbol, reason=str(error))
                outcome = "failed"
            self._queued.discard(symbol)
            self._metrics.seeds.labels(outcome).inc()

    async def _publish_seed(self, symbol: str) -> str:
        """Publish the candles for `symbol`; returns the outcome."""
        now = self._context.clock()
        minutes = await self._store.newest_candles(symbol, _M1, limit=CANDLES)
        if not minutes:
            return "unknown"
        end = minutes[-1].close_time
        batches = [_batch(symbol, _M1, minutes, await self._later_minutes(symbol, end, now), end)]
        for timeframe in TIMEFRAMES[1:]:
            candles = await self._store.newest_candles(symbol, timeframe, limit=CANDLES)
            batches.append(_batch(symbol, timeframe, candles, [], candles[-1].close_time if candles else end))
        for batch in batches:
            topic = self._context.topics.history(symbol, batch.timeframe)
            await (await self._context.bus.publish(topic, encode_history(batch)))
        log.info("seed.published", symbol=symbol, minutes=len(batches[0].candles))
        return "published"

    async def _later_minutes(self, symbol: str, start: int, end: float) -> list[Candle]:
        """The newest stored raw tick of each minute from `start` on: the store has no candles of them."""
        minutes: dict[int, Candle] = {}
        since, found = start - GRACE, 0
        while found < MOST_TICKS:
            ticks = await self._store.ticks(symbol, start=since, end=end, limit=TICKS_AT_ONCE)
            for tick in ticks:
                known = minutes.get(tick.open_time)
                if tick.open_time >= start and (known is None or known.trades <= tick.trades):
                    minutes[tick.open_time] = tick
            found += len(ticks)
            if len(ticks) < TICKS_AT_ONCE:
                break
            since = max(ticks[-1].at, since + 0.001)
        return [minutes[minute] for minute in sorted(minutes)]


def _batch(symbol: str, timeframe: Timeframe, candles: list[Candle], later: list[Candle], end: int) -> History:
    """A batch that covers the newest candles that follow on one another and are complete, as a snapshot taken a moment
    after `end`. `later` come after it, and whether they are all is not known.
    """
    start = end
    for candle in reversed(candles):
        if not candle.complete or candle.close_time != start:
            break
        start = candle.open_time
    return History(symbol, timeframe, Source.SNAPSHOT, Range(start, end + GRACE), (*candles, *later))
