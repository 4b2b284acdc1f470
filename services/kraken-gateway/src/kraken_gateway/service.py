"""The gateway as a service: who owns which symbol, which feed carries it, who answers requests."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from ingress_common.bus import Bus
from ingress_common.health import Check, Health
from ingress_common.logs import get_logger
from ingress_common.membership import Members
from ingress_common.model import FeedCondition
from ingress_common.presence import StatusPublisher, will_of
from ingress_common.times import rfc3339
from kraken_gateway.desk import Desk
from kraken_gateway.history.requests import HistoryRequests
from kraken_gateway.history.seeds import Seeds
from kraken_gateway.kraken.attempts import AttemptsMemory, BusAttempts
from kraken_gateway.kraken.budget import ConnectionBudget, Thrift, Urgency
from kraken_gateway.kraken.connection import Kraken
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.protocol import ONLINE
from kraken_gateway.kraken.rest import KrakenRest
from kraken_gateway.live.audit import Audit
from kraken_gateway.live.blindness import Blindness
from kraken_gateway.live.feed import Feed, FeedReport, OpenBus, rejected_of
from kraken_gateway.live.verifier import Verifier
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import SERVICE, Outlet
from kraken_gateway.pairs.groups import has_wildcards, regroup
from kraken_gateway.pairs.instruments import Instruments
from kraken_gateway.pairs.listing import listing
from kraken_gateway.settings import GatewaySettings

VERSION = "0.1.0"
"""Version of the gateway, as in its package."""

REQUESTS = "requests"
"""What `open_bus` is told for the connection that takes requests and has the status; it is opened first."""

_SKEW_WARNING = 1.0
_RETRY_REJECTED_SECONDS = 60.0
_FIRST_SETTLE_SECONDS = 0.5
_SETTLE_SECONDS = 2.0
_GAUGES_SECONDS = 1.0
_MEMBERS_SECONDS = 2.0
_SHOWN = 5

log = get_logger(__name__)


class GatewayService:
    """Speaks Kraken.

    `open_bus` makes bus connections: one for requests and status, one for each feed; `clock` is unix seconds.
    `attempts`: where connection attempts are remembered; on the bus if not given.
    """

    name = SERVICE

    def __init__(
        self,
        settings: GatewaySettings,
        registry: CollectorRegistry,
        open_bus: OpenBus,
        clock: Callable[[], float],
        attempts: AttemptsMemory | None = None,
        thrift: Thrift | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._memory = attempts
        self._thrift = thrift or Thrift()
        self._topics = settings.topics
        self._open_bus = open_bus
        self._time = KrakenClock(clock)
        self._metrics = GatewayMetrics(registry)
        self._blindness = Blindness(self._metrics)
        self._started_at = clock()
        self._members = Members(self._topics, SERVICE, settings.instance_id)
        self._pairs: dict[str, str] = {}
        self._gone: Mapping[str, str] = {}
        self._symbols = None if has_wildcards(settings.symbols) else frozenset(settings.symbols)
        self._owned: dict[str, float] = {}
        self._feeds: dict[int, tuple[Feed, asyncio.Task[None]]] = {}
        self._regroup = asyncio.Event()
        self._budget: ConnectionBudget | None = None
        self._instruments: Instruments | None = None
        self._history: HistoryRequests | None = None
        self._seeds: Seeds | None = None
        self._skew_warned = False

    async def run(self) -> None:
        """Serve until cancelled. BusError if the broker cannot be used at the start."""
        steady = asyncio.get_running_loop().time
        budget = self._budget = ConnectionBudget(steady, self._thrift.limit)
        instance = self._settings.instance_id
        will = will_of(self._topics, SERVICE, instance, version=VERSION, started_at=self._started_at)
        async with (
            self._open_bus(REQUESTS, will) as bus,
            self._memory or BusAttempts(self._open_bus, self._topics, instance) as memory,
            httpx.AsyncClient(follow_redirects=False) as client,
        ):
            # Kraken has not forgotten what an earlier life of this instance has tried.
            budget.restore(self._clock() - at for at in await memory.load())

            async def remember() -> None:
                await memory.save([self._clock() - age for age in budget.ages()])

            kraken = Kraken(self._settings.kraken_ws_url, budget, self._time, remember)
            outlet = Outlet(bus, self._topics, self._metrics, kraken.url)
            rest = KrakenRest(self._settings.kraken_rest_url, client, self._metrics, self._time.date)
            now = self._time.now
            history = HistoryRequests(rest, outlet, self._metrics, self._owns, now)
            self._history = history
            seeds = self._seeds = Seeds(kraken, history, outlet, self._metrics, self._owns)
            status = StatusPublisher(bus, self._topics, SERVICE, instance, VERSION, self._started_at, self._details)
            desk = Desk(
                self._topics, self._members, status, seeds, history, outlet, self._metrics, self._regroup.set, now
            )
            audit = Audit(kraken, self._all_feeds, outlet, self._metrics, self._blindness, now)
            verifier = Verifier(rest, self._all_feeds, outlet, self._metrics, self._blindness, now)
            instruments = self._instruments = Instruments(
                kraken, rest, self._metrics, self._take_pairs, self._thrift.list_after
            )
            if self._symbols is not None:
                self._regroup.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(status.run(), name="gateway.status")
                tasks.create_task(desk.listen(bus), name="gateway.requests")
                tasks.create_task(instruments.run(), name="gateway.instruments")
                tasks.create_task(self._retry_rejected(), name="gateway.rejected")
                tasks.create_task(self._keep_grouped(kraken, budget, desk), name="gateway.feeds")
                tasks.create_task(seeds.run(), name="gateway.seeds")
                tasks.create_task(history.run(), name="gateway.history")
                tasks.create_task(audit.run(), name="gateway.audit")
                tasks.create_task(verifier.run(), name="gateway.verifier")
                tasks.create_task(self._keep_gauges(budget), name="gateway.gauges")
                tasks.create_task(self._count_out(bus), name="gateway.members")

    # --- symbols ---

    def _take_pairs(self, pairs: Mapping[str, str]) -> None:
        """Kraken's list of pairs, whenever it has changed."""
        known = self._symbols or ()
        found = listing(self._settings.symbols, pairs, self._pairs, known)
        # Who has left the list is remembered as having been in it.
        self._pairs = {**dict.fromkeys(self._pairs, ""), **pairs}
        for symbol in found.gone.keys() - self._gone.keys():
            log.warning("symbol.gone", symbol=symbol, reason=found.gone[symbol])
        for symbol in self._gone.keys() - found.gone.keys():
            log.info("symbol.back", symbol=symbol)
        self._gone = found.gone
        if found.wanted != self._symbols:
            log.info("symbols.known", symbols=len(found.wanted))
            self._symbols = found.wanted
            self._regroup.set()
        for feed in self._all_feeds():
            feed.assign(feed.report().wanted, self._gone)
            feed.retry(found.appeared & feed.report().wanted)

    async def _retry_rejected(self) -> None:
        """Ask again for what Kraken refuses although its list calls it online: the one may come before the other."""
        while True:
            await asyncio.sleep(_RETRY_REJECTED_SECONDS)
            for feed in self._all_feeds():
                rejected = feed.report().state.rejected
                if online := {symbol for symbol in rejected if self._pairs.get(symbol) == ONLINE}:
                    feed.retry(online)

    def _owns(self, symbol: str) -> bool:
        return symbol in self._owned

    # --- feeds ---

    def _all_feeds(self) -> list[Feed]:
        return [feed for feed, _ in self._feeds.values()]

    async def _keep_grouped(self, kraken: Kraken, budget: ConnectionBudget, desk: Desk) -> None:
        """Spread the symbols that are ours over feeds, and again whenever symbols or members change."""
        async with asyncio.TaskGroup() as tasks:
            settle = _FIRST_SETTLE_SECONDS
            while True:
                await self._regroup.wait()
                # Members come and go in swarms; the retained ones arrive right after the start.
                await asyncio.sleep(settle)
                self._regroup.clear()
                if self._symbols is None:
                    continue
                settle = _SETTLE_SECONDS
                ours = (symbol for symbol in self._symbols if self._members.owns(symbol))
                now = self._time.now()
                self._owned = {symbol: self._owned.get(symbol, now) for symbol in ours}
                self._blindness.keep(self._owned)
                await self._assign(kraken, tasks)
                # One more for the list of pairs.
                budget.share(len(self._members.online), len(self._feeds) + 1)
                desk.open()

    async def _assign(self, kraken: Kraken, tasks: asyncio.TaskGroup) -> None:
        present = {slot: feed.report().wanted for slot, (feed, _) in self._feeds.items()}
        groups = regroup(present, frozenset(self._owned))
        for slot in [slot for slot in self._feeds if slot not in groups]:
            _, task = self._feeds.pop(slot)
            task.cancel()
            await asyncio.wait([task])
        for slot, symbols in groups.items():
            if slot not in self._feeds:
                name = f"{self._settings.instance_id}-{slot}"
                feed = Feed(name, kraken, self._open_bus, self._topics, self._metrics)
                feed.assign(symbols, self._gone)
                self._feeds[slot] = (feed, tasks.create_task(feed.run(), name=name))
            elif symbols != present[slot]:
                self._feeds[slot][0].assign(symbols, self._gone)
        log.info("feeds.grouped", feeds=len(groups), symbols=len(self._owned), members=len(self._members.online))

    # --- how it is ---

    def _reports(self) -> list[FeedReport]:
        return [feed.report() for feed in self._all_feeds()]

    def health(self) -> Health:
        """Ready while at least one feed is live, or there is nothing to carry."""
        reports = self._reports()
        checks = [self._symbols_check(), self._pairs_check(), self._clock_check(), self._budget_check()]
        for report in reports:
            live = report.state.state is FeedCondition.LIVE
            detail = f"{len(report.state.symbols)} of {len(report.wanted)} symbols" if live else report.trouble
            checks.append(Check(f"feed {report.name}", live or report.idle, detail))
        checks.append(self._doubt_check(reports))
        for symbol, reason in rejected_of(reports).items():
            # Nothing is wrong here, and nobody here can mend it.
            checks.append(Check(f"symbol {symbol}", ok=True, detail=f"not carried: {reason}"))
        if self._history is not None and self._history.trouble:
            checks.append(Check("rest", ok=False, detail=self._history.trouble))
        some_live = any(report.state.state is FeedCondition.LIVE for report in reports)
        settled = bool(self._symbols) and not self._regroup.is_set()
        nothing_to_do = settled and all(report.idle for report in reports)
        return Health(live=True, ready=some_live or nothing_to_do, checks=tuple(checks))

    def _symbols_check(self) -> Check:
        if self._symbols is None:
            return Check("symbols", ok=False, detail=self._pairs_check().detail)
        if not self._symbols:
            patterns = ",".join(self._settings.symbols)
            return Check("symbols", ok=False, detail=f"SYMBOLS {patterns} matches none of Kraken's pairs")
        return Check("symbols", ok=True, detail=f"{len(self._owned)} of {len(self._symbols)} are ours")

    def _pairs_check(self) -> Check:
        trouble = self._instruments.trouble if self._instruments else "not started"
        # With a list, or without need of one, its connection may be away for a while.
        return Check("pairs", not trouble or self._symbols is not None, trouble or f"{len(self._pairs)} at Kraken")

    def _budget_check(self) -> Check:
        budget = self._budget
        if budget is None:
            return Check("connections", ok=True, detail="none made yet")
        if budget.wait(Urgency.LIVE):
            return Check("connections", ok=False, detail=budget.described(Urgency.LIVE))
        if budget.wait(Urgency.SHORT):
            # No failure: live connections go on, and seeds come from REST.
            detail = budget.described(Urgency.SHORT)
            return Check("connections", ok=True, detail=f"kept for live ones: {detail}")
        return Check("connections", ok=True, detail=budget.described(Urgency.LIVE))

    def _clock_check(self) -> Check:
        skew = self._time.skew
        side = "ahead of" if skew > 0 else "behind"
        # Shown, and no failure: nothing that is stamped depends on this clock.
        return Check("clock", ok=True, detail=f"{abs(skew):.1f} s {side} Kraken's" if abs(skew) >= 0.05 else "right")

    def _doubt_check(self, reports: Collection[FeedReport]) -> Check:
        doubted = sorted(symbol for report in reports for symbol in report.doubted)
        withheld = sorted(symbol for report in reports for symbol in report.withheld)
        blind = sorted(self._blindness.symbols)
        if not doubted and not blind:
            return Check("doubt", ok=True, detail="no symbol is quieter than usual")
        parts = {"quieter than usual": doubted, "withheld until checked": withheld, "not heard although traded": blind}
        detail = "; ".join(f"{what}: {_some(symbols)}" for what, symbols in parts.items() if symbols)
        return Check("doubt", ok=not withheld and not blind, detail=detail)

    def _details(self) -> Mapping[str, Any]:
        reports = self._reports()
        budget = self._budget
        return {
            "feeds": {report.name: report.state.state.value for report in reports},
            "symbols": sum(len(report.state.symbols) for report in reports),
            "wanted": len(self._owned),
            "rejected": rejected_of(reports),
            "connection_attempts": budget.used if budget else 0,
            "connection_attempts_limit": budget.limit if budget else 0,
            "owned_since": {symbol: rfc3339(since) for symbol, since in sorted(self._owned.items())},
            "doubted": sorted(symbol for report in reports for symbol in report.doubted),
            "withheld": sorted(symbol for report in reports for symbol in report.withheld),
            "blind": sorted(self._blindness.symbols),
            "clock_skew_seconds": round(self._time.skew, 1),
            "ready": self.health().ready,
        }

    async def _count_out(self, bus: Bus) -> None:
        """Notice members that have fallen silent."""
        while True:
            await asyncio.sleep(_MEMBERS_SECONDS)
            if bus.connected and self._members.expire():
                self._regroup.set()

    async def _keep_gauges(self, budget: ConnectionBudget) -> None:
        metrics = self._metrics
        while True:
            reports = self._reports()
            metrics.budget_used.set(budget.used)
            metrics.budget_limit.set(budget.limit)
            metrics.rejected.set(len(rejected_of(reports)))
            metrics.doubted.set(sum(len(report.doubted) for report in reports))
            metrics.withheld.set(sum(len(report.withheld) for report in reports))
            self._watch_skew()
            metrics.seeds_pending.set(self._seeds.pending if self._seeds else 0)
            metrics.history_pending.set(self._history.pending if self._history else 0)
            metrics.history_oldest.set(self._history.oldest if self._history else 0)
            metrics.keep_feeds([report.name for report in reports])
            for report in reports:
                metrics.feed(report.name, report.longest_silence, report.watermark, self._time.now())
            await asyncio.sleep(_GAUGES_SECONDS)

    def _watch_skew(self) -> None:
        skew = self._time.skew
        if abs(skew) > _SKEW_WARNING and not self._skew_warned:
            log.warning("clock.skewed", seconds_ahead_of_kraken=round(skew, 3))
        self._skew_warned = abs(skew) > _SKEW_WARNING


def _some(symbols: Collection[str]) -> str:
    shown = ", ".join(sorted(symbols)[:_SHOWN])
    return f"{shown} and {len(symbols) - _SHOWN} more" if len(symbols) > _SHOWN else shown
