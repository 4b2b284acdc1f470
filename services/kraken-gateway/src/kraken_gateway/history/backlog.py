"""What history is asked for and not yet answered, and which call to REST is to be made next.

The unit of work is one call, so a request for many hours never keeps another one waiting for longer than that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from kraken_gateway.history.answers import reach_of
from kraken_gateway.history.bounds import RequestRefusedError
from kraken_gateway.history.ranges import LIMIT, merged
from kraken_gateway.history.tickets import Ticket
from kraken_gateway.history.trades import TradeReading
from kraken_gateway.kraken.budget import Backoff

TRADES_AT_ONCE = 2
"""Calls for Trades at the same time: the others are kept free for OHLC, which answers at once."""


_OVERLAP_SECONDS = 600
"""What is asked for again this shortly before the place that a reading of Trades has come to was answered just now.

Aggregators ask for some minutes before a gap, and again while it shrinks. Without this a busy pair's reading would
begin anew after every page. Who has really missed those minutes goes on asking.
"""


class Lane(Enum):
    """How a range is answered."""

    OHLC = "ohlc"
    TRADES = "trades"


@dataclass(slots=True)
class Waiting:
    """What is asked for of one symbol and timeframe, since when (steady seconds), and whom to tell.

    `begins`: OHLC is known to have nothing before this (unix seconds), even where it should reach further.
    `latest`: done when the latest windows are told, whatever they are then; None if nobody has asked for them.
    `readings`: the ranges that are being read from Trades, by how far they have come; `in_hand`: the one of which a
    page is on its way.
    """

    symbol: str
    timeframe: Timeframe
    since: float
    ranges: list[Range] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    not_before: float = float("-inf")
    backoff: Backoff = field(default_factory=Backoff)
    begins: float = float("-inf")
    latest: asyncio.Future[Awaitable[None] | None] | None = None
    readings: dict[float, TradeReading] = field(default_factory=dict)
    in_hand: Range | None = None

    def reach(self, now: float) -> float:
        """From when on (unix seconds) OHLC is asked at `now`; all of the time for timeframes that Trades do not
        make.
        """
        if self.timeframe is not Timeframe.M1:
            return float("-inf")
        return max(self.begins, reach_of(self.timeframe, now))

    def add(self, spans: list[Range], now: float) -> None:
        """Ask for more. RequestRefusedError, and nothing changed, if that would be too many ranges."""
        news = [rest for span in spans if (rest := self._news(span)).start < rest.end]
        far, near = self._sorted([*self.ranges, *news], now)
        if max(len(far), len(near)) > LIMIT:
            raise RequestRefusedError(
                f"expected at most {LIMIT} ranges of {self.symbol} {self.timeframe.value} to wait, got one more"
            )
        self.ranges = far + near

    def _news(self, span: Range) -> Range:
        """What of `span` is not being read already; may be empty."""
        for done, reading in self.readings.items():
            if max(reading.begun, done - _OVERLAP_SECONDS) <= span.start < done < span.end:
                span = Range(done, span.end)
        if self.in_hand and self.in_hand.start <= span.start < self.in_hand.end:
            # Its answer comes later than the wish.
            span = Range(self.in_hand.end, span.end)
        return span

    def _sorted(self, spans: list[Range], now: float) -> tuple[list[Range], list[Range]]:
        """Those that Trades are needed for, and the others: kept apart, so that these do not wait for those."""
        reach = self.reach(now)
        far = merged((span for span in spans if span.start < reach), self.timeframe)
        return far, merged((span for span in spans if span.start >= reach), self.timeframe)

    def waits(self, lane: Lane, reach: float) -> bool:
        """Whether anything is to be answered in that way; `reach` is that of 1m (unix seconds)."""
        if lane is Lane.OHLC and self.wants_latest:
            return True
        if self.timeframe is not Timeframe.M1:
            return lane is Lane.OHLC and bool(self.ranges)
        reach = max(self.begins, reach)
        return any((span.start < reach) is (lane is Lane.TRADES) for span in self.ranges)

    @property
    def idle(self) -> bool:
        """Whether nothing is asked for."""
        return not self.ranges and not self.wants_latest

    @property
    def wants_latest(self) -> bool:
        """Whether somebody waits for the latest windows."""
        return self.latest is not None and not self.latest.done()

    def take_near(self, now: float) -> list[Range]:
        """Take out the ranges that one OHLC answer tells, oldest first."""
        reach = self.reach(now)
        near = [span for span in self.ranges if span.start >= reach]
        self.ranges = [span for span in self.ranges if span.start < reach]
        return near

    def take_far(self, now: float) -> Range:
        """Take out the latest range that Trades are needed for."""
        reach = self.reach(now)
        latest = max((span for span in self.ranges if span.start < reach), key=lambda span: span.start)
        self.ranges.remove(latest)
        self.in_hand = latest
        return latest

    def put_back(self, spans: list[Range], now: float) -> None:
        """What was taken out is not answered after all, or only up to where `spans` begin."""
        self.in_hand = None
        far, near = self._sorted([*self.ranges, *spans], now)
        self.ranges = far + near
        starts = {span.start for span in far}
        self.readings = {done: reading for done, reading in self.readings.items() if done in starts}


@dataclass(slots=True)
class _Line:
    """All that is asked for of one symbol, of which one call at a time is made."""

    waiting: dict[Timeframe, Waiting] = field(default_factory=dict)
    busy: bool = False
    last: Lane = Lane.OHLC

    def far(self, steady: float, reach: float) -> Waiting | None:
        """What Trades are to be asked for."""
        minutes = self.waiting.get(Timeframe.M1)
        ready = minutes is not None and minutes.not_before <= steady and minutes.waits(Lane.TRADES, reach)
        return minutes if ready else None

    def near(self, steady: float, reach: float) -> Waiting | None:
        """What OHLC is to be asked for, the oldest wish first."""
        found: Waiting | None = None
        for waiting in self.waiting.values():
            if (found is None or waiting.since < found.since) and waiting.not_before <= steady:
                found = waiting if waiting.waits(Lane.OHLC, reach) else found
        return found


@dataclass(frozen=True, slots=True)
class Job:
    """One call to be made, as decided at `instant` (unix seconds, Kraken's time)."""

    waiting: Waiting
    lane: Lane
    instant: float

    def take(self) -> list[Range]:
        """Take out the ranges that the call is for, oldest first: one for Trades; any number for OHLC, where it may be
        for the latest windows only.
        """
        if self.lane is Lane.OHLC:
            return self.waiting.take_near(self.instant)
        return [self.waiting.take_far(self.instant)]


class Backlog:
    """All that waits: bounded by the symbols and timeframes there are, and 2 x LIMIT ranges for each.

    `kraken_now`: Kraken's time (unix seconds); `steady`: a clock that never steps (seconds); `ready_at`: when a symbol
    may be asked for again (steady seconds).
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
        self._lines: dict[str, _Line] = {}
        self._reading_trades = 0
        self.not_before = float("-inf")
        """No call before this (steady seconds): Kraken does not answer at present."""

    @property
    def pending(self) -> int:
        """Ranges that wait, and calls that are being made."""
        return sum(len(waiting.ranges) + waiting.wants_latest for waiting in self._all()) + sum(
            line.busy for line in self._lines.values()
        )

    @property
    def oldest(self) -> float:
        """Seconds for which the oldest request has waited; 0 if none does."""
        now = self._steady()
        return max((now - waiting.since for waiting in self._all()), default=0.0)

    def add(self, symbols: list[str], timeframe: Timeframe, span: Range, issue: Callable[[], Ticket]) -> None:
        """Ask for `span` of `symbols`, whose ticket `issue` makes.

        RequestRefusedError, and nothing changed, if too much waits already.
        """
        now = self._kraken_now()
        before: list[tuple[Waiting, list[Range]]] = []
        for symbol in symbols:
            waiting = self._waiting(symbol, timeframe)
            before.append((waiting, waiting.ranges))
            try:
                waiting.add([span], now)
            except RequestRefusedError:
                for touched, ranges in before:
                    touched.ranges = ranges
                    self._forget_if_empty(touched)
                raise
        ticket = issue()
        for waiting, _ in before:
            waiting.tickets.append(ticket)

    def latest(self, symbol: str, timeframe: Timeframe) -> asyncio.Future[Awaitable[None] | None]:
        """Ask for the latest windows; done when they are told, which gives their delivery, or never will be."""
        waiting = self._waiting(symbol, timeframe)
        if waiting.latest is None or waiting.latest.done():
            waiting.latest = asyncio.get_running_loop().create_future()
        return waiting.latest

    def withdraw(self, symbol: str, timeframe: Timeframe) -> None:
        """Nobody waits for the latest windows any more."""
        waiting = self._waiting(symbol, timeframe)
        if waiting.latest is not None:
            waiting.latest.cancel()
        self._forget_if_empty(waiting)

    def next(self) -> Job | float:
        """The call to make now, taken as begun; else when to look again (steady seconds), infinite if nothing waits."""
        now, instant = self._steady(), self._kraken_now()
        reach = reach_of(Timeframe.M1, instant)
        may_read = self._reading_trades < TRADES_AT_ONCE
        ohlc: tuple[_Line, Job] | None = None
        for symbol, line in self._lines.items():
            if line.busy or now < max(self.not_before, self._ready_at(symbol)):
                continue
            far = line.far(now, reach) if may_read else None
            # Turn about, so that neither way of asking keeps the other one from this pair's calls.
            if far and (line.last is Lane.OHLC or line.near(now, reach) is None):
                return self._begin(line, Job(far, Lane.TRADES, instant))
            if ohlc is None and (near := line.near(now, reach)) and not (far and line.last is Lane.OHLC):
                ohlc = line, Job(near, Lane.OHLC, instant)
        return self._begin(*ohlc) if ohlc else self._soonest(now)

    def _soonest(self, now: float) -> float:
        """When something of what waits may be asked for that may not be now (steady seconds)."""
        times = (
            max(self.not_before, self._ready_at(symbol), waiting.not_before)
            for symbol, line in self._lines.items()
            if not line.busy
            for waiting in line.waiting.values()
        )
        return min((time for time in times if time > now), default=float("inf"))

    def _begin(self, line: _Line, job: Job) -> Job:
        # To the end: the lines are in the order in which they were served last.
        self._lines[job.waiting.symbol] = self._lines.pop(job.waiting.symbol)
        line.busy, line.last = True, job.lane
        self._reading_trades += job.lane is Lane.TRADES
        return job

    def done(self, job: Job) -> None:
        """The call is over, whatever became of it: tell those who asked if nothing is left to answer."""
        line = self._lines[job.waiting.symbol]
        line.busy = False
        self._reading_trades -= job.lane is Lane.TRADES
        for waiting in list(line.waiting.values()):
            self._forget_if_empty(waiting)

    def drop(self, job: Job) -> None:
        """Answer nothing of the job's symbol any more; whoever asked is told when the job is `done`."""
        for waiting in self._lines[job.waiting.symbol].waiting.values():
            waiting.ranges = []
            if waiting.latest is not None and waiting.wants_latest:
                waiting.latest.set_result(None)

    def _all(self) -> Iterator[Waiting]:
        return (waiting for line in self._lines.values() for waiting in line.waiting.values())

    def _waiting(self, symbol: str, timeframe: Timeframe) -> Waiting:
        line = self._lines.setdefault(symbol, _Line())
        return line.waiting.setdefault(timeframe, Waiting(symbol, timeframe, self._steady()))

    def _forget_if_empty(self, waiting: Waiting) -> None:
        line = self._lines.get(waiting.symbol)
        if not waiting.idle or line is None or line.busy:
            return
        line.waiting.pop(waiting.timeframe, None)
        if not line.waiting:
            del self._lines[waiting.symbol]
        tickets, waiting.tickets = waiting.tickets, []
        for ticket in tickets:
            ticket.done()
