"""History requests: candles of the past by REST, at Kraken's pace."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ingress_common.logs import get_logger
from ingress_common.model import GRACE, Candle, History, HistoryRequest, Range, Source
from ingress_common.timeframes import Timeframe
from kraken_gateway.budget import Backoff
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import BusStalledError, Outlet, candle_of
from kraken_gateway.protocol import Row
from kraken_gateway.ranges import aligned, merged
from kraken_gateway.rest import CONCURRENCY, KrakenRest, OhlcRow, Pair, RestError, Trade, UnknownPairError
from kraken_gateway.tickets import Ticket, TicketOffice
from kraken_gateway.trades import candles_of

COMMITTED_ROWS = 720
"""Committed candles that OHLC gives at most."""

_MARGIN_ROWS = 2
_PAIRS_SECONDS = 600.0

log = get_logger(__name__)

Key = tuple[str, Timeframe]


@dataclass(slots=True)
class _Waiting:
    """What is asked for of one symbol and timeframe."""

    ranges: list[Range] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    not_before: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)


class HistoryRequests:
    """Answers history requests for our symbols: OHLC where it reaches, Trades for minutes further back.

    `kraken_now` is Kraken's time (unix seconds), `clock` ours. Failures are tried again, with backoff and without end.
    What waits is bounded by the symbols and timeframes there are, and by LIMIT ranges for each.
    """

    def __init__(
        self,
        rest: KrakenRest,
        outlet: Outlet,
        metrics: GatewayMetrics,
        owns: Callable[[str], bool],
        kraken_now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._rest = rest
        self._outlet = outlet
        self._metrics = metrics
        self._owns = owns
        self._kraken_now = kraken_now
        self._clock = clock
        self._office = TicketOffice()
        self._waiting: dict[Key, _Waiting] = {}
        self._busy: set[Key] = set()
        self._wake = asyncio.Event()
        self._pairs: dict[str, Pair] = {}
        self._pairs_at = float("-inf")
        self._pairs_lock = asyncio.Lock()
        self._trouble = ""

    @property
    def pending(self) -> int:
        """Ranges asked for and not yet answered."""
        return sum(len(waiting.ranges) for waiting in self._waiting.values())

    @property
    def trouble(self) -> str:
        """What REST calls fail with at present; empty if they do not."""
        return self._trouble

    def request(self, request: HistoryRequest, ack: Callable[[], None]) -> None:
        """Take a request; `ack` is called when its answers are with the broker."""
        ours = [symbol for symbol in dict.fromkeys(request.symbols) if self._owns(symbol)]
        if not ours or request.range.end <= request.range.start:
            ack()
            return
        ticket = self._office.issue(len(ours), ack)
        span = aligned(request.range, request.timeframe)
        for symbol in ours:
            waiting = self._waiting.setdefault((symbol, request.timeframe), _Waiting())
            waiting.ranges = merged([*waiting.ranges, span], request.timeframe)
            waiting.tickets.append(ticket)
        self._wake.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(CONCURRENCY):
                tasks.create_task(self._work(), name=f"history.{number}")

    async def _work(self) -> None:
        while True:
            key = await self._next()
            self._busy.add(key)
            try:
                await self._answer(key)
            finally:
                self._busy.discard(key)
                # Whoever waits for work may have seen this key busy.
                self._wake.set()

    async def _next(self) -> Key:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            free = [(waiting.not_before, key) for key, waiting in self._waiting.items() if key not in self._busy]
            if free:
                not_before, key = min(free, key=lambda item: item[0])
                if not_before <= loop.time():
                    return key
            until = min((at for at, _ in free), default=float("inf"))
            try:
                async with asyncio.timeout_at(None if until == float("inf") else until):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _answer(self, key: Key) -> None:
        symbol, timeframe = key
        waiting = self._waiting[key]
        if not self._owns(symbol):
            self._finish(key)
            return
        span = waiting.ranges.pop(0)
        # What comes in from now on is not part of this answer.
        tickets, waiting.tickets = waiting.tickets, []
        try:
            pair = await self._pair(symbol)
            await self._answer_range(symbol, timeframe, pair, span)
        except UnknownPairError as error:
            log.warning("history.unknown-pair", symbol=symbol, error=str(error))
            self._metrics.unanswerable.inc()
            waiting.tickets = tickets + waiting.tickets
            self._finish(key)
            return
        except (RestError, BusStalledError) as error:
            self._retry(key, span, tickets, error)
            return
        if self._trouble:
            log.info("history.works-again")
            self._trouble = ""
        waiting.backoff.reset()
        if waiting.ranges:
            waiting.tickets = tickets + waiting.tickets
            return
        for ticket in tickets:
            ticket.done()
        del self._waiting[key]

    def _finish(self, key: Key) -> None:
        for ticket in self._waiting.pop(key).tickets:
            ticket.done()

    def _retry(self, key: Key, span: Range, tickets: list[Ticket], error: Exception) -> None:
        waiting = self._waiting[key]
        waiting.ranges = merged([span, *waiting.ranges], key[1])
        waiting.tickets = tickets + waiting.tickets
        waiting.not_before = asyncio.get_running_loop().time() + waiting.backoff.pause()
        self._metrics.rest_retries.inc()
        if str(error) != self._trouble:
            log.warning("history.failed", symbol=key[0], timeframe=key[1].value, error=str(error))
        self._trouble = str(error)

    async def _pair(self, symbol: str) -> Pair:
        async with self._pairs_lock:
            now = asyncio.get_running_loop().time()
            if symbol not in self._pairs and now - self._pairs_at >= _PAIRS_SECONDS:
                self._pairs = await self._rest.pairs()
                self._pairs_at = now
            if symbol not in self._pairs:
                raise UnknownPairError(f"Kraken's AssetPairs has no {symbol}")
            return self._pairs[symbol]

    # --- one range ---

    async def _answer_range(self, symbol: str, timeframe: Timeframe, pair: Pair, span: Range) -> None:
        """Publish what is known of `span`, and wait until the broker has it."""
        reach = timeframe.floor(self._kraken_now()) - (COMMITTED_ROWS - _MARGIN_ROWS) * timeframe.seconds
        if timeframe is Timeframe.M1 and span.start < reach:
            await self._answer_by_trades(symbol, pair, span)
            return
        known_from = await self._answer_by_ohlc(symbol, timeframe, pair, span)
        if timeframe is Timeframe.M1 and known_from > span.start:
            await self._answer_by_trades(symbol, pair, Range(span.start, min(known_from, span.end)))

    async def _answer_by_ohlc(self, symbol: str, timeframe: Timeframe, pair: Pair, span: Range) -> float:
        """Publish what OHLC has of `span`; gives from when on it is known (unix seconds)."""
        # Before the call: what trades while the answer is on its way may not be in it.
        taken = self._kraken_now()
        rows = await self._rest.ohlc(pair, timeframe, int(span.start) - 1)
        end = min(span.end, taken)
        known_from = max(span.start, float(rows[0].open_time)) if rows else end
        if known_from >= end:
            # Nothing of it can be told; an answer that covers nothing says so.
            await self._publish(symbol, timeframe, Source.REST, Range(end, end), ())
            return end
        candles = tuple(
            candle_of(
                _row(symbol, timeframe, row),
                Source.REST,
                closed=row.open_time + timeframe.seconds <= taken - GRACE,
                at=self._clock(),
            )
            for row in rows
            if row.trades and known_from <= row.open_time < end
        )
        await self._publish(symbol, timeframe, Source.REST, Range(known_from, end), candles)
        return known_from

    async def _answer_by_trades(self, symbol: str, pair: Pair, span: Range) -> None:
        """Publish the minutes of `span`, rebuilt from trades, as far as each page settles them."""
        taken = self._kraken_now()
        end = min(span.end, taken)
        done = span.start
        trades: list[Trade] = []
        newest = -1
        since = int(span.start) * 10**9 - 1
        while done < end:
            page = await self._rest.trades(pair, since)
            fresh = [trade for trade in page.trades if trade.number > newest]
            newest = max((trade.number for trade in fresh), default=newest)
            trades += [trade for trade in fresh if span.start <= trade.time < end]
            # A page ends in the middle of a minute; without anything new, or beyond the range, there is no more to
            # come.
            over = not fresh or any(trade.time >= end for trade in fresh)
            settled = end if over else float(Timeframe.M1.floor(int(fresh[-1].time)))
            # One back, because trades of the same nanosecond may be cut apart; `fresh` leaves out what was seen.
            since = page.last - 1
            if settled <= done:
                continue
            candles = tuple(
                candle_of(row, Source.TRADES, closed=row.open_time + 60 <= taken - GRACE, at=self._clock())
                for row in candles_of(symbol, [t for t in trades if t.time < settled], pair.price_decimals)
            )
            await self._publish(symbol, Timeframe.M1, Source.TRADES, Range(done, settled), candles)
            trades = [trade for trade in trades if trade.time >= settled]
            done = settled

    async def _publish(
        self, symbol: str, timeframe: Timeframe, source: Source, covers: Range, candles: tuple[Candle, ...]
    ) -> None:
        delivered = await self._outlet.history(History(symbol, timeframe, source, covers, candles))
        await delivered


def _row(symbol: str, timeframe: Timeframe, row: OhlcRow) -> Row:
    return Row(
        symbol, timeframe, row.open_time, row.open, row.high, row.low, row.close, row.volume, row.vwap, row.trades
    )
