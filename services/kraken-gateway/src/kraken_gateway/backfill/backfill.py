"""History requests: past candles from REST, at Kraken's pace."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingress_common.backoff import Backoff
from ingress_common.logs import get_logger
from ingress_common.model import HistoryRequest, Range
from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.queue import BackfillQueue, Call, Endpoint, PendingBackfill
from kraken_gateway.backfill.ranges import aligned, longest
from kraken_gateway.backfill.responses import COMMITTED_ROWS, TradeReading, ohlc_history, price_window, trades_history
from kraken_gateway.kraken.rest import (
    CONCURRENCY,
    KrakenAilingError,
    KrakenRest,
    OhlcRow,
    Pair,
    RestError,
    TooManyRequestsError,
    UnknownPairError,
)
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher

_BACKOFF = Backoff(1.0, 10.0, jitter=(0.5, 1.0))

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why REST calls fail, and when the first of them began (steady clock)."""

    reason: str
    since: float


class Backfill:
    """Publishes the history that is requested of our symbols: OHLC where it reaches, Trades for minutes further back.

    A range is published in ascending order, one batch per call. A published batch is not re-requested when a later
    call fails. Failed calls are retried with backoff, without end. `kraken_now` is Kraken's time (unix seconds), which
    also dates the candles: the moment before the call, because what came later may not be in the response.
    """

    def __init__(
        self,
        rest: KrakenRest,
        publisher: Publisher,
        metrics: GatewayMetrics,
        owns: Callable[[str], bool],
        kraken_now: Callable[[], float],
    ) -> None:
        self._rest = rest
        self._publisher = publisher
        self._metrics = metrics
        self._owns = owns
        self._kraken_now = kraken_now
        self._steady = asyncio.get_running_loop().time
        self._queue = BackfillQueue(kraken_now, self._steady, rest.ready_at)
        self._wake = asyncio.Event()
        self._failures = 0
        self._failure: _Failure | None = None
        self._worked_at = float("-inf")

    @property
    def pending(self) -> int:
        """Ranges requested and not yet published."""
        return self._queue.pending

    @property
    def oldest(self) -> float:
        """Seconds for which the oldest request has waited."""
        return self._queue.oldest

    @property
    def problem(self) -> str:
        """Why REST calls fail at present; empty if they do not."""
        return self._failure.reason if self._failure else ""

    @property
    def failing(self) -> float:
        """Seconds since the first REST call for pending requests that failed began, if none has worked since."""
        return self._steady() - self._failure.since if self._failure and self.pending else 0.0

    def request(self, request: HistoryRequest) -> None:
        """Accept a request. RequestRefusedError if too much is waiting; nothing of it is published then."""
        ours = [symbol for symbol in dict.fromkeys(request.symbols) if self._owns(symbol)]
        if ours and request.range.start < request.range.end:
            self._queue.add(ours, request.timeframe, aligned(request.range, request.timeframe))
            self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(CONCURRENCY):
                tasks.create_task(self._work(), name=f"backfill.{number}")

    async def _work(self) -> None:
        while True:
            call = await self._next()
            try:
                await self._make(call)
            finally:
                self._queue.done(call)
                # Wake the workers: they may have found this pair busy.
                self._wake.set()

    async def _next(self) -> Call:
        while True:
            self._wake.clear()
            call = self._queue.next()
            if isinstance(call, Call):
                return call
            try:
                async with asyncio.timeout_at(None if call == float("inf") else call):
                    await self._wake.wait()
            except TimeoutError:
                continue

    # --- one call ---

    async def _make(self, call: Call) -> None:
        wanted = call.wanted
        if not self._owns(wanted.symbol):
            self._queue.drop(wanted.symbol)
            return
        left = call.take()
        began = self._steady()
        try:
            pair = await self._rest.pair(wanted.symbol)
            if call.endpoint is Endpoint.OHLC:
                await self._call_ohlc(wanted, pair, left)
            else:
                await self._call_trades(wanted, pair, left)
        except UnknownPairError as error:
            log.warning("backfill.unknown-pair", symbol=wanted.symbol, error=str(error))
            self._metrics.requests_unanswerable.inc()
            self._queue.drop(wanted.symbol)
            return
        except RestError as error:
            self._fail(wanted, error, began)
        else:
            if self._failure:
                log.info("backfill.recovered")
            self._failure, self._worked_at = None, self._steady()
            self._queue.not_before = float("-inf")
            self._failures = wanted.failures = 0
        wanted.put_back(left, self._kraken_now())

    def _fail(self, wanted: PendingBackfill, error: RestError, began: float) -> None:
        now = self._steady()
        match error:
            case KrakenAilingError():
                self._queue.not_before = now + _BACKOFF.pause(self._failures)
                self._failures += 1
            case TooManyRequestsError():
                pass  # the pair's pace delays its next call
            case _:
                wanted.not_before = now + _BACKOFF.pause(wanted.failures)
                wanted.failures += 1
        self._metrics.rest_retries.inc()
        if str(error) != self.problem:
            log.warning("backfill.failed", symbol=wanted.symbol, timeframe=wanted.timeframe.value, error=str(error))
        since = self._failure.since if self._failure else max(began, self._worked_at)
        self._failure = _Failure(str(error), since)

    async def _call_ohlc(self, wanted: PendingBackfill, pair: Pair, left: list[Range]) -> None:
        """Publish what OHLC has of the ranges in `left`, and remove it from them: one response serves all."""
        if not left:
            return
        # Before the call: the response may lack trades that happen meanwhile.
        taken = self._kraken_now()
        rows = await self._rest.ohlc(pair, wanted.timeframe, int(left[0].start) - 1)
        begins = float(rows[0].open_time) if rows else float(wanted.timeframe.ceil(taken))
        if wanted.timeframe is not Timeframe.M1 and rows and left[0].start < begins:
            begins = await self._known_from(pair, rows)
        for span in tuple(left):
            if wanted.timeframe is Timeframe.M1 and begins > span.start:
                wanted.begins = begins
                continue
            await self._publisher.history(ohlc_history(wanted.symbol, wanted.timeframe, rows, span, taken, begins))
            left.remove(span)

    async def _known_from(self, pair: Pair, rows: Sequence[OhlcRow]) -> float:
        """From when on (unix seconds) `rows` are complete: from the first row, or always if the pair has not traded
        before.
        """
        begins = float(rows[0].open_time)
        if len(rows) >= COMMITTED_ROWS:
            return begins
        first = await self._rest.first_trade(pair)
        return begins if first is None or first.time < begins else float("-inf")

    async def _call_trades(self, wanted: PendingBackfill, pair: Pair, left: list[Range]) -> None:
        """Publish what the next page has of the one range in `left`, and shorten the range by it.

        A call for the price at which the range begins precedes the first page.
        """
        (span,) = left
        reading = wanted.readings.get(span.start)
        if reading is None:
            reading = await self._begin_reading(pair, span)
            wanted.readings[reading.done] = reading
            left[:] = [Range(reading.done, span.end)]
            return
        taken = self._kraken_now()
        page = await self._rest.trades(pair, reading.since)
        self._metrics.backfill_pages.inc()
        # A batch is never longer than a request, although the search for a price has made the range longer.
        furthest = reading.done + longest(Timeframe.M1)
        further, trades = reading.take(page, min(span.end, taken, wanted.reach(taken), furthest))
        if further.done > reading.done:
            covers = Range(reading.done, further.done)
            await self._publisher.history(
                trades_history(wanted.symbol, trades, covers, reading.price, pair.price_decimals, taken)
            )
        del wanted.readings[reading.done]
        wanted.readings[further.done] = further
        left[:] = [Range(further.done, span.end)] if further.done < min(span.end, taken) else []

    async def _begin_reading(self, pair: Pair, span: Range) -> TradeReading:
        """Find the price with which `span` begins; it may have to begin earlier for that."""
        window = price_window(span.start, self._kraken_now())
        if window is None:
            return TradeReading.begin(span.start, None)
        timeframe, open_time = window
        rows = await self._rest.ohlc(pair, timeframe, open_time - 1)
        known = rows and rows[0].open_time == open_time and rows[0].close
        return TradeReading.begin(open_time + timeframe.seconds, rows[0].close if known else None)
