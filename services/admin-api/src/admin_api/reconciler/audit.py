"""The audit: finds closed candles that are missing in the store, or incomplete."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from admin_api.http.responses import time_of
from admin_api.reconciler.bodies import AuditBody
from admin_api.reconciler.context import Context
from admin_api.reconciler.gaps import ARRIVAL_SECONDS, FoundGap, GapSource
from admin_api.system.details import instant_of
from admin_api.system.state import SystemState
from ingress_common.health import Check
from ingress_common.logs import get_logger
from ingress_common.membership import TAKEOVER_SECONDS
from ingress_common.model import Range
from ingress_common.service_names import AGGREGATOR
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, topic_symbol
from ingress_store import CandleStore, Freshness, Retention, StoreUnavailableError

LATE_SECONDS = 180.0
"""A series of a live feed has a gap at its end if it is this far behind."""

LEAST_WINDOWS = 5
"""Minimum number of audited windows per timeframe, because an audit finds gaps only between stored candles."""

_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 15.0
_AFTER_INTERRUPTION_SECONDS = 30.0
_PERIODS = 3

log = get_logger(__name__)


def audited_range(timeframe: Timeframe, now: float, horizon: float, retention: Retention) -> Range:
    """The range of an audit at `now`: back to `horizon` seconds ago, at most to the store's retention."""
    back = max(horizon, LEAST_WINDOWS * timeframe.seconds)
    kept = retention.candles[timeframe]
    if kept is not None:
        # One window less, because the oldest one is about to expire.
        back = min(back, kept - timeframe.seconds)
    end = timeframe.floor(now - ARRIVAL_SECONDS)
    return Range(min(timeframe.ceil(max(now - back, 0.0)), end), end)


def late_series(latest: Iterable[Freshness], closed_until: Mapping[str, int | None], now: float) -> list[FoundGap]:
    """The gaps at the end of series. `closed_until`: the symbols of live feeds, with the end of each one's newest
    closed minute on the bus (unix seconds).

    While the store is behind the bus, the writer is still writing: no gap yet.
    """
    series = [fresh for fresh in latest if fresh.symbol in closed_until]
    minutes = {f.symbol: f.open_time + 60 for f in series if f.timeframe is Timeframe.M1}
    behind = {
        symbol
        for symbol, until in closed_until.items()
        if until is not None and until - minutes.get(symbol, until) > 60
    }
    found = []
    for fresh in series:
        known = fresh.open_time + fresh.timeframe.seconds
        due = fresh.timeframe.floor(now - LATE_SECONDS)
        if fresh.symbol not in behind and known < due:
            span = Range(known, due)
            found.append(FoundGap(fresh.symbol, fresh.timeframe, span, source=GapSource.STORE, found_at=now))
    return found


def gaps_of_aggregators(state: SystemState, now: float) -> list[FoundGap]:
    """The gaps in `missing` of the aggregators' statuses; invalid entries are ignored."""
    lists = [details.get("missing") for _, details in state.online(AGGREGATOR, now, TAKEOVER_SECONDS)]
    items = [item for missing in lists if isinstance(missing, list) for item in missing]
    return [gap for item in items if (gap := _gap_of(item, now)) is not None]


class AuditMetrics:
    """Metrics of the audit: duration and time of the last one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Gauge("ingress_audit_seconds", "Duration of the last audit of the store", registry=registry)
        self.last = Gauge(
            "ingress_audit_last_timestamp_seconds", "Time of the last audit of the store", registry=registry
        )


Deliver = Callable[[list[FoundGap], Mapping[Timeframe, Range]], Awaitable[None]]


class Auditor:
    """Audits the store once it answers and a feed is live, then every `seconds`, and shortly after an interruption.

    `deliver` receives the gaps and the audited ranges. `ready`: whether the store answers.
    """

    def __init__(
        self,
        context: Context,
        metrics: AuditMetrics,
        deliver: Deliver,
        ready: Callable[[], bool],
        *,
        seconds: float,
        horizon: float,
        retention: Retention,
    ) -> None:
        self._store, self._state = context.store, context.state
        self._live, self._clock = context.live, context.clock
        self._metrics = metrics
        self._deliver = deliver
        self._ready = ready
        self._seconds = seconds
        self._horizon = horizon
        self._retention = retention
        self._next_at = 0.0
        # When the services have had time to repair the gaps of an interruption.
        self._after_interruption_at = float("inf")
        self._waiting_since: float | None = None
        self._problem: str | None = None
        self.last_at: float | None = None
        """Time of the last audit (unix seconds)."""

    def schedule(self) -> None:
        """Audit at once."""
        self._next_at = min(self._next_at, self._clock())

    def interrupted(self) -> None:
        """Schedule an audit after an interruption, once the services have had time to repair its gaps; an earlier one
        does not replace it, because what they repair shows what else is missing.
        """
        self._after_interruption_at = min(self._after_interruption_at, self._clock() + _AFTER_INTERRUPTION_SECONDS)

    async def run(self) -> None:
        """Audit until cancelled."""
        known: Mapping[str, float] = {}
        while True:
            live = self._live()
            if live.items() - known.items():
                self.interrupted()
            known = live
            ready = bool(live) and self._ready()
            now = self._clock()
            self._waiting_since = (self._waiting_since or now) if ready else None
            if ready and now >= min(self._next_at, self._after_interruption_at):
                await self.audit()
            await asyncio.sleep(_LOOK_SECONDS)

    def check(self, now: float) -> Check:
        """Red when the store answers and was not audited for three periods."""
        allowed = _PERIODS * self._seconds
        since = max(self.last_at or 0.0, self._waiting_since) if self._waiting_since is not None else now
        if now - since > allowed:
            why = f": {self._problem}" if self._problem else ""
            return Check("audit", ok=False, detail=f"the store has not been audited for {now - since:.0f} s{why}")
        return Check("audit", ok=True, detail="not yet" if self.last_at is None else f"at {rfc3339(self.last_at)}")

    def body(self) -> AuditBody:
        """The field `audit` of `GET /gaps` and `GET /health`."""
        return AuditBody(self._seconds, self._horizon, time_of(self.last_at), self._problem)

    async def audit(self) -> None:
        """Audit once, and deliver the gaps."""
        loop = asyncio.get_running_loop()
        now = self._clock()
        began = loop.time()
        audited = {timeframe: audited_range(timeframe, now, self._horizon, self._retention) for timeframe in TIMEFRAMES}
        # An interruption from here on schedules another audit.
        self._next_at = now + self._seconds
        if now >= self._after_interruption_at:
            self._after_interruption_at = float("inf")
        try:
            found = [
                *await gaps_in_store(self._store, audited, now),
                *late_series(await self._store.latest(), self._closed_until(), now),
                *gaps_of_aggregators(self._state, now),
            ]
            await self._deliver(found, audited)
        except StoreUnavailableError as error:
            log.warning("audit.failed", reason=str(error))
            self._problem = str(error)
            self._next_at = min(self._next_at, now + _RETRY_SECONDS)
            return
        self._problem = None
        self.last_at = self._clock()
        self._metrics.seconds.set(loop.time() - began)
        self._metrics.last.set(self.last_at)
        log.debug("audit.done", gaps=len(found))

    def _closed_until(self) -> dict[str, int | None]:
        symbols = self._state.symbols
        return {symbol: symbols[symbol].closed_until if symbol in symbols else None for symbol in self._live()}


async def gaps_in_store(store: CandleStore, audited: Mapping[Timeframe, Range], now: float) -> list[FoundGap]:
    """The gaps in the store, lowest timeframe first; StoreUnavailableError if it does not answer."""
    return [
        FoundGap(gap.symbol, gap.timeframe, gap.range, gap.incomplete, source=GapSource.STORE, found_at=now)
        for timeframe, span in audited.items()
        for gap in await store.gaps(timeframe, start=span.start, end=span.end)
    ]


def _gap_of(item: Any, now: float) -> FoundGap | None:
    if not isinstance(item, dict):
        return None
    symbol, start, end = item.get("symbol"), instant_of(item.get("from")), instant_of(item.get("to"))
    try:
        timeframe = Timeframe(item.get("timeframe", "1m"))
        topic_symbol(symbol if isinstance(symbol, str) else "")
    except (ValueError, TopicError):
        return None
    if not isinstance(symbol, str) or start is None or end is None or not 0 <= start < end:
        return None
    # Leave out windows that have not ended.
    span = Range(timeframe.floor(start), timeframe.floor(min(timeframe.ceil(end), now - ARRIVAL_SECONDS)))
    if span.start >= span.end:
        return None
    return FoundGap(symbol, timeframe, span, source=GapSource.AGGREGATOR, found_at=now)
