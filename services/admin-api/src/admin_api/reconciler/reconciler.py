"""The composition of the package, which `app.py` mounts and runs."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from admin_api.reconciler import routes
from admin_api.reconciler.audit import AuditMetrics, Auditor
from admin_api.reconciler.bodies import RepairHealth
from admin_api.reconciler.context import Context
from admin_api.reconciler.leftovers import Leftovers
from admin_api.reconciler.repair import Repairer, RepairMetrics
from admin_api.reconciler.seeds import SeedMetrics, StoreSeeds
from admin_api.reconciler.self_check import SelfCheck, SelfCheckMetrics
from admin_api.reconciler.stored import StoredWatch
from admin_api.system.state import SystemState
from ingress_common.bus import Bus, Message
from ingress_common.health import Check
from ingress_common.membership import TAKEOVER_SECONDS, owner_of
from ingress_common.model import RepublishRequest
from ingress_common.payloads import PayloadError, decode_history, decode_seed_request, encode_republish_request
from ingress_common.topics import Topics
from ingress_store import CandleStore, Retention


@dataclass(frozen=True, slots=True)
class Pace:
    """The intervals of audits and self-checks in seconds (0: no self-check), the horizon of audits in seconds, and the
    store's retention.
    """

    audit_seconds: float
    audit_horizon: float
    self_check_seconds: float
    retention: Retention


class Reconciler:
    """Finds and fills gaps, for one instance of admin-api; instances split the symbols by rendezvous hashing.

    `store_ready`: whether the store answers. `authorized`: the dependency of routes that change something. `clock` in
    unix seconds.
    """

    body = RepairHealth
    """The type of the fields in `GET /health`."""

    def __init__(
        self,
        *,
        state: SystemState,
        bus: Bus,
        store: CandleStore,
        topics: Topics,
        service: str,
        instance: str,
        pace: Pace,
        store_ready: Callable[[], bool],
        authorized: Callable[..., Any],
        registry: CollectorRegistry,
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._bus = bus
        self._topics = topics
        self._service = service
        self._instance = instance
        self._clock = clock
        self._self_checks = pace.self_check_seconds > 0
        context = Context(bus, topics, store, state, self._owns, self._live, clock)
        self.stored = StoredWatch(context, self._republish)
        """The closed candles of the bus that are not stored yet."""
        self.repairer = Repairer(context, RepairMetrics(registry))
        """Fills gaps."""
        self.auditor = Auditor(
            context,
            AuditMetrics(registry),
            self.repairer.take,
            store_ready,
            seconds=pace.audit_seconds,
            horizon=pace.audit_horizon,
            retention=pace.retention,
        )
        """Finds gaps."""
        self._self_check = SelfCheck(context, SelfCheckMetrics(registry), pace.self_check_seconds)
        self._seeds = StoreSeeds(context, SeedMetrics(registry))
        self._leftovers = Leftovers(context)
        requests = routes.RepairRequests(context, self.repairer, self.auditor, pace.retention)
        self.routers: tuple[APIRouter, ...] = (routes.router(self.repairer, self.auditor, requests, authorized),)
        """The routes to mount."""

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.stored.run(), name="reconciler.watch-stored")
            tasks.create_task(self.auditor.run(), name="reconciler.audit")
            tasks.create_task(self.repairer.run(), name="reconciler.repair")
            if self._self_checks:
                tasks.create_task(self._self_check.run(), name="reconciler.self-check")
            tasks.create_task(self._seeds.run(), name="reconciler.seeds")
            tasks.create_task(self._leftovers.run(), name="reconciler.leftovers")

    def reconnected(self) -> None:
        """Schedule an audit: the connection to the broker was interrupted."""
        self.stored.reconnected()
        self.auditor.interrupted()

    def filters(self) -> tuple[str, ...]:
        """The topic filters that it needs."""
        return (self._topics.seed_requests(),)

    def take(self, message: Message) -> bool:
        """Process a history batch or a seed request; returns whether `message` was one. PayloadError if it is
        malformed.
        """
        if message.topic == self._topics.seed_requests():
            if message.retain:
                raise PayloadError("expected a message that is not retained")
            self._seeds.take(decode_seed_request(message.payload))
            return True
        if not message.topic.startswith(f"{self._topics.prefix}/history/"):
            return False
        self._self_check.take(decode_history(message.payload))
        return True

    def checks(self, now: float) -> tuple[Check, ...]:
        """The checks in `GET /health` at `now` (unix seconds)."""
        return (
            self.stored.check(now),
            self.auditor.check(now),
            self.repairer.check(now),
            self._self_check.check(now),
        )

    def details(self) -> RepairHealth:
        """The fields of this package in `GET /health`."""
        return RepairHealth(self.stored.body(), self.auditor.body(), self.repairer.counts(), self._self_check.body())

    def _live(self) -> Mapping[str, float]:
        return self._state.live_since(self._clock())

    def _owns(self, symbol: str) -> bool:
        """Whether this instance of admin-api owns `symbol`."""
        online = {name for name, _ in self._state.online(self._service, self._clock(), TAKEOVER_SECONDS)}
        return owner_of(symbol, online | {self._instance}) == self._instance

    async def _republish(self, request: RepublishRequest) -> None:
        await self._bus.publish(self._topics.republish_requests(), encode_republish_request(request))
