"""`crypto-ingress backfill`: fills gaps in past minutes from Kraken's trades, one day at a time.

It requests only what the store lacks, so it can be stopped and repeated at any point.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import polars as pl

from crypto_ingress.errors import CommandError
from crypto_ingress.history.importing import Importer
from crypto_ingress.history.kraken_rest import with_retries
from crypto_ingress.history.reading import exact_rows
from crypto_ingress.history.reports import SymbolReport
from crypto_ingress.history.stored import StoredNumberError, expect_numbers, stored_candles
from crypto_ingress.history.trades import minutes_of_trades
from crypto_ingress.history.weeks import Weeks
from ingress_common.bus import Bus, Message
from ingress_common.decimals import plain
from ingress_common.model import GRACE, Candle, HistoryRequest, Source
from ingress_common.payloads import decode_history, encode_history_request
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import CandleStore
from kraken_gateway.backfill.responses import plain_price
from kraken_gateway.kraken.rest import KrakenRest, Pair, Trade

_Range = tuple[int, int]
"""A half-open range of time (unix seconds)."""

_DAY, _MINUTE = Timeframe.D1.seconds, Timeframe.M1.seconds
_NANOSECONDS = 10**9
_PAGE = 1000
_RESPONSE_SECONDS = 120.0
_AT_ONCE = 4


class MinuteSource(Protocol):
    """A source of a symbol's minutes with trades."""

    async def minutes(self, symbol: str, start: int, end: int) -> pl.DataFrame:
        """Minutes with trades that open in [start, end), in the columns of `reading.Block`. CommandError on failure."""
        ...


class TradesByRest:
    """Requests trades from Kraken's REST API, page by page, within the rate limit of `rest`."""

    def __init__(self, rest: KrakenRest, pairs: dict[str, Pair]) -> None:
        self._rest = rest
        self._pairs = pairs

    async def minutes(self, symbol: str, start: int, end: int) -> pl.DataFrame:
        """Minutes built from Kraken's trades. CommandError if Kraken does not know the symbol or does not respond."""
        if symbol not in self._pairs:
            raise CommandError(f"{symbol}: Kraken's AssetPairs has no such pair")
        pair = self._pairs[symbol]
        found: list[Trade] = []
        before: frozenset[Trade] = frozenset()
        since = start * _NANOSECONDS - 1
        while True:
            page = await with_retries(lambda since=since: self._rest.trades(pair, since))  # type: ignore[misc]
            fresh = [trade for trade in page.trades if trade not in before]
            found += fresh
            before = frozenset(page.trades)
            over = not page.trades or page.trades[-1].time >= end or len(page.trades) < _PAGE
            if over or page.last is None:
                break
            # Repeat one nanosecond, because a page may split its trades; skip it after a page with only known trades.
            since = page.last - 1 if fresh else page.last
        # Trades of one order have one time; their numbers give their order, or without numbers the response does.
        inside = sorted(
            (trade for trade in found if start <= trade.time < end),
            key=lambda trade: (trade.time, trade.number),
        )
        return minutes_of_trades(
            [(str(t.time), plain(plain_price(t.price, pair.price_decimals)), plain(t.volume)) for t in inside]
        )


class HistoryByGateway:
    """Requests history from the gateway over the bus, so that only one process uses Kraken's rate limit."""

    def __init__(self, bus: Bus, topics: Topics) -> None:
        self._bus = bus
        self._topics = topics
        self._waiting: dict[str, _BackfillResponse] = {}

    @asynccontextmanager
    async def open(self, symbols: Sequence[str]) -> AsyncIterator[None]:
        """Receive the history of `symbols` inside the context."""
        async with self._bus, asyncio.TaskGroup() as tasks:
            await self._bus.subscribe(*(self._topics.history(symbol, Timeframe.M1) for symbol in symbols))
            listening = tasks.create_task(self._listen(), name="backfill.listen")
            yield
            listening.cancel()

    async def minutes(self, symbol: str, start: int, end: int) -> pl.DataFrame:
        """Minutes that the gateway publishes, also to the aggregator. CommandError if it does not respond in 120 s."""
        response = self._waiting[symbol] = _BackfillResponse(start, end)
        request = HistoryRequest((symbol,), Timeframe.M1, float(start), float(end))
        await self._bus.publish(self._topics.history_requests(), encode_history_request(request))
        try:
            while not response.whole:
                async with asyncio.timeout(_RESPONSE_SECONDS):
                    await response.moved()
        except TimeoutError:
            raise CommandError(
                f"{symbol}: expected the gateway to respond within {_RESPONSE_SECONDS:.0f} s, got nothing; "
                "it serves the pairs of its SYMBOLS (without MQTT_URL this command requests from Kraken directly)"
            ) from None
        finally:
            del self._waiting[symbol]
        return response.minutes()

    async def _listen(self) -> None:
        async for event in self._bus.events():
            if isinstance(event, Message):
                event.ack()
                history = decode_history(event.payload)
                response = self._waiting.get(history.symbol)
                if response is not None:
                    response.take(history.covers.start, history.covers.end, history.candles)


class _BackfillResponse:
    """The batches received for a range, in ascending order."""

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._end = end
        self._covered: float = start
        self._candles: dict[int, Candle] = {}
        self._moved = asyncio.Event()

    @property
    def whole(self) -> bool:
        return self._covered >= self._end

    async def moved(self) -> None:
        await self._moved.wait()
        self._moved.clear()

    def take(self, start: float, end: float, candles: Sequence[Candle]) -> None:
        if start <= self._covered < end:
            self._covered = end
        self._candles |= {c.open_time: c for c in candles if c.trades and self._start <= c.open_time < self._end}
        self._moved.set()

    def minutes(self) -> pl.DataFrame:
        names = ("open", "high", "low", "close", "volume")
        texts = [
            (c.open_time, *(plain(getattr(c, name)) for name in names), c.trades, plain(c.vwap))
            for _, c in sorted(self._candles.items())
        ]
        schema = {"time": pl.Int64(), **dict.fromkeys(names, pl.String()), "trades": pl.Int64(), "vwap": pl.String()}
        return exact_rows(pl.DataFrame(texts, schema=schema, orient="row"))


class Backfiller:
    """Fills gaps in the minutes of some symbols. `clock`: unix seconds. `progress` gets days done and days in total."""

    def __init__(
        self, store: CandleStore, source: MinuteSource, clock: Callable[[], float], progress: Callable[[int, int], None]
    ) -> None:
        self._store = store
        self._source = source
        self._clock = clock
        self._progress = progress
        self._importer = Importer(store, clock, lambda *_: None)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self, symbols: Sequence[str], start: int, end: int | None) -> list[SymbolReport]:
        """Fill the days from `start` up to `end`, default now; several symbols at once, each day by day.

        A minute that ended within the grace may still get trades.
        """
        final_until = self._clock() - GRACE
        begin, stop = (
            Timeframe.M1.floor(start),
            Timeframe.M1.floor(final_until if end is None else min(end, final_until)),
        )
        gaps = {symbol: await self._gaps(symbol, begin, stop) for symbol in symbols}
        total, done = sum(map(len, gaps.values())), 0
        reports = [SymbolReport(symbol) for symbol in symbols]

        async def fill(report: SymbolReport) -> None:
            nonlocal done
            inactive: _Range | None = None
            async with self._slots:
                for first, last in gaps[report.symbol]:
                    try:
                        inactive = await self._fill(report, first, last, inactive)
                    except StoredNumberError as error:
                        raise CommandError(f"{report.symbol} 1m {error}") from None
                    done += 1
                    self._progress(done, total)

        try:
            async with asyncio.TaskGroup() as tasks:
                for report in reports:
                    tasks.create_task(fill(report), name=f"backfill.{report.symbol}")
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return reports

    async def _gaps(self, symbol: str, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of days that lack minutes: from the day's first absent minute to its last one."""
        series = self._store.series(symbol, Timeframe.M1)
        found = []
        for day in range(Timeframe.D1.floor(start), end, _DAY):
            first, last = max(day, start), min(day + _DAY, end)
            # Forming and misaligned rows are no minutes, so a number of rows would not do.
            there = set((await stored_candles(series, first, last, ("time", "closed"))).filter("closed")["time"])
            absent = [time for time in range(first, last, _MINUTE) if time not in there]
            if absent:
                found.append((absent[0], absent[-1] + _MINUTE))
        return found

    async def _fill(self, report: SymbolReport, start: int, end: int, inactive: _Range | None) -> _Range | None:
        """Fill one gap. `inactive`, also the result: the last range without trades before the first known price."""
        received = self._clock()
        minutes = await self._source.minutes(report.symbol, start, end)
        series = self._store.series(report.symbol, Timeframe.M1)
        earlier = expect_numbers((await stored_candles(series, start - _MINUTE, start)).filter("closed"))
        before = earlier["close"][0] if earlier.height else None
        if before is None:
            # No price is known before the first trade.
            begin = inactive[0] if inactive is not None and inactive[1] == start else start
            start = minutes["time"][0] if minutes.height else end
            inactive = begin, start
        if before is not None or minutes.height:
            piece = Weeks(start, end, minutes, before, True, (), (), 0)
            await self._importer.add(piece, Source.TRADES, received, report, inactive)
        return inactive
