"""Checks that candles reach the store: the newest closed one of each series on the bus, and samples of forming ones.

It requests missing candles: the aggregators republish them, and the writer stores them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress

from admin_api.reconciler.bodies import StoredBody
from admin_api.reconciler.context import Context
from admin_api.reconciler.stored_forming import FormingWatch
from admin_api.system.details import texts
from admin_api.system.state import ClosedCandle
from admin_api.system.wanted import wanted
from ingress_common.bus import BusClosedError, BusError
from ingress_common.health import Check, some
from ingress_common.logs import get_logger
from ingress_common.model import RepublishRequest, Series
from ingress_common.service_names import WRITER
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_store import StoreUnavailableError

STORED_SECONDS = 10.0
"""Maximum time of a closed candle's way from the bus to the store."""

MISSED_SECONDS = 25.0
"""Time after a window's end in which its closed candle arrives here, unless it was missed; then the store is read."""

_LOOK_SECONDS = 2.0
_MISSED_LOOK_SECONDS = 10.0
_RETAINED_SECONDS = 5.0
_PATIENCE_SECONDS = 10.0
_REQUEST_SECONDS, _LONGEST_REQUEST_SECONDS = 15.0, 240.0
_REQUESTED_PART = 6
_MOST_REQUESTED = 1_000

log = get_logger(__name__)


Republish = Callable[[RepublishRequest], Awaitable[None]]
"""Makes the aggregators republish closed candles."""


class StoredWatch:
    """Compares bus and store for the wanted symbols.

    It queries only timeframes in which a candle has closed since the last query, back to the oldest of those, or should
    have closed: at most one small query per timeframe for all symbols, usually one a minute.
    """

    def __init__(self, context: Context, republish: Republish) -> None:
        self._bus = context.bus
        self._topics = context.topics
        self._store = context.store
        self._state = context.state
        self._clock = context.clock
        self._republish = republish
        self._requested_at = self._request_at = float("-inf")
        self._served: dict[str, float] = {}
        self._waiting: dict[Series, ClosedCandle] = {}
        self._look_for_missed_at = float("-inf")
        self._missed: dict[str, float] = {}
        self._forming = FormingWatch(context.store, context.state, STORED_SECONDS)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self.look()
                await self._request_late()
            except (StoreUnavailableError, TimeoutError) as error:
                # The candles keep waiting, which this check reports; the check of the store gives the reason.
                log.debug("stored.unknown", reason=str(error))
            await asyncio.sleep(_LOOK_SECONDS)

    def reconnected(self) -> None:
        """The broker was disconnected."""
        self._missed.clear()
        self._forming.reconnected(self._clock())

    def forget(self) -> None:
        """Check everything again: candles were deleted from the store."""
        for symbol in self._state.symbols.values():
            symbol.stored.clear()
        self._note_all(self._wanted())

    async def _request_late(self) -> None:
        """Request late candles until the store has them, the more rarely the later they are; soon if the writer of one
        has become ready or is another process.

        Only of symbols whose writer is ready: otherwise they are in its queue, and more would make that overflow.
        """
        now = self._clock()
        late = {series: closed for series, closed in self._waiting.items() if now - closed.came > STORED_SECONDS}
        served = {
            symbol: self._state.instances[WRITER, writer].online_since
            for writer, details in self._state.online(WRITER, now)
            if details.get("ready")
            for symbol in texts(details.get("symbols"))
        }
        late = {series: closed for series, closed in late.items() if series[0] in served}
        if any(served[symbol] != self._served.get(symbol) for symbol, _ in late):
            self._request_at = min(self._request_at, self._requested_at + _REQUEST_SECONDS)
        self._served = served
        if not late or now < self._request_at:
            return
        age = now - min(closed.came for closed in late.values())
        self._requested_at = now
        self._request_at = now + min(max(_REQUEST_SECONDS, age / _REQUESTED_PART), _LONGEST_REQUEST_SECONDS)
        symbols = tuple(sorted({symbol for symbol, _ in late}))[:_MOST_REQUESTED]
        start = min(closed.at for (symbol, _), closed in late.items() if symbol in symbols)
        log.info("stored.requested", symbols=len(symbols), series=len(late))
        # `start` is the gateways' time, which may be ahead of ours.
        await self._republish(RepublishRequest(symbols, start, max(start, now)))

    async def look(self) -> None:
        """Look up the closed candles of the bus in the store; StoreUnavailableError if the store does not answer."""
        symbols = self._wanted()
        self._note_all(symbols)
        for timeframe in TIMEFRAMES:
            await self._find(timeframe)
        await self._find_missed(symbols, self._clock())
        await self._forming.look(symbols, self._clock())

    def _wanted(self) -> AbstractSet[str]:
        return wanted(self._state, self._clock()).symbols

    def _note_all(self, symbols: AbstractSet[str]) -> None:
        """Note the closed candles of `symbols`, the wanted ones, that are not known to be stored.

        Only the oldest candle of a series waits at a time, so that a store that is always one behind is noticed.
        """
        self._waiting = {series: entry for series, entry in self._waiting.items() if series[0] in symbols}
        for name in symbols & self._state.symbols.keys():
            symbol = self._state.symbols[name]
            for timeframe, newest in symbol.closed.items():
                stored = symbol.stored.get(timeframe)
                if stored is None or newest.open_time > stored.open_time:
                    self._waiting.setdefault((name, timeframe), newest)

    async def _find(self, timeframe: Timeframe) -> None:
        waiting = {series: entry for series, entry in self._waiting.items() if series[1] is timeframe}
        if not waiting:
            return
        found = await self._store.newest_closed(timeframe, since=min(closed.open_time for closed in waiting.values()))
        for series, closed in waiting.items():
            if found.get(series[0], -1) >= closed.open_time:
                self._waiting.pop(series, None)
                if series[0] in self._state.symbols:
                    self._state.symbols[series[0]].stored[timeframe] = closed

    async def _find_missed(self, symbols: AbstractSet[str], now: float) -> None:
        """Note closed candles that are in the store and did not arrive here, as while the broker was away.

        If nothing of their symbols has arrived since, or nothing of a timeframe ever, ask the broker for what it
        retains of them: it sends that unless this service may not read it.
        """
        if now < self._look_for_missed_at:
            return
        self._look_for_missed_at = now + _MISSED_LOOK_SECONDS
        known = {name: self._state.symbols[name] for name in symbols & self._state.symbols.keys()}
        for timeframe in TIMEFRAMES:
            opened = timeframe.floor(now - MISSED_SECONDS) - timeframe.seconds
            lacking = {name for name, symbol in known.items() if (symbol.newest_closed(timeframe) or 0) < opened}
            if timeframe is Timeframe.M1:
                # Those without any candle here, too.
                lacking |= symbols - known.keys()
            if not lacking:
                continue
            found = await self._store.newest_closed(timeframe, since=opened)
            for name in lacking & found.keys():
                # A later minute shows that candles of the symbol arrive.
                if timeframe is Timeframe.M1 and (name not in known or found[name] >= known[name].minute):
                    self._missed.setdefault(name, now)
                if name in known:
                    known[name].stored[timeframe] = ClosedCandle(found[name], now, now)
        self._missed = {name: since for name, since in self._missed.items() if name in symbols}
        partly = {name for name, symbol in known.items() if len(symbol.timeframes) < len(TIMEFRAMES)}
        if (missed := sorted(partly.union(self._still_missed()))) and self._bus.connected:
            filters = [self._topics.candles(name, "+") for name in missed[:_MOST_REQUESTED]]
            with suppress(BusError, BusClosedError):
                await self._bus.subscribe(*filters)
                await self._bus.unsubscribe(*filters)

    def _still_missed(self, before: float = float("inf")) -> list[str]:
        """The symbols of which a candle was missed before an instant, and nothing has arrived since; sorted."""
        symbols = self._state.symbols
        self._missed = {n: at for n, at in self._missed.items() if n not in symbols or symbols[n].seen_at <= at}
        return sorted(name for name, at in self._missed.items() if at < before)

    def check(self, now: float) -> Check:
        """Red while a closed candle of the bus has not reached the store within STORED_SECONDS, or forming ones do not;
        and while the store gets candles that do not arrive here.
        """
        late = sorted(
            (closed.came, symbol, TIMEFRAMES.index(timeframe), closed.open_time)
            for (symbol, timeframe), closed in self._waiting.items()
            if now - closed.came > STORED_SECONDS
        )
        if late:
            named = some([f"{symbol} {TIMEFRAMES[place].value} {rfc3339(at)}" for _, symbol, place, at in late])
            since = f"; the first closed {now - late[0][0]:.0f} s ago"
            return Check("stored", ok=False, detail=f"closed and not in the store: {named}{since}")
        if missed := self._still_missed(now - _RETAINED_SECONDS):
            return Check("stored", ok=False, detail=f"in the store, but not received here: candles of {some(missed)}")
        if problem := self._forming.problem(now):
            return Check("stored", ok=False, detail=problem)
        return Check("stored", ok=True, detail=f"{self._count()} series are in the store up to their newest candle")

    def body(self) -> StoredBody:
        """The field `stored` of `GET /health`."""
        return StoredBody(self._count(), len(self._waiting))

    def _count(self) -> int:
        return sum(len(symbol.stored) for symbol in self._state.symbols.values())
