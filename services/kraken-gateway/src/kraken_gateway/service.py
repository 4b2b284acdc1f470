"""The gateway as a service: who owns which symbol, which feed carries it, who answers requests."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from ingress_common.bus import Bus
from ingress_common.health import Check, Health
from ingress_common.logs import get_logger
from ingress_common.membership import Members
from ingress_common.model import FeedCondition
from ingress_common.presence import StatusPublisher, will_of
from kraken_gateway.audit import Audit
from kraken_gateway.budget import Backoff, ConnectionBudget
from kraken_gateway.connection import ConnectionLost, Kraken
from kraken_gateway.desk import Desk
from kraken_gateway.feed import Feed, FeedReport, OpenBus, rejected_of
from kraken_gateway.groups import has_wildcards, matching, regroup
from kraken_gateway.history import HistoryRequests
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import SERVICE, Outlet
from kraken_gateway.rest import KrakenRest
from kraken_gateway.seeds import Seeds
from kraken_gateway.settings import GatewaySettings
from kraken_gateway.snapshots import fetch_instruments

VERSION = "0.1.0"
"""Version of the gateway, as in its package."""

REQUESTS = "requests"
"""What `open_bus` is told for the connection that takes requests and has the status; it is opened first."""

_INSTRUMENTS_SECONDS = 600.0
_FIRST_SETTLE_SECONDS = 0.5
_SETTLE_SECONDS = 2.0
_GAUGES_SECONDS = 1.0
_MEMBERS_SECONDS = 2.0

log = get_logger(__name__)


class GatewayService:
    """Speaks Kraken.

    `open_bus` makes bus connections: one for requests and status, one for each feed; `clock` is unix seconds.
    """

    name = SERVICE

    def __init__(
        self,
        settings: GatewaySettings,
        registry: CollectorRegistry,
        open_bus: OpenBus,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._open_bus = open_bus
        self._clock = clock
        self._metrics = GatewayMetrics(registry)
        self._started_at = clock()
        self._members = Members(self._topics, SERVICE, settings.instance_id)
        self._symbols: frozenset[str] | None = None
        self._symbols_trouble = "Kraken's list of pairs is not here yet" if has_wildcards(settings.symbols) else ""
        self._owned: frozenset[str] = frozenset()
        self._feeds: dict[int, tuple[Feed, asyncio.Task[None]]] = {}
        self._regroup = asyncio.Event()
        self._budget: ConnectionBudget | None = None
        self._history: HistoryRequests | None = None
        self._seeds: Seeds | None = None

    async def run(self) -> None:
        """Serve until cancelled. BusError if the broker cannot be used at the start."""
        steady = asyncio.get_running_loop().time
        budget = self._budget = ConnectionBudget(steady)
        kraken = Kraken(self._settings.kraken_ws_url, budget, self._clock)
        instance = self._settings.instance_id
        will = will_of(self._topics, SERVICE, instance, version=VERSION, started_at=self._started_at)
        async with self._open_bus(REQUESTS, will) as bus, httpx.AsyncClient(follow_redirects=False) as client:
            outlet = Outlet(bus, self._topics, self._metrics, kraken.url)
            rest = KrakenRest(self._settings.kraken_rest_url, client, self._metrics)
            seeds = self._seeds = Seeds(kraken, outlet, self._metrics, self._owns)
            history = HistoryRequests(rest, outlet, self._metrics, self._owns, self._kraken_now)
            self._history = history
            status = StatusPublisher(bus, self._topics, SERVICE, instance, VERSION, self._started_at, self._details)
            desk = Desk(
                self._topics,
                self._members,
                status,
                seeds,
                history,
                outlet,
                self._metrics,
                self._regroup.set,
                self._clock,
            )
            audit = Audit(kraken, self._all_feeds, outlet, self._metrics, self._kraken_now)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(status.run(), name="gateway.status")
                tasks.create_task(desk.listen(bus), name="gateway.requests")
                tasks.create_task(self._resolve_symbols(kraken), name="gateway.symbols")
                tasks.create_task(self._keep_grouped(kraken, budget, desk), name="gateway.feeds")
                tasks.create_task(seeds.run(), name="gateway.seeds")
                tasks.create_task(history.run(), name="gateway.history")
                tasks.create_task(audit.run(), name="gateway.audit")
                tasks.create_task(self._keep_gauges(budget), name="gateway.gauges")
                tasks.create_task(self._count_out(bus), name="gateway.members")

    # --- symbols ---

    async def _resolve_symbols(self, kraken: Kraken) -> None:
        """Find out what SYMBOLS means; with wildcards, again and again, because pairs come and go."""
        patterns = self._settings.symbols
        if not has_wildcards(patterns):
            self._symbols = frozenset(patterns)
            self._regroup.set()
            return
        backoff = Backoff(at_once=1)
        while True:
            try:
                pairs = await fetch_instruments(kraken)
            except ConnectionLost as lost:
                if self._symbols_trouble != str(lost):
                    log.warning("symbols.unknown", detail=str(lost))
                self._symbols_trouble = str(lost)
                floor = 30.0 if lost.reason == "too-many-connects" else 0.0
                await asyncio.sleep(backoff.pause(at_least=floor, cap=kraken.fair_pause))
                continue
            backoff.reset()
            self._take_pairs(pairs)
            await asyncio.sleep(_INSTRUMENTS_SECONDS)

    def _take_pairs(self, pairs: Mapping[str, str]) -> None:
        wanted = matching(self._settings.symbols, pairs, self._symbols or ())
        self._symbols_trouble = (
            "" if wanted else f"SYMBOLS {','.join(self._settings.symbols)} matches none of Kraken's pairs"
        )
        if wanted != self._symbols:
            log.info("symbols.known", symbols=len(wanted))
            self._symbols = wanted
            self._regroup.set()

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
                self._owned = frozenset(symbol for symbol in self._symbols if self._members.owns(symbol))
                await self._assign(kraken, tasks)
                budget.share(len(self._members.online), len(self._feeds))
                desk.open()

    async def _assign(self, kraken: Kraken, tasks: asyncio.TaskGroup) -> None:
        present = {slot: feed.report().wanted for slot, (feed, _) in self._feeds.items()}
        groups = regroup(present, self._owned)
        for slot in [slot for slot in self._feeds if slot not in groups]:
            _, task = self._feeds.pop(slot)
            task.cancel()
            await asyncio.wait([task])
        for slot, symbols in groups.items():
            if slot not in self._feeds:
                name = f"{self._settings.instance_id}-{slot}"
                feed = Feed(name, kraken, self._open_bus, self._topics, self._metrics)
                feed.assign(symbols)
                self._feeds[slot] = (feed, tasks.create_task(feed.run(), name=name))
            elif symbols != present[slot]:
                self._feeds[slot][0].assign(symbols)
        log.info("feeds.grouped", feeds=len(groups), symbols=len(self._owned), members=len(self._members.online))

    def _kraken_now(self) -> float:
        """Kraken's time: what the feeds measure, else our clock."""
        now = self._clock()
        skews = sorted(skew for feed in self._all_feeds() if (skew := feed.skew) is not None)
        return now - skews[len(skews) // 2] if skews else now

    # --- how it is ---

    def _reports(self) -> list[FeedReport]:
        return [feed.report() for feed in self._all_feeds()]

    def health(self) -> Health:
        """Ready while at least one feed is live, or there is nothing to carry."""
        reports = self._reports()
        checks = [self._symbols_check()]
        for report in reports:
            live = report.state.state is FeedCondition.LIVE
            detail = f"{len(report.state.symbols)} of {len(report.wanted)} symbols" if live else report.trouble
            checks.append(Check(f"feed {report.name}", live, detail))
        for symbol, reason in rejected_of(reports).items():
            checks.append(Check(f"symbol {symbol}", ok=False, detail=f"rejected by Kraken: {reason}"))
        if self._history is not None and self._history.trouble:
            checks.append(Check("rest", ok=False, detail=self._history.trouble))
        some_live = any(report.state.state is FeedCondition.LIVE for report in reports)
        nothing_to_do = (
            self._symbols is not None and bool(self._symbols) and not self._owned and not self._regroup.is_set()
        )
        return Health(live=True, ready=some_live or nothing_to_do, checks=tuple(checks))

    def _symbols_check(self) -> Check:
        if self._symbols_trouble:
            return Check("symbols", ok=False, detail=self._symbols_trouble)
        count = len(self._symbols or ())
        return Check("symbols", ok=True, detail=f"{len(self._owned)} of {count} are ours")

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
            metrics.seeds_pending.set(self._seeds.pending if self._seeds else 0)
            metrics.history_pending.set(self._history.pending if self._history else 0)
            metrics.history_oldest.set(self._history.oldest if self._history else 0)
            metrics.keep_feeds([report.name for report in reports])
            for report in reports:
                metrics.feed(report.name, report.longest_silence, report.watermark, self._clock())
            await asyncio.sleep(_GAUGES_SECONDS)
