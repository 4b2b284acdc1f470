"""The self-check: stored minutes compared with Kraken's present ones.

It sends a history request, whose response also reaches the aggregators, so the response itself corrects a difference. A
later read of the store shows whether it did.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from admin_api.http.responses import time_of
from admin_api.reconciler.bodies import MinuteDifference, SelfCheckBody
from admin_api.reconciler.context import Context
from ingress_common.backoff import Backoff
from ingress_common.bus import BusClosedError, BusError
from ingress_common.health import Check
from ingress_common.logs import get_logger
from ingress_common.model import Candle, History, Range, Source
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_store import StoreUnavailableError

NEWEST_SECONDS = 120.0
"""Minutes newer than this are not compared: they may be on their way to the store."""

HOURS = 11
"""Number of hours that are compared, in turn: those that one OHLC response of 720 minutes covers for certain."""

RESPONSE_SECONDS = 20.0
"""Maximum wait for a response; a missing response is not a difference."""

RECHECK_SECONDS = 20.0
"""Time between two reads of the store while a difference is open."""

UNREPAIRED_SECONDS = 120.0
"""Maximum age of a difference; an older one makes `GET /health` red."""

SHOWN = 50
"""Maximum number of differences in `GET /health`, newest first."""

_MOST_OPEN = 1_000
_MOST_EMPTY = 20
_REQUEST_BACKOFF = Backoff(RECHECK_SECONDS, 600.0)
_LONGEST_PAUSE = 60.0
_FIELDS = ("open", "high", "low", "close", "volume", "trades")

log = get_logger(__name__)


class DifferenceKind(StrEnum):
    """How stored minutes differ: `missing` in the store, `different` numbers, `invented`: no such trades at Kraken."""

    MISSING = "missing"
    DIFFERENT = "different"
    INVENTED = "invented"


@dataclass(frozen=True, slots=True)
class Difference:
    """A minute whose stored candle differs from Kraken's. Times in unix seconds.

    `ended`: `repaired`, or `taken-back` if Kraken changed its response; None while the difference is open.
    """

    symbol: str
    open_time: int
    kind: DifferenceKind
    text: str
    found_at: float
    ended: str | None = None
    ended_at: float | None = None

    def body(self) -> MinuteDifference:
        """The entry in `GET /health`."""
        return MinuteDifference(
            symbol=self.symbol,
            open_time=rfc3339(self.open_time),
            kind=self.kind.value,
            what=self.text,
            at=rfc3339(self.found_at),
            ended=self.ended,
            ended_at=time_of(self.ended_at),
        )


def differences(
    symbol: str, span: Range, stored: Iterable[Candle], kraken: Iterable[Candle], now: float
) -> list[Difference]:
    """The differences of the stored minutes of `span` from Kraken's, oldest first.

    Minutes before the first stored one are left out: the series may begin there. `vwap` is not compared, because
    Kraken's back ends differ in it (`kraken-protocol.md`, fact 13). Numbers are compared in the store's precision.
    """
    ours = {candle.open_time: candle for candle in stored}
    theirs = {candle.open_time: candle for candle in kraken if candle.trades}
    if not ours:
        return []
    found = []
    for open_time in range(min(ours), Timeframe.M1.floor(span.end), Timeframe.M1.seconds):
        verdict = _compared(ours.get(open_time), theirs.get(open_time))
        if verdict is not None:
            found.append(Difference(symbol, open_time, *verdict, found_at=now))
    return found


def _compared(ours: Candle | None, theirs: Candle | None) -> tuple[DifferenceKind, str] | None:
    if ours is None:
        trades = theirs.trades if theirs else 0
        return DifferenceKind.MISSING, f"expected a candle of {trades} trades, got none"
    if theirs is None:
        return (DifferenceKind.INVENTED, f"expected no trades, got {ours.trades}") if ours.trades else None
    wrong = [name for name in _FIELDS if float(getattr(ours, name)) != float(getattr(theirs, name))]
    if not wrong:
        return None
    parts = [f"{name} {getattr(theirs, name)}, got {getattr(ours, name)}" for name in wrong]
    return DifferenceKind.DIFFERENT, f"expected {'; '.join(parts)}"


@dataclass(frozen=True, slots=True)
class _Recheck:
    """A range with differences, and Kraken's candles for it. The store is reread at `due` (unix seconds). The
    request for Kraken's minutes is repeated at `request_at`; `requests`: number of requests so far.
    """

    symbol: str
    span: Range
    kraken: tuple[Candle, ...]
    due: float
    request_at: float
    requests: int = 0


class _Response:
    """Collects the batches of a response until they cover the requested range."""

    def __init__(self, symbol: str, span: Range) -> None:
        self._symbol = symbol
        self._span = span
        self._covered: list[Range] = []
        self.candles: dict[int, Candle] = {}
        self.complete = asyncio.Event()

    def take(self, history: History) -> None:
        if history.symbol != self._symbol or history.timeframe is not Timeframe.M1:
            return
        if history.source not in (Source.REST, Source.TRADES):
            return
        self.candles.update((candle.open_time, candle) for candle in history.candles)
        self._covered.append(history.covers)
        known_to = self._span.start
        for covers in sorted(self._covered, key=lambda covers: covers.start):
            if covers.start <= known_to:
                known_to = max(known_to, covers.end)
        if known_to >= self._span.end:
            self.complete.set()


class SelfCheckMetrics:
    """Metrics of the self-check."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.checks = Counter(
            "ingress_self_checks",
            "Self-checks, by outcome: equal, differing, unanswered",
            ("outcome",),
            registry=registry,
        )
        self.candles = Counter("ingress_self_check_candles", "Stored 1m candles that were compared", registry=registry)
        self.differences = Counter(
            "ingress_self_check_differences", "Stored 1m candles that differed", ("kind",), registry=registry
        )
        self.unrepaired = Gauge(
            "ingress_self_check_unrepaired", "Stored 1m candles that differ and are not repaired yet", registry=registry
        )


class SelfCheck:
    """Every `seconds` compares one hour of one symbol, in turn over symbols and hours.

    The caller passes the history batches of the bus to `take`.
    """

    def __init__(self, context: Context, metrics: SelfCheckMetrics, seconds: float) -> None:
        self._context = context
        self._bus, self._store, self._clock = context.bus, context.store, context.clock
        self._metrics = metrics
        self._seconds = seconds
        self._response: _Response | None = None
        self._last_symbol = ""
        self._hour = 0
        self._backoff = Backoff(max(seconds, 1.0), max(_LONGEST_PAUSE, seconds))
        self._unanswered_in_a_row = 0
        self._checks = 0
        self._compared = 0
        self._unanswered = 0
        self._last_at: float | None = None
        self._open: dict[tuple[str, int], Difference] = {}
        self._ended: deque[Difference] = deque(maxlen=SHOWN)
        self._rechecks: list[_Recheck] = []
        metrics.unrepaired.set_function(self._open.__len__)

    def take(self, history: History) -> None:
        """Process a history batch."""
        if self._response is not None:
            self._response.take(history)

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self.look()
            except StoreUnavailableError as error:
                log.debug("self-check.paused", reason=str(error))

    def _pause(self) -> float:
        return self._backoff.pause(self._unanswered_in_a_row) if self._unanswered_in_a_row else self._seconds

    def check(self, now: float) -> Check:
        """Red while a difference is open for longer than UNREPAIRED_SECONDS."""
        old = sorted(
            (d for d in self._open.values() if now - d.found_at > UNREPAIRED_SECONDS), key=lambda d: d.found_at
        )
        if old:
            first = old[0]
            what = f"{first.symbol} {rfc3339(first.open_time)} {first.kind.value}: {first.text}"
            more = f" and {len(old) - 1} more" if len(old) > 1 else ""
            return Check("self_check", ok=False, detail=f"not repaired: {what}{more}")
        return Check("self_check", ok=True, detail=f"{self._checks} checks of {self._compared} candles")

    def body(self) -> SelfCheckBody:
        """The field `self_check` of `GET /health`."""
        newest = sorted([*self._open.values(), *self._ended], key=lambda d: -d.found_at)
        return SelfCheckBody(
            every_seconds=self._seconds,
            checks=self._checks,
            candles=self._compared,
            unanswered=self._unanswered,
            last_at=time_of(self._last_at),
            open=len(self._open),
            differences=[difference.body() for difference in newest[:SHOWN]],
        )

    # --- one look -----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Compare the next hour, or recheck those that differed; StoreUnavailableError if the store does not answer.

        After an outage of the store many differ until the writer has stored what waited.
        """
        due = [recheck for recheck in self._rechecks if recheck.due <= self._clock()]
        requested = False
        for recheck in due:
            may_request = not requested and recheck.request_at <= self._clock()
            requested |= await self._recheck(recheck, may_request=may_request)
        if due:
            return
        for _ in range(_MOST_EMPTY):
            target = self._next()
            if target is None or await self._compare(*target):
                return

    def _next(self) -> tuple[str, Range] | None:
        """The next symbol and hour; a new hour once all symbols are checked."""
        symbols = sorted(filter(self._context.owns, self._context.live()))
        if not symbols:
            return None
        later = [symbol for symbol in symbols if symbol > self._last_symbol]
        if not later:
            self._hour = (self._hour + 1) % HOURS
        self._last_symbol = later[0] if later else symbols[0]
        end = Timeframe.M1.floor(self._clock() - NEWEST_SECONDS) - self._hour * 3600
        return self._last_symbol, Range(end - 3600, end)

    async def _compare(self, symbol: str, span: Range) -> bool:
        """Compare a range and note the differences; False if the store has no candle in it."""
        stored = await self._stored(symbol, span)
        if not stored:
            return False
        # Request nothing before the first candle: responses are stored, and would add scattered history with gaps.
        span = Range(max(span.start, stored[0].open_time), span.end)
        kraken = await self._request(symbol, span)
        if kraken is None:
            return True
        found = differences(symbol, span, stored, kraken, self._clock())
        self._checks += 1
        self._compared += len(stored)
        self._last_at = self._clock()
        self._metrics.candles.inc(len(stored))
        self._metrics.checks.labels("differing" if found else "equal").inc()
        new = [difference for difference in found if (symbol, difference.open_time) not in self._open]
        for difference in new[: _MOST_OPEN - len(self._open)]:
            self._metrics.differences.labels(difference.kind.value).inc()
            log.warning(
                "self-check.differs",
                symbol=symbol,
                open_time=rfc3339(difference.open_time),
                kind=difference.kind.value,
                what=difference.text,
            )
            self._open[symbol, difference.open_time] = difference
        if new:
            due = self._clock() + RECHECK_SECONDS
            self._rechecks.append(_Recheck(symbol, span, kraken, due, request_at=due))
        return True

    async def _recheck(self, recheck: _Recheck, *, may_request: bool) -> bool:
        """Check whether differences have ended: repaired in the store, or taken back by Kraken.

        Returns whether Kraken's minutes were requested.
        """
        symbol, span = recheck.symbol, recheck.span
        stored = await self._stored(symbol, span)
        self._rechecks.remove(recheck)
        if stored:
            self._end(recheck, differences(symbol, span, stored, recheck.kraken, self._clock()), "repaired")
        requested = bool(may_request and stored and self._opened(recheck))
        if requested:
            kraken = await self._request(symbol, span)
            if kraken is not None:
                self._end(recheck, differences(symbol, span, stored, kraken, self._clock()), "taken-back")
                recheck = replace(recheck, kraken=kraken)
            requests = recheck.requests + 1
            recheck = replace(recheck, request_at=self._clock() + _REQUEST_BACKOFF.pause(requests), requests=requests)
        if self._opened(recheck):
            self._rechecks.append(replace(recheck, due=self._clock() + RECHECK_SECONDS))
        return requested

    def _opened(self, recheck: _Recheck) -> list[Difference]:
        return [
            difference
            for (symbol, open_time), difference in self._open.items()
            if symbol == recheck.symbol and recheck.span.start <= open_time < recheck.span.end
        ]

    def _end(self, recheck: _Recheck, still: Sequence[Difference], how: str) -> None:
        """End the open differences of a range that are not `still` there."""
        differing = {difference.open_time for difference in still}
        for difference in self._opened(recheck):
            if difference.open_time not in differing:
                del self._open[difference.symbol, difference.open_time]
                self._ended.append(replace(difference, ended=how, ended_at=self._clock()))
                log.info("self-check.ended", symbol=difference.symbol, open_time=rfc3339(difference.open_time), how=how)

    async def _stored(self, symbol: str, span: Range) -> list[Candle]:
        minutes = round((span.end - span.start) / 60)
        return await self._store.candles(symbol, Timeframe.M1, start=span.start, end=span.end, limit=minutes)

    async def _request(self, symbol: str, span: Range) -> tuple[Candle, ...] | None:
        """Kraken's minutes in `span`. Without a response in time: None, and longer pauses."""
        topic = self._context.topics.history(symbol, Timeframe.M1)
        self._response = response = _Response(symbol, span)
        subscribed = False
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                await self._bus.subscribe(topic)
                subscribed = True
                await self._context.request_history(symbol, Timeframe.M1, span)
                await response.complete.wait()
        except (TimeoutError, BusError, BusClosedError) as error:
            log.debug("self-check.unanswered", symbol=symbol, reason=str(error))
            self._unanswered += 1
            self._metrics.checks.labels("unanswered").inc()
            self._unanswered_in_a_row += 1
            return None
        finally:
            self._response = None
            if subscribed and self._bus.connected:
                await self._bus.unsubscribe(topic)
        self._unanswered_in_a_row = 0
        return tuple(response.candles.values())
