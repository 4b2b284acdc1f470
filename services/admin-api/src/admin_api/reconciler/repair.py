"""The repair: requests the candles of gaps from Kraken, at a gentle pace, until the store has them.

No state needs to survive: after a restart the audit finds the same gaps. A gap is filled when the store has its
candles, whichever service wrote them.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from admin_api.http.responses import time_of
from admin_api.reconciler.bodies import GapBody, GapCounts
from admin_api.reconciler.context import Context
from admin_api.reconciler.gaps import ARRIVAL_SECONDS, FoundGap, GapSource, missing_windows, overlap
from admin_api.reconciler.planning import Planned, is_rolled_up, pieces, plan_requests
from ingress_common.backoff import Backoff
from ingress_common.bus import BusClosedError, BusError
from ingress_common.gaps import Gap, windows_of
from ingress_common.health import Check
from ingress_common.logs import get_logger
from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_store import StoreUnavailableError

OVERDUE_SECONDS = 900.0
"""Maximum age of a gap while its symbol's feed is live; an older one makes `GET /health` red."""

AT_ONCE = 4
"""Maximum number of requests at once over all symbols; one per symbol."""

LOOK_SECONDS = 2.0
"""Interval of reads that look for requested candles in the store."""

RESPONSE_SECONDS = 60.0
"""An attempt without a result for this long has failed."""

INACTIVE_SECONDS = 20.0
"""An attempt that brought candles, and then none for this long, has ended; the rest is retried. Pages of trades
arrive about every second.
"""

ATTEMPT_SECONDS = 600.0
"""Maximum duration of an attempt while candles arrive: minutes are rebuilt from a day of trades, page by page."""

UNFILLABLE_ATTEMPTS = 5
"""After this many failed attempts a gap is unfillable; it is then requested hourly."""

MOST_GAPS = 10_000
"""Maximum number of tracked gaps; the next audit finds the others."""

MOST_OUT_OF_REACH = MOST_GAPS // 2
"""How many of them may be of symbols without a live feed, which nobody can fill now: many pairs may have been delisted
or taken out of SYMBOLS at once.
"""

MOST_REQUESTED = 2_000
"""Maximum number of waiting manual requests."""

_BACKOFF = Backoff(15.0, 900.0, jitter=(0.75, 1.25))
_UNFILLABLE_BACKOFF = Backoff(3600.0, 3600.0, jitter=(0.75, 1.25))
_AGGREGATOR_FIRST_SECONDS = 60.0
_ROLL_UP_SECONDS = 10.0
_PUBLISH_SECONDS = 5.0
_SHOWN = 50

log = get_logger(__name__)

Key = tuple[str, Timeframe, float, float]


class RepairQueueFullError(Exception):
    """Too many manual requests are waiting."""


class GapState(StrEnum):
    """The state of a gap's repair."""

    WAITING = "waiting"
    REQUESTED = "requested"
    UNFILLABLE = "unfillable"


@dataclass(frozen=True, slots=True)
class Tracked:
    """A tracked gap. `left`: its ranges that the store lacked at the last read.

    `attempts`: how many requests in a row brought nothing. `requested_at`, `next_at`: times of the last and of the next
    request (unix seconds).
    """

    gap: FoundGap
    left: tuple[Range, ...]
    next_at: float
    attempts: int = 0
    requested_at: float | None = None
    state: GapState = GapState.WAITING

    @property
    def key(self) -> Key:
        """Its identity."""
        return (self.gap.symbol, self.gap.timeframe, self.gap.range.start, self.gap.range.end)

    @property
    def missing(self) -> int:
        """The windows that are missing."""
        return sum(windows_of(span, self.gap.timeframe) for span in self.left)

    def body(self) -> GapBody:
        """The entry of `GET /gaps`."""
        gap = self.gap
        return GapBody(
            symbol=gap.symbol,
            timeframe=gap.timeframe.value,
            from_=rfc3339(gap.range.start),
            to=rfc3339(gap.range.end),
            windows=gap.windows,
            filled=gap.windows - self.missing,
            state=self.state.value,
            incomplete=gap.incomplete,
            source=gap.source.value,
            found_at=rfc3339(gap.found_at),
            attempts=self.attempts,
            requested_at=time_of(self.requested_at),
            next_at=None if self.state is GapState.REQUESTED else rfc3339(self.next_at),
        )


@dataclass(frozen=True, slots=True)
class _UnderWay:
    request: Planned
    requested_at: float
    progress_at: float
    missing_at_first: int
    missing: int


class RepairMetrics:
    """Metrics of the repair."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("ingress_repair_requests", "History requests made for repair", registry=registry)
        self.filled = Counter("ingress_repair_filled", "Missing candles that were filled", registry=registry)
        self.failed = Counter(
            "ingress_repair_attempts_failed", "History requests that brought no missing candle", registry=registry
        )
        self.unfillable = Counter("ingress_repair_unfillable", "Gaps marked as unfillable", registry=registry)
        self.left_out = Counter(
            "ingress_repair_gaps_left_out", "Gaps left to the next audit, because there are too many", registry=registry
        )
        self.gaps = Gauge(
            "ingress_gaps", "Gaps in the store that are being repaired, by state", ("state",), registry=registry
        )
        self.missing = Gauge("ingress_gap_windows", "Missing candles in all gaps", registry=registry)


class Repairer:
    """Tracks and repairs gaps; only those of live symbols can be requested. `uniform` returns numbers from 0 to 1."""

    def __init__(self, context: Context, metrics: RepairMetrics, uniform: Callable[[], float] = random.random) -> None:
        self._context = context
        self._bus, self._store = context.bus, context.store
        self._clock, self._live_since = context.clock, context.live
        self._metrics = metrics
        self._backoff = replace(_BACKOFF, uniform=uniform)
        self._unfillable_backoff = replace(_UNFILLABLE_BACKOFF, uniform=uniform)
        self._tracked: dict[str, dict[Key, Tracked]] = {}
        self._under_way: dict[str, _UnderWay] = {}
        self._requested: deque[Planned] = deque()
        self._requested_last: dict[str, float] = {}
        # The gaps of an audit and a read of the store must not interleave.
        self._turn = asyncio.Lock()
        self.filled = 0
        """Windows filled since the start."""
        for state in GapState:
            metrics.gaps.labels(state.value).set_function(lambda state=state: self._count(state))  # type: ignore[misc]
        metrics.missing.set_function(lambda: sum(tracked.missing for tracked in self._all()))

    @property
    def gaps(self) -> list[Tracked]:
        """The tracked gaps, by symbol, timeframe and time."""
        return sorted(self._all(), key=lambda t: (t.gap.symbol, t.gap.timeframe.seconds, t.gap.range.start))

    @property
    def requested(self) -> int:
        """Waiting manual requests."""
        return len(self._requested)

    def check(self, now: float) -> Check:
        """Red while a gap of a live symbol is unfillable or older than OVERDUE_SECONDS."""
        live = self._live_since()
        theirs = [t for t in self._all() if t.gap.symbol in live and t.gap.source is not GapSource.REQUEST]
        marked = [t for t in theirs if t.state is GapState.UNFILLABLE]
        old = [t for t in theirs if now - max(t.gap.found_at, live[t.gap.symbol]) > OVERDUE_SECONDS]
        for what, some in (("Kraken does not fill", marked), ("not filled for 15 minutes", old)):
            if some:
                more = f" and {len(some) - 1} more" if len(some) > 1 else ""
                return Check("gaps", ok=False, detail=f"{what}: {some[0].gap}{more}")
        repaired = [t for t in self._all() if t.gap.symbol in live or t.gap.source is GapSource.REQUEST]
        unfollowed = len(list(self._all())) - len(repaired)
        more = f", {unfollowed} stay: no live feed carries their symbols" if unfollowed else ""
        return Check("gaps", ok=True, detail=f"{len(repaired)} gaps are being repaired{more}")

    def counts(self) -> GapCounts:
        """The field `gaps` of `GET /health`; `GET /gaps` lists the gaps."""
        return GapCounts(
            **{state.value: self._count(state) for state in GapState},
            windows_missing=sum(tracked.missing for tracked in self._all()),
            filled_since_start=self.filled,
            unfillable_gaps=[str(t.gap) for t in self.gaps if t.state is GapState.UNFILLABLE][:_SHOWN],
        )

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self.step()
            except StoreUnavailableError as error:
                log.debug("repair.paused", reason=str(error))
                self._extend_timeouts()
            await asyncio.sleep(LOOK_SECONDS)

    async def take(self, found: Iterable[FoundGap], audited: Mapping[Timeframe, Range]) -> None:
        """Accept the gaps that an audit of `audited` found. A tracked gap that it did not find is read again. It is
        dropped if it is older than the audited range, or if it was an aggregator's: the store never has candles of the
        time before a pair's first trade.

        StoreUnavailableError if the store does not answer.
        """
        async with self._turn:
            seen: set[Key] = set()
            for gap in found:
                for piece in pieces(gap.range, gap.timeframe):
                    if piece.end > audited[gap.timeframe].start:
                        self._add(replace(gap, range=piece), seen)
            for tracked in list(self._all()):
                if tracked.key in seen:
                    continue
                manual = tracked.gap.source is GapSource.REQUEST
                if tracked.gap.range.end <= audited[tracked.gap.timeframe].start and not manual:
                    self._forget(tracked)
                elif (still := await self._look(tracked)) and still.gap.source is GapSource.AGGREGATOR:
                    self._forget(still)

    def retry_now(self, symbol: str | None, timeframe: Timeframe | None) -> None:
        """Retry the gaps of `symbol` and `timeframe` (None for all) at once, unfillable ones included."""
        now = self._clock()
        for tracked in list(self._all()):
            gap = tracked.gap
            wanted = symbol in (None, gap.symbol) and timeframe in (None, gap.timeframe)
            if wanted and tracked.state is not GapState.REQUESTED:
                self._keep(replace(tracked, attempts=0, next_at=now, state=GapState.WAITING))

    async def request(self, symbol: str, timeframe: Timeframe, span: Range) -> list[Planned]:
        """Queue requests for a range, even if nothing is missing in it; returns the planned requests.

        RepairQueueFullError if too many wait already; StoreUnavailableError if the store does not answer.
        """
        now = self._clock()
        planned = plan_requests([Gap(symbol, timeframe, span)], now)
        new = [one for one in planned if one not in self._requested]
        if len(self._requested) + len(new) > MOST_REQUESTED:
            raise RepairQueueFullError(
                f"expected at most {MOST_REQUESTED} waiting requests, got {len(self._requested)}"
            )
        async with self._turn:
            due = Range(span.start, min(span.end, timeframe.floor(now - ARRIVAL_SECONDS)))
            for missing in await missing_windows(self._store, symbol, timeframe, due):
                for piece in pieces(missing, timeframe):
                    gap = FoundGap(symbol, timeframe, piece, source=GapSource.REQUEST, found_at=now)
                    self._add(gap, set())
        self._requested.extend(new)
        return planned

    # --- gaps ---------------------------------------------------------------------------------------------------------

    def _add(self, gap: FoundGap, seen: set[Key]) -> None:
        """Track `gap` unless a tracked one contains it; a gap that has grown keeps its attempts."""
        now = self._clock()
        touching = [tracked for tracked in self._of(gap.symbol, gap.range) if tracked.gap.timeframe is gap.timeframe]
        for tracked in touching:
            if tracked.gap.range.start <= gap.range.start and gap.range.end <= tracked.gap.range.end:
                seen.add(tracked.key)
                return
        if not touching and not self._has_room_for(gap.symbol):
            self._metrics.left_out.inc()
            return
        # The aggregators request their own gaps first.
        head_start = _AGGREGATOR_FIRST_SECONDS if gap.source is GapSource.AGGREGATOR else 0.0
        new = Tracked(gap, (gap.range,), now + head_start)
        if touching:
            known = max(touching, key=lambda tracked: tracked.attempts)
            found_at = min(tracked.gap.found_at for tracked in touching)
            new = replace(known, gap=replace(gap, found_at=found_at), left=(gap.range,))
            for tracked in touching:
                self._forget(tracked)
        else:
            log.info("gap.found", **_named(gap), windows=gap.windows, source=gap.source.value)
        self._keep(new)
        seen.add(new.key)

    def _has_room_for(self, symbol: str) -> bool:
        tracked = sum(map(len, self._tracked.values()))
        return tracked < MOST_OUT_OF_REACH or (tracked < MOST_GAPS and symbol in self._live_since())

    async def _look(self, tracked: Tracked) -> Tracked | None:
        """Read from the store how much of a gap is filled; None if all of it is, and it is no longer tracked."""
        gap = tracked.gap
        left = tuple(await missing_windows(self._store, gap.symbol, gap.timeframe, gap.range))
        # `retry_now` may have changed it meanwhile.
        before = self._tracked[gap.symbol][tracked.key]
        tracked = replace(before, left=left)
        gained = before.missing - tracked.missing
        if gained > 0:
            self.filled += gained
            self._metrics.filled.inc(gained)
        if left:
            self._keep(tracked)
            return tracked
        self._forget(tracked)
        log.info("gap.filled", **_named(gap), windows=gap.windows)
        if gap.timeframe is Timeframe.M1:
            self._leave_time_to_roll_up(gap)
        return None

    def _leave_time_to_roll_up(self, minutes: Gap) -> None:
        earliest = self._clock() + _ROLL_UP_SECONDS
        for tracked in list(self._of(minutes.symbol, minutes.range)):
            if tracked.gap.timeframe is not Timeframe.M1 and tracked.next_at < earliest:
                self._keep(replace(tracked, next_at=earliest))

    def _all(self) -> Iterator[Tracked]:
        return (tracked for of_symbol in self._tracked.values() for tracked in of_symbol.values())

    def _of(self, symbol: str, span: Range) -> Iterator[Tracked]:
        """The gaps of a symbol in a range."""
        return (t for t in self._tracked.get(symbol, {}).values() if overlap(t.gap.range, span))

    def _keep(self, tracked: Tracked) -> None:
        self._tracked.setdefault(tracked.gap.symbol, {})[tracked.key] = tracked

    def _forget(self, tracked: Tracked) -> None:
        of_symbol = self._tracked[tracked.gap.symbol]
        del of_symbol[tracked.key]
        if not of_symbol:
            del self._tracked[tracked.gap.symbol]

    # --- requests -----------------------------------------------------------------------------------------------------

    async def step(self) -> None:
        """Check pending requests, and send further ones; StoreUnavailableError if the store does not answer."""
        async with self._turn:
            for symbol in list(self._under_way):
                await self._follow_up(symbol)
            live = self._live_since()
            self._retry_reconnected(live)
            await self._send_requested()
            while len(self._under_way) < AT_ONCE and self._bus.connected:
                request = await self._next(live)
                if request is None or not await self._begin(request):
                    return

    async def _send_requested(self) -> None:
        for request in list(self._requested):
            if len(self._under_way) >= AT_ONCE or not self._bus.connected:
                return
            if request.symbol not in self._under_way:
                if not await self._begin(request):
                    return
                self._requested.remove(request)

    async def _next(self, live: Mapping[str, float]) -> Planned | None:
        """The next request, for the symbol whose last request is oldest."""
        due: dict[str, list[Tracked]] = {}
        for tracked in self._all():
            if tracked.gap.symbol in live and self._is_due(tracked):
                due.setdefault(tracked.gap.symbol, []).append(tracked)
        for symbol in sorted(due, key=lambda symbol: (self._requested_last.get(symbol, 0.0), symbol)):
            # Read the gaps again: they may have been filled meanwhile.
            looked = [await self._look(tracked) for tracked in due[symbol]]
            # Higher timeframes wait for the roll-up of filled minutes.
            left = [
                replace(tracked.gap, range=span)
                for tracked in self._current(looked)
                if self._is_due(tracked)
                for span in tracked.left
            ]
            if left:
                return plan_requests(left, self._clock())[0]
        return None

    def _current(self, looked: Iterable[Tracked | None]) -> Iterator[Tracked]:
        return (self._tracked[tracked.gap.symbol][tracked.key] for tracked in looked if tracked is not None)

    def _is_due(self, tracked: Tracked) -> bool:
        now, symbol = self._clock(), tracked.gap.symbol
        if tracked.next_at > now or symbol in self._under_way or not self._context.owns(symbol):
            return False
        return not (is_rolled_up(tracked.gap, now) and self._waits_for_minutes(tracked.gap))

    def _waits_for_minutes(self, gap: Gap) -> bool:
        return any(
            tracked.gap.timeframe is Timeframe.M1 and tracked.state is not GapState.UNFILLABLE
            for tracked in self._of(gap.symbol, gap.range)
        )

    async def _begin(self, request: Planned) -> bool:
        """Publish a request; returns whether the broker accepted it."""
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                await self._context.request_history(request.symbol, request.timeframe, request.range)
        except (TimeoutError, BusError, BusClosedError) as error:
            log.warning("repair.not-requested", symbol=request.symbol, reason=str(error) or "no confirmation in time")
            return False
        now = self._clock()
        self._metrics.requests.inc()
        self._requested_last[request.symbol] = now
        missing = 0
        for tracked in [
            tracked for tracked in self._of(request.symbol, request.range) if self._is_about(request, tracked.gap)
        ]:
            self._keep(replace(tracked, requested_at=now, state=GapState.REQUESTED))
            missing += tracked.missing
        self._under_way[request.symbol] = _UnderWay(request, now, now, missing, missing)
        return True

    def _is_about(self, request: Planned, gap: Gap) -> bool:
        """Whether `request` can fill `gap`: by its timeframe, or by the minutes that are rolled up into it."""
        if gap.timeframe is request.timeframe:
            return True
        by_minutes = any(made.timeframe is Timeframe.M1 for made in plan_requests([gap], self._clock()))
        return request.timeframe is Timeframe.M1 and by_minutes and not self._waits_for_minutes(gap)

    async def _follow_up(self, symbol: str) -> None:
        """Check the result of a request: filled, progress, or nothing for too long."""
        under_way = self._under_way[symbol]
        now = self._clock()
        span = under_way.request.range
        requested = [t for t in self._of(symbol, span) if t.state is GapState.REQUESTED]
        left = [still for tracked in requested if (still := await self._look(tracked)) is not None]
        unanswered = [tracked for tracked in left if any(overlap(part, span) for part in tracked.left)]
        missing = sum(tracked.missing for tracked in left)
        progress = missing < under_way.missing_at_first
        if unanswered:
            if missing < under_way.missing:
                under_way = replace(under_way, progress_at=now, missing=missing)
                self._under_way[symbol] = under_way
            patience = INACTIVE_SECONDS if progress else RESPONSE_SECONDS
            if now - under_way.progress_at <= patience and now - under_way.requested_at <= ATTEMPT_SECONDS:
                return
            if not progress:
                self._metrics.failed.inc()
        del self._under_way[symbol]
        for tracked in left:
            self._end_attempt(tracked, progress=progress or tracked not in unanswered)

    def _end_attempt(self, tracked: Tracked, *, progress: bool) -> None:
        """End an attempt: schedule the next one, with a longer pause unless there was progress."""
        now, gap = self._clock(), tracked.gap
        attempts = 0 if progress else tracked.attempts + 1
        unfillable = attempts >= UNFILLABLE_ATTEMPTS
        if unfillable and gap.source is GapSource.REQUEST:
            # Only the requester expects this range to have data.
            log.info("repair.abandoned", **_named(gap), windows=tracked.missing)
            self._forget(tracked)
            return
        if attempts == UNFILLABLE_ATTEMPTS:
            self._metrics.unfillable.inc()
            log.warning("gap.unfillable", **_named(gap), windows=tracked.missing)
        backoff = self._unfillable_backoff if unfillable else self._backoff
        next_at = now if progress else now + backoff.pause(attempts - 1)
        state = GapState.UNFILLABLE if unfillable else GapState.WAITING
        self._keep(replace(tracked, attempts=attempts, next_at=next_at, state=state))

    def _retry_reconnected(self, live: Mapping[str, float]) -> None:
        """Retry gaps whose feed reconnected since: it may have candles that earlier requests did not bring."""
        now = self._clock()
        for tracked in list(self._all()):
            since = live.get(tracked.gap.symbol)
            tried = tracked.attempts > 0 and tracked.state is not GapState.REQUESTED
            if tried and since is not None and tracked.requested_at is not None and since > tracked.requested_at:
                self._keep(replace(tracked, attempts=0, next_at=now, state=GapState.WAITING))

    def _extend_timeouts(self) -> None:
        """Restart the timeouts of pending requests: the store could not be read, so no result is visible."""
        now = self._clock()
        for symbol, under_way in self._under_way.items():
            self._under_way[symbol] = replace(under_way, progress_at=now)

    def _count(self, state: GapState) -> int:
        return sum(tracked.state is state for tracked in self._all())


def _named(gap: Gap) -> dict[str, str]:
    return {"symbol": gap.symbol, "timeframe": gap.timeframe.value, "start": rfc3339(gap.range.start)}
