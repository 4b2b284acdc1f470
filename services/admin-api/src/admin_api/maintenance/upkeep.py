"""What keeps the store true: audit, repair, self-check; and beside it dead letters and the watch over ownership."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from admin_api.letters import LETTERS_KEPT, DeadLetters, LetterMetrics
from admin_api.maintenance.audit import AuditMetrics, Auditor
from admin_api.maintenance.repair import Repairer, RepairMetrics
from admin_api.maintenance.selfcheck import SelfCheck, SelfCheckMetrics
from admin_api.system.health import WATERMARK_SECONDS
from admin_api.system.ownership import OWNER_SILENCE_SECONDS, OwnershipWatch, ownership_details
from admin_api.system.view import BusView
from ingress_common.bus import Bus, Message
from ingress_common.health import Check
from ingress_common.membership import owner_of
from ingress_common.payloads import decode_history
from ingress_common.topics import Topics
from ingress_store import CandleStore, Retention

_WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class UpkeepLimits:
    """How often and how far back: seconds between audits and self-checks (0: none), seconds that audits look back, what
    the store keeps, and how many dead letters are kept.
    """

    audit_seconds: float = 300.0
    audit_horizon: float = 7 * 86400.0
    self_check_seconds: float = 10.0
    retention: Retention = Retention()  # noqa: RUF009 - immutable
    letters_kept: int = LETTERS_KEPT


class Upkeep:
    """All of it for one instance of admin-api. Instances share the symbols out by rendezvous hashing.

    `letters_bus` is a connection of its own; `ready` tells whether the store answers; `clock` in unix seconds.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        letters_bus: Bus,
        store: CandleStore,
        topics: Topics,
        service: str,
        instance: str,
        view: BusView,
        ready: Callable[[], bool],
        clock: Callable[[], float],
        registry: CollectorRegistry,
        limits: UpkeepLimits,
    ) -> None:
        self._topics = topics
        self._service = service
        self._instance = instance
        self._view = view
        self._clock = clock
        self._limits = limits
        self._watch = OwnershipWatch(view)
        self.letters = DeadLetters(letters_bus, topics, LetterMetrics(registry), limits.letters_kept)
        """The dead letters of all services."""
        self.repairer = Repairer(bus, topics, store, RepairMetrics(registry), clock, self.owns, self.live)
        """Looks after gaps."""
        self.auditor = Auditor(
            store,
            view,
            AuditMetrics(registry),
            self.repairer.take,
            self.live,
            ready,
            clock,
            seconds=limits.audit_seconds,
            horizon=limits.audit_horizon,
            retention=limits.retention,
        )
        """Finds gaps."""
        self._self_check = SelfCheck(
            bus,
            topics,
            store,
            SelfCheckMetrics(registry),
            clock,
            self.owns,
            self.live,
            seconds=limits.self_check_seconds,
        )

    @property
    def retention(self) -> Retention:
        """What the store keeps."""
        return self._limits.retention

    def live(self) -> Mapping[str, float]:
        """The symbols of feeds that are live and fresh, and since when (unix seconds)."""
        now = self._clock()
        since: dict[str, float] = {}
        for feed in self._view.feeds.values():
            if feed.is_fresh(now, WATERMARK_SECONDS):
                since.update(dict.fromkeys(feed.state.symbols, feed.state.since))
        return since

    def owns(self, symbol: str) -> bool:
        """Whether `symbol` is ours among the instances of this service."""
        now = self._clock()
        others = {
            instance
            for (service, instance), entry in self._view.instances.items()
            if service == self._service and entry.is_online(now, OWNER_SILENCE_SECONDS)
        }
        return owner_of(symbol, others | {self._instance}) == self._instance

    async def run(self) -> None:
        """Work until cancelled. BusError if the broker refuses at the start."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.letters.run(), name="admin.letters")
            tasks.create_task(self.auditor.run(), name="admin.audit")
            tasks.create_task(self.repairer.run(), name="admin.repair")
            tasks.create_task(self._keep_watch(), name="admin.ownership")
            if self._limits.self_check_seconds:
                tasks.create_task(self._self_check.run(), name="admin.self-check")

    def reconnected(self) -> None:
        """The broker was away."""
        self.auditor.disturbed()

    def takes(self, message: Message) -> bool:
        """Whether `message` is for upkeep alone, and if so take it; PayloadError if it makes no sense."""
        if not message.topic.startswith(f"{self._topics.prefix}/history/"):
            return False
        self._self_check.take(decode_history(message.payload))
        return True

    def checks(self) -> tuple[Check, ...]:
        """Its checks of `GET /health`."""
        now = self._clock()
        return (
            self._watch.check(now),
            self.auditor.check(now),
            self.repairer.check(now),
            self._self_check.check(now),
        )

    def details(self) -> dict[str, Any]:
        """Its part of `GET /health`."""
        return {
            **ownership_details(self._watch.look(self._clock())),
            "audit": self.auditor.details(),
            "gaps": self.repairer.details(),
            "self_check": self._self_check.details(),
        }

    async def _keep_watch(self) -> None:
        while True:
            self._watch.look(self._clock())
            await asyncio.sleep(_WATCH_SECONDS)
