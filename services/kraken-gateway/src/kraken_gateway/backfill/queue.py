"""The history that is requested and not yet published, and the next REST call.

Each pair has a queue of its own. The unit of work is one call, so a request for many hours delays another one by one
call at most.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.ranges import LIMIT, RequestRefusedError, merged
from kraken_gateway.backfill.responses import TradeReading, reach_of

TRADES_AT_ONCE = 2
"""Calls for Trades at the same time: the others are kept free for OHLC, which responds at once."""

_OVERLAP_SECONDS = 600
"""Where a range begins at most this many seconds before a Trades reading's position, its part before that position is
skipped: it was published just now.

Aggregators repeat a request with a margin while a gap shrinks; without this the reading of a busy pair would restart
after every page. A requester that still lacks these minutes repeats its request.
"""


class Endpoint(Enum):
    """The Kraken endpoint that has a range."""

    OHLC = "ohlc"
    TRADES = "trades"


@dataclass(slots=True)
class PendingBackfill:
    """The requests for one symbol and timeframe, and since when they wait (steady seconds).

    `begins`: OHLC is known to have nothing before this (unix seconds), even where it should reach further. `readings`:
    the ranges that are being read from Trades, and how far; `in_hand`: the range whose page is on its way. `failures`:
    calls for it that failed in a row.
    """

    symbol: str
    timeframe: Timeframe
    since: float
    ranges: list[Range] = field(default_factory=list)
    not_before: float = float("-inf")
    failures: int = 0
    begins: float = float("-inf")
    readings: dict[float, TradeReading] = field(default_factory=dict)
    in_hand: Range | None = None

    def reach(self, now: float) -> float:
        """The time (unix seconds) from which OHLC serves requests at `now`; minus infinity for timeframes that cannot
        be built from Trades.
        """
        if self.timeframe is not Timeframe.M1:
            return float("-inf")
        return max(self.begins, reach_of(self.timeframe, now))

    def add(self, span: Range, now: float) -> None:
        """Request more. RequestRefusedError, and nothing changed, if that would be too many ranges."""
        new = self._without_what_is_read(span)
        far, near = self._sorted([*self.ranges, *([new] if new.start < new.end else [])], now)
        if max(len(far), len(near)) > LIMIT:
            raise RequestRefusedError(
                f"expected at most {LIMIT} waiting ranges of {self.symbol} {self.timeframe.value}, got one more"
            )
        self.ranges = far + near

    def has(self, endpoint: Endpoint, reach: float) -> bool:
        """Whether `endpoint` has any range; `reach` is that of 1m (unix seconds)."""
        if self.timeframe is not Timeframe.M1:
            return endpoint is Endpoint.OHLC and bool(self.ranges)
        reach = max(self.begins, reach)
        return any((span.start < reach) is (endpoint is Endpoint.TRADES) for span in self.ranges)

    def take_near(self, now: float) -> list[Range]:
        """Remove and return the ranges that one OHLC response can have, oldest first."""
        reach = self.reach(now)
        near = [span for span in self.ranges if span.start >= reach]
        self.ranges = [span for span in self.ranges if span.start < reach]
        return near

    def take_far(self, now: float) -> Range:
        """Remove and return the latest range that needs Trades."""
        reach = self.reach(now)
        latest = max((span for span in self.ranges if span.start < reach), key=lambda span: span.start)
        self.ranges.remove(latest)
        self.in_hand = latest
        return latest

    def put_back(self, spans: Iterable[Range], now: float) -> None:
        """Put back ranges that got no response, or only up to where `spans` begin."""
        self.in_hand = None
        far, near = self._sorted([*self.ranges, *spans], now)
        self.ranges = far + near
        # OHLC may turn out not to reach a near one any more: its reading then goes on.
        starts = {span.start for span in self.ranges}
        self.readings = {done: reading for done, reading in self.readings.items() if done in starts}

    def _without_what_is_read(self, span: Range) -> Range:
        """The parts of `span` that are not being read already; may be empty."""
        for done, reading in self.readings.items():
            if max(reading.begun, done - _OVERLAP_SECONDS) <= span.start < done < span.end:
                span = Range(done, span.end)
        if self.in_hand and self.in_hand.start <= span.start < self.in_hand.end:
            # Its response arrives after this request.
            span = Range(self.in_hand.end, span.end)
        return span

    def _sorted(self, spans: list[Range], now: float) -> tuple[list[Range], list[Range]]:
        """The ranges that need Trades, and the others: kept apart, so that the latter do not wait for the former."""
        reach = self.reach(now)
        far = merged((span for span in spans if span.start < reach), self.timeframe)
        return far, merged((span for span in spans if span.start >= reach), self.timeframe)


@dataclass(slots=True)
class _PairQueue:
    """All requests for one pair; one call at a time."""

    wanted: dict[Timeframe, PendingBackfill] = field(default_factory=dict)
    busy: bool = False
    last: Endpoint = Endpoint.OHLC

    def next(self, endpoint: Endpoint, steady: float, reach: float) -> PendingBackfill | None:
        """The symbol and timeframe to call `endpoint` for, the oldest request first."""
        ready = (w for w in self.wanted.values() if w.not_before <= steady and w.has(endpoint, reach))
        return min(ready, key=lambda wanted: wanted.since, default=None)


@dataclass(frozen=True, slots=True)
class Call:
    """One call to be made, as decided at `instant` (unix seconds, Kraken's time)."""

    wanted: PendingBackfill
    endpoint: Endpoint
    instant: float

    def take(self) -> list[Range]:
        """Remove and return the ranges of the call, oldest first: one for Trades, any number for OHLC."""
        if self.endpoint is Endpoint.OHLC:
            return self.wanted.take_near(self.instant)
        return [self.wanted.take_far(self.instant)]


class BackfillQueue:
    """All waiting requests, at most 2 x LIMIT ranges for each symbol and timeframe.

    `kraken_now`: Kraken's time (unix seconds); `steady`: a monotonic clock (seconds); `ready_at`: when the next call
    for a symbol may be made (steady seconds).
    """

    def __init__(
        self,
        kraken_now: Callable[[], float],
        steady: Callable[[], float],
        ready_at: Callable[[str], float],
    ) -> None:
        self._kraken_now = kraken_now
        self._steady = steady
        self._ready_at = ready_at
        self._pairs: dict[str, _PairQueue] = {}
        self._reading_trades = 0
        self.not_before = float("-inf")
        """No call before this (steady seconds): Kraken does not answer at present."""

    @property
    def pending(self) -> int:
        """Waiting ranges, and calls in progress."""
        return sum(len(wanted.ranges) for wanted in self._all()) + sum(pair.busy for pair in self._pairs.values())

    @property
    def oldest(self) -> float:
        """Seconds for which the oldest request has waited; 0 if none does."""
        now = self._steady()
        return max((now - wanted.since for wanted in self._all()), default=0.0)

    def add(self, symbols: Iterable[str], timeframe: Timeframe, span: Range) -> None:
        """Request `span` of `symbols`. RequestRefusedError, without any change, if too much is waiting."""
        now = self._kraken_now()
        before: list[tuple[PendingBackfill, list[Range]]] = []
        for symbol in symbols:
            pair = self._pairs.setdefault(symbol, _PairQueue())
            wanted = pair.wanted.setdefault(timeframe, PendingBackfill(symbol, timeframe, self._steady()))
            before.append((wanted, wanted.ranges))
            try:
                wanted.add(span, now)
            except RequestRefusedError:
                for touched, ranges in before:
                    touched.ranges = ranges
                    self._forget_if_empty(touched)
                raise

    def next(self) -> Call | float:
        """Return the call to make now and count it as begun. If none is due, return the time of the next one (steady
        seconds), infinity if nothing waits.
        """
        now, instant = self._steady(), self._kraken_now()
        reach = reach_of(Timeframe.M1, instant)
        may_read = self._reading_trades < TRADES_AT_ONCE
        ohlc: tuple[_PairQueue, Call] | None = None
        for symbol, pair in self._pairs.items():
            if pair.busy or now < max(self.not_before, self._ready_at(symbol)):
                continue
            far = pair.next(Endpoint.TRADES, now, reach) if may_read else None
            near = pair.next(Endpoint.OHLC, now, reach)
            # The endpoints take turns, so that neither blocks the other for this pair.
            if far and (pair.last is Endpoint.OHLC or near is None):
                return self._begin(pair, Call(far, Endpoint.TRADES, instant))
            if ohlc is None and near:
                ohlc = pair, Call(near, Endpoint.OHLC, instant)
        return self._begin(*ohlc) if ohlc else self._soonest(now)

    def done(self, call: Call) -> None:
        """Note that the call has ended, whatever its result."""
        pair = self._pairs[call.wanted.symbol]
        pair.busy = False
        self._reading_trades -= call.endpoint is Endpoint.TRADES
        for wanted in list(pair.wanted.values()):
            self._forget_if_empty(wanted)

    def drop(self, symbol: str) -> None:
        """Drop all requests for `symbol`."""
        for wanted in self._pairs[symbol].wanted.values():
            wanted.ranges = []

    def _soonest(self, now: float) -> float:
        """The next time (steady seconds) at which a call that must wait now may be made."""
        times = (
            max(self.not_before, self._ready_at(symbol), wanted.not_before)
            for symbol, pair in self._pairs.items()
            if not pair.busy
            for wanted in pair.wanted.values()
        )
        return min((time for time in times if time > now), default=float("inf"))

    def _begin(self, pair: _PairQueue, call: Call) -> Call:
        # Move it to the end: the pairs are in the order of their last call.
        self._pairs[call.wanted.symbol] = self._pairs.pop(call.wanted.symbol)
        pair.busy, pair.last = True, call.endpoint
        self._reading_trades += call.endpoint is Endpoint.TRADES
        return call

    def _all(self) -> Iterator[PendingBackfill]:
        return (wanted for pair in self._pairs.values() for wanted in pair.wanted.values())

    def _forget_if_empty(self, wanted: PendingBackfill) -> None:
        pair = self._pairs.get(wanted.symbol)
        if wanted.ranges or pair is None or pair.busy:
            return
        pair.wanted.pop(wanted.timeframe, None)
        if not pair.wanted:
            del self._pairs[wanted.symbol]
