"""The audit: where closed candles are missing in the store, or known to be incomplete."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from admin_api.system.ownership import OWNER_SILENCE_SECONDS, instant_of
from admin_api.system.view import BusView
from ingress_common.health import Check
from ingress_common.logs import get_logger
from ingress_common.model import Range
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, topic_symbol
from ingress_store import CandleStore, Freshness, Retention, StoreUnavailableError

SETTLE_SECONDS = 60.0
"""A closed candle may be this long on its way to the store before it counts as missing between others."""

LATE_SECONDS = 180.0
"""A series of a live feed that is this far behind has a gap at its end."""

LEAST_WINDOWS = 5
"""Windows of each timeframe that are looked at whatever the horizon, so that there is something between others."""

_PAGE = 5_000
_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 15.0
_SETTLED_AGAIN_SECONDS = 30.0
_PERIODS = 3

log = get_logger(__name__)


class GapSource(StrEnum):
    """Who says that there is a gap."""

    STORE = "store"
    AGGREGATOR = "aggregator"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Gap:
    """Closed candles that are not in the store as they should be: whole windows of a series.

    `incomplete`: they are there, but not every minute of them is known. `found_at` in unix seconds.
    """

    symbol: str
    timeframe: Timeframe
    range: Range
    incomplete: bool
    source: GapSource
    found_at: float

    @property
    def windows(self) -> int:
        """How many candles that is."""
        return round((self.range.end - self.range.start) / self.timeframe.seconds)


def audited_range(timeframe: Timeframe, now: float, horizon: float, retention: Retention) -> Range:
    """What an audit at `now` looks at: back to `horizon` seconds ago, and not beyond what the store keeps."""
    back = max(horizon, LEAST_WINDOWS * timeframe.seconds)
    kept = retention.candles[timeframe]
    if kept is not None:
        # One window less: the oldest one is about to go.
        back = min(back, kept - timeframe.seconds)
    end = timeframe.floor(now - SETTLE_SECONDS)
    return Range(min(timeframe.ceil(max(now - back, 0.0)), end), end)


def late_series(latest: Iterable[Freshness], closed_until: Mapping[str, int | None], now: float) -> list[Gap]:
    """The gaps at the end of series: `closed_until` names the symbols of live feeds, and up to when the bus has closed
    minutes of each.

    Where the store is behind the bus, the writer has yet to write; what it does not write shows as a hole later.
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
            found.append(
                Gap(fresh.symbol, fresh.timeframe, span, incomplete=False, source=GapSource.STORE, found_at=now)
            )
    return found


def gaps_of_aggregators(view: BusView, now: float) -> list[Gap]:
    """The gaps that aggregators name in the `missing` of their status; what is no gap there is passed over."""
    found = []
    for (service, _), entry in view.instances.items():
        missing = entry.status.details.get("missing")
        if service != "aggregator" or not isinstance(missing, list) or not entry.is_online(now, OWNER_SILENCE_SECONDS):
            continue
        found += [gap for item in missing if (gap := _gap_of(item, now)) is not None]
    return found


class AuditMetrics:
    """How the audit is doing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Gauge("ingress_audit_seconds", "How long the last audit of the store took", registry=registry)
        self.last = Gauge(
            "ingress_audit_last_timestamp_seconds", "When the last audit of the store was done", registry=registry
        )


Deliver = Callable[[list[Gap], Mapping[Timeframe, Range]], Awaitable[None]]


class Auditor:
    """Audits the store once it answers and a feed is live, then every `seconds`, and soon after a disturbance.

    `deliver` takes what was found, and what was looked at. `live` gives the symbols of live feeds, and since when;
    `ready` whether the store answers. `clock` in unix seconds.
    """

    def __init__(
        self,
        store: CandleStore,
        view: BusView,
        metrics: AuditMetrics,
        deliver: Deliver,
        live: Callable[[], Mapping[str, float]],
        ready: Callable[[], bool],
        clock: Callable[[], float],
        *,
        seconds: float,
        horizon: float,
        retention: Retention,
    ) -> None:
        self._store = store
        self._view = view
        self._metrics = metrics
        self._deliver = deliver
        self._live = live
        self._ready = ready
        self._clock = clock
        self._seconds = seconds
        self._horizon = horizon
        self._retention = retention
        self._next_at = 0.0
        self._waiting_since: float | None = None
        self._trouble: str | None = None
        self.last_at: float | None = None
        """When the last audit was done (unix seconds)."""

    def soon(self, seconds: float = 0.0) -> None:
        """Audit in `seconds`, unless that is due anyhow."""
        self._next_at = min(self._next_at, self._clock() + seconds)

    def disturbed(self) -> None:
        """Something was away, and there may be gaps: audit once what repairs itself has had time to."""
        self.soon(_SETTLED_AGAIN_SECONDS)

    async def run(self) -> None:
        """Audit until cancelled."""
        known: Mapping[str, float] = {}
        while True:
            live = self._live()
            if live.items() - known.items():
                self.disturbed()
            known = live
            ready = bool(live) and self._ready()
            now = self._clock()
            self._waiting_since = (self._waiting_since or now) if ready else None
            if ready and now >= self._next_at:
                await self.audit()
            await asyncio.sleep(_LOOK_SECONDS)

    def check(self, now: float) -> Check:
        """Red when the store could be audited and has not been for several periods."""
        allowed = _PERIODS * self._seconds
        since = max(self.last_at or 0.0, self._waiting_since) if self._waiting_since is not None else now
        if now - since > allowed:
            why = f": {self._trouble}" if self._trouble else ""
            return Check("audit", ok=False, detail=f"the store has not been audited for {now - since:.0f} s{why}")
        return Check("audit", ok=True, detail="not yet" if self.last_at is None else f"at {rfc3339(self.last_at)}")

    def details(self) -> dict[str, Any]:
        """What `GET /health` shows of it."""
        return {
            "every_seconds": self._seconds,
            "horizon_seconds": self._horizon,
            "last_at": None if self.last_at is None else rfc3339(self.last_at),
            "trouble": self._trouble,
        }

    async def audit(self) -> None:
        """Look once, and deliver what is found."""
        loop = asyncio.get_running_loop()
        now = self._clock()
        began = loop.time()
        audited = {timeframe: audited_range(timeframe, now, self._horizon, self._retention) for timeframe in TIMEFRAMES}
        # What disturbs from here on asks for another one.
        self._next_at = now + self._seconds
        try:
            found = [
                *await gaps_in_store(self._store, audited, now),
                *late_series(await self._store.latest(), self._closed_until(), now),
                *gaps_of_aggregators(self._view, now),
            ]
            await self._deliver(found, audited)
        except StoreUnavailableError as error:
            log.warning("audit.failed", reason=str(error))
            self._trouble = str(error)
            self._next_at = min(self._next_at, now + _AGAIN_SECONDS)
            return
        self._trouble = None
        self.last_at = self._clock()
        self._metrics.seconds.set(loop.time() - began)
        self._metrics.last.set(self.last_at)
        log.debug("audit.done", gaps=len(found))

    def _closed_until(self) -> dict[str, int | None]:
        symbols = self._view.symbols
        return {symbol: symbols[symbol].closed_until if symbol in symbols else None for symbol in self._live()}


async def gaps_in_store(store: CandleStore, audited: Mapping[Timeframe, Range], now: float) -> list[Gap]:
    """The holes that the store has, lowest timeframe first; StoreUnavailableError if it does not answer."""
    found = []
    for timeframe, span in audited.items():
        for hole in await store.holes(timeframe, start=span.start, end=span.end):
            gap = Gap(hole.symbol, timeframe, hole.range, hole.incomplete, GapSource.STORE, found_at=now)
            found.append(gap)
    return found


async def missing_windows(store: CandleStore, symbol: str, timeframe: Timeframe, span: Range) -> list[Range]:
    """The windows of `span` that have no closed and complete candle, neighbours together, oldest first.

    StoreUnavailableError if the store does not answer.
    """
    missing: list[Range] = []
    expected = cursor = float(timeframe.floor(span.start))
    end = float(timeframe.ceil(span.end))
    while cursor < end:
        page = await store.candles(symbol, timeframe, start=cursor, end=end, limit=_PAGE)
        for candle in page:
            if candle.complete:
                _extend(missing, expected, candle.open_time)
                expected = float(candle.close_time)
        if len(page) < _PAGE:
            break
        cursor = float(page[-1].close_time)
    _extend(missing, expected, end)
    return missing


def _extend(ranges: list[Range], start: float, end: float) -> None:
    if start >= end:
        return
    if ranges and ranges[-1].end == start:
        ranges[-1] = Range(ranges[-1].start, end)
    else:
        ranges.append(Range(start, end))


def _gap_of(item: Any, now: float) -> Gap | None:
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
    # A window of which the end is not there yet is no gap yet.
    span = Range(timeframe.floor(start), timeframe.floor(min(timeframe.ceil(end), now - SETTLE_SECONDS)))
    if span.start >= span.end:
        return None
    return Gap(symbol, timeframe, span, incomplete=False, source=GapSource.AGGREGATOR, found_at=now)
