"""The gateway as a service: which symbols it owns, which feed carries each, and what serves requests."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from ingress_common.bus import Bus, LastWill
from ingress_common.health import Check, Health
from ingress_common.heartbeat import StatusPublisher
from ingress_common.logs import get_logger
from ingress_common.membership import Members
from ingress_common.model import InstanceState, Status
from ingress_common.payloads import encode_status
from ingress_common.service_names import GATEWAY
from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.backfill import Backfill
from kraken_gateway.backfill.seeds import Seeds
from kraken_gateway.backfill.snapshots import Snapshots
from kraken_gateway.health import GatewayState, details_of, health_of, set_gauges
from kraken_gateway.kraken.connection import Kraken
from kraken_gateway.kraken.instruments import Instruments
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.limits import LIMIT, ConnectionLimiter
from kraken_gateway.kraken.protocol import TRADED
from kraken_gateway.kraken.rest import KrakenRest
from kraken_gateway.kraken.rest_watch import RestWatch
from kraken_gateway.live.detector import StaleDetector
from kraken_gateway.live.feed import Feed, FeedReport, OpenBus
from kraken_gateway.live.untraded import UntradedPairs
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher
from kraken_gateway.requests import RequestConsumer
from kraken_gateway.restart_pause import DETAIL, earlier_starts, pause_before
from kraken_gateway.settings import GatewaySettings
from kraken_gateway.shards import has_wildcards, listing, moved, reshard

VERSION = "0.1.0"
"""Version of the gateway, as in its package."""

REQUESTS = "requests"
"""Suffix of the client id of the connection for requests and status."""

_SKEW_WARNING = 1.0
_RETRY_REJECTED_SECONDS = 60.0
_FIRST_RESHARD_SECONDS = 0.5
_RESHARD_SECONDS = 2.0
_GAUGES_SECONDS = 1.0
_MEMBERS_SECONDS = 2.0
# Beside the feeds: a snapshot connection for each timeframe, and the list of pairs.
_STANDING_CONNECTIONS = len(Timeframe) + 1

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts beside the feeds."""

    bus: Bus
    status: StatusPublisher
    kraken: Kraken
    rest: KrakenRest
    rest_watch: RestWatch
    publisher: Publisher
    snapshots: Snapshots
    seeds: Seeds
    backfill: Backfill
    detector: StaleDetector
    untraded: UntradedPairs
    consumer: RequestConsumer
    instruments: Instruments


class GatewayService:
    """The gateway of one process: follows Kraken and publishes to the bus.

    `open_bus` makes bus connections: one for requests and status, one for each feed; `clock` is unix seconds.
    `attempts_limit`: connection attempts in 10 minutes, shared by the gateways that are online.
    """

    name = GATEWAY

    def __init__(
        self,
        settings: GatewaySettings,
        registry: CollectorRegistry,
        open_bus: OpenBus,
        clock: Callable[[], float],
        attempts_limit: int = LIMIT,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._attempts_limit = attempts_limit
        self._topics = settings.topics
        self._open_bus = open_bus
        self._time = KrakenClock(clock)
        self._metrics = GatewayMetrics(registry)
        self._members = Members(self._topics, GATEWAY, settings.instance_id)
        self._starts: tuple[float, ...] = ()
        self._pairs: dict[str, str] = {}
        self._gone: Mapping[str, str] = {}
        self._symbols = None if has_wildcards(settings.symbols) else frozenset(settings.symbols)
        self._owned: dict[str, float] = {}
        self._feeds: dict[int, tuple[Feed, asyncio.Task[None]]] = {}
        self._moves: list[str] = []
        self._reshard = asyncio.Event()
        self._parts: _Parts | None = None
        self._skew_warned = False

    async def run(self) -> None:
        """Run until cancelled. BusError if the broker cannot be used at the start."""
        instance, started_at = self._settings.instance_id, self._clock()
        starts = await earlier_starts(self._open_bus, self._topics, instance, started_at)
        self._starts = (*starts, started_at)
        details = {DETAIL: list(self._starts)}
        will = Status(GATEWAY, instance, InstanceState.OFFLINE, VERSION, started_at, details)
        async with (
            self._open_bus(REQUESTS, LastWill(self._topics.status(GATEWAY, instance), encode_status(will))) as bus,
            httpx.AsyncClient(follow_redirects=False, verify=self._settings.kraken_tls.client_context()) as client,
        ):
            status = StatusPublisher(
                bus,
                self._topics,
                GATEWAY,
                instance,
                VERSION,
                started_at,
                self._details,
                unsafe_secrets=self._settings.unsafe_secrets,
            )
            if pause := pause_before(starts, started_at):
                log.warning("start.delayed", seconds=round(pause), starts=len(starts))
            parts = self._parts = self._assemble(bus, client, status)
            if self._symbols is not None:
                self._reshard.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(status.run(), name="gateway.status")
                tasks.create_task(parts.consumer.run(bus), name="gateway.requests")
                tasks.create_task(self._count_members(bus), name="gateway.members")
                tasks.create_task(self._keep_gauges(parts), name="gateway.gauges")
                await asyncio.sleep(pause)
                tasks.create_task(parts.instruments.run(), name="gateway.instruments")
                tasks.create_task(self._keep_sharded(parts), name="gateway.feeds")
                tasks.create_task(parts.snapshots.run(), name="gateway.snapshots")
                tasks.create_task(parts.seeds.run(), name="gateway.seeds")
                tasks.create_task(parts.backfill.run(), name="gateway.backfill")
                tasks.create_task(parts.rest_watch.run(), name="gateway.rest-watch")
                tasks.create_task(parts.detector.run(), name="gateway.detector")
                tasks.create_task(parts.untraded.run(), name="gateway.untraded")
                tasks.create_task(self._retry_rejected(parts), name="gateway.rejected")

    def _assemble(self, bus: Bus, client: httpx.AsyncClient, status: StatusPublisher) -> _Parts:
        limiter = ConnectionLimiter(asyncio.get_running_loop().time, self._attempts_limit)
        settings = self._settings
        kraken = Kraken(settings.kraken_ws_url, limiter, self._time, self._metrics, settings.kraken_tls)
        publisher = Publisher(bus, self._topics, self._metrics, kraken.url)
        rest = KrakenRest(settings.kraken_rest_url, client, self._metrics, self._time)
        snapshots = Snapshots(kraken, publisher, self._metrics)
        now = self._time.now
        seeds = Seeds(snapshots, publisher, self._owns)
        backfill = Backfill(rest, publisher, self._metrics, self._owns, now)
        minutes = snapshots.of(Timeframe.M1)
        detector = StaleDetector(self._all_feeds, minutes, rest, publisher, self._metrics, self._move, now)
        untraded = UntradedPairs(self._all_feeds, rest, status.announce)
        consumer = RequestConsumer(
            self._topics, self._members, status, seeds, backfill, publisher, self._metrics, self._reshard.set, now
        )
        instruments = Instruments(kraken, rest, self._metrics, self._take_pairs)
        return _Parts(
            bus,
            status,
            kraken,
            rest,
            RestWatch(rest),
            publisher,
            snapshots,
            seeds,
            backfill,
            detector,
            untraded,
            consumer,
            instruments,
        )

    # --- symbols ---

    def _take_pairs(self, pairs: Mapping[str, str]) -> None:
        """Receive Kraken's list of pairs after each change."""
        known = self._symbols or ()
        found = listing(self._settings.symbols, pairs, self._pairs, known)
        # A pair that left the list is remembered.
        self._pairs = {**dict.fromkeys(self._pairs, ""), **pairs}
        for symbol in found.gone.keys() - self._gone.keys():
            log.warning("symbol.gone", symbol=symbol, reason=found.gone[symbol])
        for symbol in self._gone.keys() - found.gone.keys():
            log.info("symbol.back", symbol=symbol)
        self._gone = found.gone
        if found.wanted != self._symbols:
            log.info("symbols.known", symbols=len(found.wanted))
            self._symbols = found.wanted
            self._reshard.set()
        for feed in self._all_feeds():
            feed.assign(feed.wanted, self._gone)
            feed.retry(found.appeared & feed.wanted)

    async def _retry_rejected(self, parts: _Parts) -> None:
        """Resubscribe the symbols that Kraken rejects although its list has them as traded, and refresh REST's list
        while it lacks a live symbol: either may be the first to have a symbol.
        """
        while True:
            await asyncio.sleep(_RETRY_REJECTED_SECONDS)
            reports = [(feed, feed.report()) for feed in self._all_feeds()]
            if _unknown_at_rest(parts, (report for _, report in reports)):
                parts.instruments.refresh()
            for feed, report in reports:
                rejected = report.state.rejected
                if traded := {symbol for symbol in rejected if self._pairs.get(symbol) in TRADED}:
                    feed.retry(traded)

    def _owns(self, symbol: str) -> bool:
        return symbol in self._owned

    # --- feeds ---

    def _all_feeds(self) -> list[Feed]:
        return [feed for feed, _ in self._feeds.values()]

    def _move(self, symbol: str) -> None:
        """Move `symbol` to another connection."""
        self._moves.append(symbol)
        self._reshard.set()

    async def _keep_sharded(self, parts: _Parts) -> None:
        """Distribute our symbols over feeds, whenever symbols or members change."""
        async with asyncio.TaskGroup() as tasks:
            delay = _FIRST_RESHARD_SECONDS
            while True:
                await self._reshard.wait()
                # Members join and leave together; retained statuses arrive right after the start.
                await asyncio.sleep(0 if self._moves else delay)
                self._reshard.clear()
                if self._symbols is None:
                    continue
                delay = _RESHARD_SECONDS
                ours = (symbol for symbol in self._symbols if self._members.owns(symbol))
                now = self._time.now()
                self._owned = {symbol: self._owned.get(symbol, now) for symbol in ours}
                parts.detector.keep(self._owned)
                await self._assign(parts.kraken, tasks)
                connections = len(self._feeds) + _STANDING_CONNECTIONS
                parts.kraken.limiter.share(len(self._members.online), connections)
                parts.consumer.open()
                parts.status.announce()

    async def _assign(self, kraken: Kraken, tasks: asyncio.TaskGroup) -> None:
        present = {slot: feed.wanted for slot, (feed, _) in self._feeds.items()}
        shards = reshard(present, frozenset(self._owned))
        moves, self._moves = self._moves, []
        for symbol in moves:
            if symbol in self._owned:
                shards = moved(shards, symbol)
        for slot in [slot for slot in self._feeds if not shards.get(slot)]:
            _, task = self._feeds.pop(slot)
            task.cancel()
            await asyncio.wait([task])
        for slot, symbols in shards.items():
            if not symbols:
                continue
            if slot not in self._feeds:
                name = f"{self._settings.instance_id}-{slot}"
                feed = Feed(name, kraken, self._open_bus, self._topics, self._metrics)
                feed.assign(symbols, self._gone)
                self._feeds[slot] = (feed, tasks.create_task(feed.run(), name=name))
            elif symbols != present[slot]:
                self._feeds[slot][0].assign(symbols, self._gone)
        log.info("feeds.sharded", feeds=len(shards), symbols=len(self._owned), members=len(self._members.online))

    # --- how it is ---

    def _state(self, parts: _Parts) -> GatewayState:
        limiter = parts.kraken.limiter
        reports = [feed.report() for feed in self._all_feeds()]
        return GatewayState(
            now=self._time.now(),
            broker_problem=parts.bus.problem or parts.status.problem,
            patterns=self._settings.symbols,
            symbols=self._symbols,
            owned=self._owned,
            distributed=not self._reshard.is_set(),
            reports=reports,
            stale=parts.detector.stale,
            unknown_at_rest=_unknown_at_rest(parts, reports),
            untraded=parts.untraded.symbols(reports),
            pairs=len(self._pairs),
            pairs_problem=parts.instruments.problem,
            rest_problem=parts.backfill.problem or parts.rest_watch.problem,
            rest_failing=max(parts.backfill.failing, parts.rest_watch.failing),
            backfill_pending=parts.backfill.pending,
            backfill_oldest=parts.backfill.oldest,
            seeds_pending=parts.seeds.pending,
            attempts=limiter.used,
            attempts_limit=limiter.limit,
            attempts_text=limiter.described,
            attempts_wait=limiter.wait,
            skew=self._time.skew,
        )

    def health(self) -> Health:
        """Its health, with a check for each part (`health.py`)."""
        if self._parts is None:
            return Health(live=True, ready=False, checks=(Check("bus", ok=False, detail="not connected yet"),))
        return health_of(self._state(self._parts))

    def _details(self) -> Mapping[str, Any]:
        details = details_of(self._state(self._parts)) if self._parts is not None else {}
        return {**details, DETAIL: list(self._starts)}

    async def _count_members(self, bus: Bus) -> None:
        """Notice members that are silent."""
        while True:
            await asyncio.sleep(_MEMBERS_SECONDS)
            if bus.connected and self._members.expire():
                self._reshard.set()

    async def _keep_gauges(self, parts: _Parts) -> None:
        ready = False
        while True:
            state = self._state(parts)
            set_gauges(state, self._metrics)
            was_ready, ready = ready, health_of(state).ready
            if ready != was_ready:
                parts.status.announce()
            if abs(state.skew) > _SKEW_WARNING and not self._skew_warned:
                log.warning("clock.skewed", seconds_ahead_of_kraken=round(state.skew, 3))
            self._skew_warned = abs(state.skew) > _SKEW_WARNING
            await parts.publisher.dead_letter_refused()
            await asyncio.sleep(_GAUGES_SECONDS)


def _unknown_at_rest(parts: _Parts, reports: Iterable[FeedReport]) -> frozenset[str]:
    """The live symbols that REST does not know."""
    live = (symbol for report in reports for symbol in report.state.symbols)
    return frozenset(symbol for symbol in live if not parts.rest.knows(symbol))
