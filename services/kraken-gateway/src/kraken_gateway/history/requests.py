"""History requests: candles of the past by REST, at Kraken's pace."""

import asyncio
from collections.abc import Awaitable, Callable

from ingress_common.logs import get_logger
from ingress_common.model import History, HistoryRequest, Range
from ingress_common.timeframes import Timeframe
from kraken_gateway.history.answers import (
    latest_answer,
    latest_start,
    ohlc_answer,
    price_window,
    quiet_answer,
    trades_answer,
)
from kraken_gateway.history.backlog import Backlog, Job, Lane, Waiting
from kraken_gateway.history.bounds import longest
from kraken_gateway.history.ranges import aligned
from kraken_gateway.history.tickets import TicketOffice
from kraken_gateway.history.trades import TradeReading
from kraken_gateway.kraken.budget import Backoff
from kraken_gateway.kraken.rest import (
    CONCURRENCY,
    PAGE,
    KrakenAilingError,
    KrakenRest,
    Pair,
    RestError,
    TooManyRequestsError,
    UnknownPairError,
)
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import BusStalledError, Outlet

LONGEST_PAUSE = 10.0
"""Seconds between tries of what fails, at most."""

_PAIRS_SECONDS = 60.0

log = get_logger(__name__)


class HistoryRequests:
    """Answers history requests for our symbols: OHLC where it reaches, Trades for minutes further back.

    A range is answered in ascending order, a batch a call. What a batch has settled is not asked for again when a later
    call fails. Failures are tried again, with backoff and without end. `kraken_now` is Kraken's time (unix seconds),
    which also dates the candles: the moment before the call, because what came later may not be in the answer.
    """

    def __init__(
        self,
        rest: KrakenRest,
        outlet: Outlet,
        metrics: GatewayMetrics,
        owns: Callable[[str], bool],
        kraken_now: Callable[[], float],
    ) -> None:
        self._rest = rest
        self._outlet = outlet
        self._metrics = metrics
        self._owns = owns
        self._kraken_now = kraken_now
        self._steady = asyncio.get_running_loop().time
        self._office = TicketOffice()
        self._backlog = Backlog(kraken_now, self._steady, self._ready_at)
        self._wake = asyncio.Event()
        self._pairs: dict[str, Pair] = {}
        self._pairs_at = float("-inf")
        self._pairs_lock = asyncio.Lock()
        self._backoff = Backoff()
        self._trouble = ""

    @property
    def pending(self) -> int:
        """Ranges asked for and not yet answered."""
        return self._backlog.pending

    @property
    def oldest(self) -> float:
        """Seconds for which the oldest request has waited."""
        return self._backlog.oldest

    @property
    def trouble(self) -> str:
        """What REST calls fail with at present; empty if they do not."""
        return self._trouble

    def request(self, request: HistoryRequest, ack: Callable[[], None]) -> None:
        """Take a request; `ack` is called when its answers are with the broker, or after a while.

        RequestRefusedError if too much waits already; nothing of it is answered then, and `ack` is not called.
        """
        ours = [symbol for symbol in dict.fromkeys(request.symbols) if self._owns(symbol)]
        if not ours or request.range.end <= request.range.start:
            ack()
            return
        span = aligned(request.range, request.timeframe)
        self._backlog.add(ours, request.timeframe, span, lambda: self._office.issue(len(ours), ack))
        self._wake.set()

    def latest(self, symbol: str, timeframe: Timeframe) -> asyncio.Future[Awaitable[None] | None]:
        """Publish the latest windows, up to the time of the call: a seed from REST.

        Done when they are published, with an awaitable for when the broker has them; with None if Kraken does not know
        the symbol.
        """
        told = self._backlog.latest(symbol, timeframe)
        self._wake.set()
        return told

    def withdraw(self, symbol: str, timeframe: Timeframe) -> None:
        """Do not publish the latest windows after all, if that is still to be done."""
        self._backlog.withdraw(symbol, timeframe)

    async def run(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(CONCURRENCY):
                tasks.create_task(self._work(), name=f"history.{number}")

    async def _work(self) -> None:
        while True:
            job = await self._next()
            try:
                await self._do(job)
            finally:
                self._backlog.done(job)
                # Whoever waits for work may have seen this symbol busy.
                self._wake.set()

    async def _next(self) -> Job:
        while True:
            self._wake.clear()
            job = self._backlog.next()
            if isinstance(job, Job):
                return job
            try:
                async with asyncio.timeout_at(None if job == float("inf") else job):
                    await self._wake.wait()
            except TimeoutError:
                continue

    # --- one call ---

    async def _do(self, job: Job) -> None:
        waiting = job.waiting
        if not self._owns(waiting.symbol):
            self._backlog.drop(job)
            return
        left = job.take()
        try:
            pair = await self._pair(waiting.symbol)
            if job.lane is Lane.OHLC:
                await self._ask_ohlc(waiting, pair, left)
            else:
                await self._ask_trades(waiting, pair, left)
        except UnknownPairError as error:
            log.warning("history.unknown-pair", symbol=waiting.symbol, error=str(error))
            self._metrics.unanswerable.inc()
            self._backlog.drop(job)
            return
        except (RestError, BusStalledError) as error:
            self._fail(waiting, error)
        else:
            if self._trouble:
                log.info("history.works-again")
                self._trouble = ""
            self._backlog.not_before = float("-inf")
            self._backoff.reset()
            waiting.backoff.reset()
        waiting.put_back(left, self._kraken_now())

    def _fail(self, waiting: Waiting, error: Exception) -> None:
        now = self._steady()
        match error:
            case KrakenAilingError():
                self._backlog.not_before = now + self._backoff.pause(cap=LONGEST_PAUSE)
            case TooManyRequestsError():
                pass  # the pair's next call comes later by itself
            case _:
                waiting.not_before = now + waiting.backoff.pause(cap=LONGEST_PAUSE)
        self._metrics.rest_retries.inc()
        if str(error) != self._trouble:
            log.warning("history.failed", symbol=waiting.symbol, timeframe=waiting.timeframe.value, error=str(error))
        self._trouble = str(error)

    def _ready_at(self, symbol: str) -> float:
        pair = self._pairs.get(symbol)
        return self._rest.ready_at(pair) if pair else float("-inf")

    async def _pair(self, symbol: str) -> Pair:
        async with self._pairs_lock:
            now = self._steady()
            if symbol not in self._pairs and now - self._pairs_at >= _PAIRS_SECONDS:
                self._pairs = await self._rest.pairs()
                self._pairs_at = now
            if symbol not in self._pairs:
                raise UnknownPairError(f"Kraken's AssetPairs has no {symbol}")
            return self._pairs[symbol]

    # --- OHLC: one answer tells all ranges within its reach ---

    async def _ask_ohlc(self, waiting: Waiting, pair: Pair, left: list[Range]) -> None:
        """Publish what OHLC has of the ranges in `left`, and take out what is answered; the latest windows too, if they
        are wanted.
        """
        # Before the call: what trades while the answer is on its way may not be in it.
        taken = self._kraken_now()
        latest = waiting.latest if waiting.wants_latest else None
        starts = [int(span.start) for span in left[:1]] + ([latest_start(waiting.timeframe, taken)] if latest else [])
        if not starts:
            return
        rows = await self._rest.ohlc(pair, waiting.timeframe, min(starts) - 1)
        begins = float(rows[0].open_time) if rows else float(waiting.timeframe.ceil(taken))
        for span in tuple(left):
            if waiting.timeframe is Timeframe.M1 and begins > span.start:
                waiting.begins = begins
                continue
            await self._publish(ohlc_answer(waiting.symbol, waiting.timeframe, rows, span, taken))
            left.remove(span)
        if latest is not None:
            answer = latest_answer(waiting.symbol, waiting.timeframe, rows, taken)
            if waiting.timeframe is Timeframe.M1 and rows and not any(row.trades for row in rows):
                answer = await self._quiet(waiting.symbol, pair) or answer
            delivered = await self._outlet.history(answer)
            if not latest.done():
                latest.set_result(delivered)
            await delivered

    async def _quiet(self, symbol: str, pair: Pair) -> History | None:
        """A seed wants a minute that traded, so that there is a price; it may be days ago."""
        taken = self._kraken_now()
        page = await self._rest.latest_trades(pair)
        return quiet_answer(symbol, page.trades, pair.price_decimals, taken, full=len(page.trades) >= PAGE)

    # --- Trades: page by page, and before the first one the price then ---

    async def _ask_trades(self, waiting: Waiting, pair: Pair, left: list[Range]) -> None:
        """Publish what the next call tells of the one range in `left`, and shorten it by what is answered."""
        (span,) = left
        reading = waiting.readings.get(span.start)
        if reading is None:
            reading = await self._begin_reading(pair, span)
            waiting.readings[reading.done] = reading
            left[:] = [Range(reading.done, span.end)]
            return
        taken = self._kraken_now()
        page = await self._rest.trades(pair, reading.since)
        self._metrics.history_pages.inc()
        # A batch is never longer than a request, although the search for a price has made the range longer.
        furthest = reading.done + longest(Timeframe.M1)
        further, trades = reading.take(page, min(span.end, taken, waiting.reach(taken), furthest))
        if further.done > reading.done:
            covers = Range(reading.done, further.done)
            await self._publish(
                trades_answer(waiting.symbol, trades, covers, reading.price, pair.price_decimals, taken)
            )
        del waiting.readings[reading.done]
        waiting.readings[further.done] = further
        left[:] = [Range(further.done, span.end)] if further.done < min(span.end, taken) else []

    async def _begin_reading(self, pair: Pair, span: Range) -> TradeReading:
        """Find the price with which `span` begins; it may have to begin earlier for that."""
        window = price_window(span.start, self._kraken_now())
        if window is None:
            return TradeReading.begin(span.start, None)
        timeframe, open_time = window
        rows = await self._rest.ohlc(pair, timeframe, open_time - 1)
        told = rows and rows[0].open_time == open_time and rows[0].close
        return TradeReading.begin(open_time + timeframe.seconds, rows[0].close if told else None)

    async def _publish(self, history: History) -> None:
        delivered = await self._outlet.history(history)
        await delivered
