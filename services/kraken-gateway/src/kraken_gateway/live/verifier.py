"""Symbols in doubt are cross-checked: Kraken's REST comes from another back end than the WebSocket."""

import asyncio
from collections.abc import Callable, Collection

from ingress_common.logs import get_logger
from ingress_common.model import GRACE, History, Range, Source
from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken.budget import Backoff
from kraken_gateway.kraken.protocol import Row
from kraken_gateway.kraken.rest import KrakenRest, OhlcRow, Pair, RestError, UnknownPairError
from kraken_gateway.live.blindness import Blindness
from kraken_gateway.live.feed import Feed
from kraken_gateway.live.judging import has_missed, is_behind
from kraken_gateway.live.quiet import Doubt
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import BusStalledError, Outlet, candle_of

WORKERS = 2
"""Checks at the same time: most of REST's calls stay free for history."""

_WAITING = 100
_LOOK_SECONDS = 0.5
_ON_ITS_WAY_SECONDS = 2.0
_AGAIN_SECONDS = 10.0
_UNKNOWN_SECONDS = 60.0
_LONGEST_PAUSE = 10.0

log = get_logger(__name__)


class Verifier:
    """Asks REST for the symbols that feeds doubt.

    Where REST knows no more trades the doubt is over. Where it does, the feed is blind for the symbol: what was missed
    is published as history, and the connection is made anew (`blindness`); while the new one is blind too, the symbol
    is served from REST. `now` is Kraken's time (unix seconds).
    """

    def __init__(
        self,
        rest: KrakenRest,
        feeds: Callable[[], Collection[Feed]],
        outlet: Outlet,
        metrics: GatewayMetrics,
        blindness: Blindness,
        now: Callable[[], float],
    ) -> None:
        self._rest = rest
        self._feeds = feeds
        self._outlet = outlet
        self._metrics = metrics
        self._blindness = blindness
        self._now = now
        self._queue: asyncio.Queue[tuple[Feed, str]] = asyncio.Queue(_WAITING)
        self._taken: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._pairs: dict[str, Pair] = {}
        self._pairs_lock = asyncio.Lock()
        self._backoff = Backoff()

    async def run(self) -> None:
        """Check until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"verifier.{number}")
            while True:
                self._look()
                await asyncio.sleep(_LOOK_SECONDS)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        doubts = {symbol: (doubt, feed) for feed in self._feeds() for symbol, doubt in feed.doubts().items()}
        self._not_before = {symbol: at for symbol, at in self._not_before.items() if symbol in doubts}
        heard = {symbol for feed in self._feeds() for symbol in feed.silence()} - doubts.keys()
        for symbol in self._blindness.symbols & heard:
            self._blindness.over(symbol)
        # Whoever usually trades most often has the most to lose.
        for symbol, (_, feed) in sorted(doubts.items(), key=lambda item: item[1][0].silence):
            if symbol in self._taken or self._not_before.get(symbol, now) > now:
                continue
            if self._queue.full():
                # The others are looked at again in a moment.
                return
            self._taken.add(symbol)
            self._queue.put_nowait((feed, symbol))

    async def _work(self) -> None:
        while True:
            feed, symbol = await self._queue.get()
            try:
                await self._check(feed, symbol)
            finally:
                self._taken.discard(symbol)

    async def _check(self, feed: Feed, symbol: str) -> None:
        doubt = feed.doubts().get(symbol)
        if doubt is None:
            return
        try:
            pair = await self._pair(symbol)
            oldest = min(feed.seen(symbol), default=None)
            if oldest is None:
                return
            taken = self._now()
            rows = await self._rest.ohlc(pair, Timeframe.M1, oldest - 1)
        except UnknownPairError:
            # The list of pairs will say so, or the audit tells.
            self._put_off(symbol, _UNKNOWN_SECONDS, "unknown")
            return
        except RestError as error:
            log.info("doubt.unchecked", symbol=symbol, error=str(error))
            self._put_off(symbol, self._backoff.pause(cap=_LONGEST_PAUSE), "failed")
            return
        self._backoff.reset()
        await self._judge(feed, doubt, rows, taken)

    async def _judge(self, feed: Feed, doubt: Doubt, rows: tuple[OhlcRow, ...], taken: float) -> None:
        symbol = doubt.symbol
        told = {row.open_time: row.trades for row in rows if row.trades}
        seen = feed.seen(symbol)
        known = max(seen.items(), default=(0, 0))
        newest = max(told.items(), default=(0, 0))
        if not rows or rows[-1].open_time < Timeframe.M1.floor(taken) or newest < known:
            # It is older than what the feed has seen, so it tells nothing.
            self._put_off(symbol, _AGAIN_SECONDS, "stale")
            return
        if is_behind(seen, told):
            # What has just traded may still be on its way on the live connection.
            await asyncio.sleep(_ON_ITS_WAY_SECONDS)
            seen = feed.seen(symbol)
        blind = is_behind(seen, told)
        if blind and self._blindness.is_disputed(symbol, newest):
            log.info("doubt.disputed", feed=feed.name, symbol=symbol, rest=newest)
            blind = False
        if blind or has_missed(seen, told, taken - GRACE - Timeframe.M1.seconds):
            await self._publish(symbol, rows, taken)
        if blind:
            self._put_off(symbol, _AGAIN_SECONDS, "blind")
            self._blindness.found(feed, symbol, newest)
            return
        self._metrics.checks.labels("agreed").inc()
        self._blindness.over(symbol)
        feed.explain(doubt)

    def _put_off(self, symbol: str, seconds: float, outcome: str) -> None:
        self._metrics.checks.labels(outcome).inc()
        self._not_before[symbol] = asyncio.get_running_loop().time() + seconds

    async def _publish(self, symbol: str, rows: tuple[OhlcRow, ...], taken: float) -> None:
        candles = tuple(
            candle_of(
                _row(symbol, row),
                Source.REST,
                closed=row.open_time + Timeframe.M1.seconds <= taken - GRACE,
                at=self._now(),
            )
            for row in rows
            if row.trades and row.open_time < taken
        )
        history = History(symbol, Timeframe.M1, Source.REST, Range(rows[0].open_time, taken), candles)
        try:
            await self._outlet.history(history)
        except BusStalledError as error:
            log.warning("doubt.unheard", symbol=symbol, detail=str(error))

    async def _pair(self, symbol: str) -> Pair:
        async with self._pairs_lock:
            if symbol not in self._pairs:
                self._pairs = await self._rest.pairs()
            if symbol not in self._pairs:
                raise UnknownPairError(f"Kraken's AssetPairs has no {symbol}")
            return self._pairs[symbol]


def _row(symbol: str, row: OhlcRow) -> Row:
    return Row(
        symbol, Timeframe.M1, row.open_time, row.open, row.high, row.low, row.close, row.volume, row.vwap, row.trades
    )
