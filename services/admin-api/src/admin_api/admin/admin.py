"""The composition of the package, which `app.py` mounts and runs."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from admin_api.admin import dashboard, routes_bootstrap, routes_dead_letters, routes_health
from admin_api.admin.authorization import Authorization
from admin_api.admin.bootstrap import StoreMonitor
from admin_api.admin.dead_letters import DeadLetterMetrics, DeadLetters
from admin_api.admin.health import Contribution, HealthReporter
from admin_api.admin.metrics import SystemCollector
from admin_api.system.state import SystemState
from ingress_common.bus import Bus
from ingress_common.health import Check
from ingress_common.topics import Topics
from ingress_store import CandleStore


class Admin:
    """System health, bootstrap of `store`, dead letters on `dead_letter_bus`, and the dashboard.

    `broker`: the check of the broker; `monitor` watches `store`; `contribution`: other packages' part of the report.
    `clock` in unix seconds.
    """

    def __init__(
        self,
        *,
        state: SystemState,
        store: CandleStore,
        monitor: StoreMonitor,
        dead_letter_bus: Bus,
        dead_letters_kept: int,
        topics: Topics,
        broker: Callable[[], Check],
        authorization: Authorization,
        contribution: Contribution,
        registry: CollectorRegistry,
        clock: Callable[[], float],
    ) -> None:
        self._monitor = monitor
        self.dead_letters = DeadLetters(dead_letter_bus, topics, DeadLetterMetrics(registry), dead_letters_kept)
        """The dead letters of all services."""
        self.health = HealthReporter(state, broker, monitor, contribution, clock)
        """The health of the system."""
        registry.register(SystemCollector(state, self.health.checks, lambda: monitor.tasks, clock))
        self.routers: tuple[APIRouter, ...] = (
            routes_health.router(self.health, contribution.body, registry),
            routes_bootstrap.router(store, monitor, authorization),
            routes_dead_letters.router(self.dead_letters, authorization),
            dashboard.router(),
        )
        """The routes to mount."""

    async def run(self) -> None:
        """Run until cancelled. BusError if the broker refuses the first connection."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._monitor.run(), name="admin.watch-store")
            tasks.create_task(self.dead_letters.run(), name="admin.dead-letters")
            tasks.create_task(self.health.run(), name="admin.symbols")
