"""What the routes work on."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from admin_api.http.limits import HttpLimits
from admin_api.maintenance.upkeep import Upkeep
from admin_api.metrics import AdminMetrics
from admin_api.reading.bulk import BulkReads
from admin_api.reading.live import LiveCandles
from admin_api.reading.recent import RecentCandles
from admin_api.reading.stream import Streams
from admin_api.system.health import Report, assess
from admin_api.system.monitor import StoreMonitor
from admin_api.system.view import BusView
from ingress_common.health import Check, Health
from ingress_store import CandleStore


@dataclass(frozen=True, slots=True)
class Context:
    """The view of the bus, the store and its upkeep, and what goes with them.

    `clock` gives unix seconds; without an `admin_token` nothing can be changed over HTTP.
    """

    view: BusView
    store: CandleStore
    monitor: StoreMonitor
    upkeep: Upkeep
    broker_connected: Callable[[], bool]
    clock: Callable[[], float]
    registry: CollectorRegistry
    metrics: AdminMetrics
    admin_token: str | None
    http_limits: HttpLimits
    live: LiveCandles
    recent: RecentCandles
    streams: Streams
    bulk: BulkReads

    async def must_know(self, symbol: str) -> None:
        """HTTPException 404 if neither the bus nor the store has heard of `symbol`; StoreUnavailableError."""
        if symbol in self.view.symbols or self.live.knows(symbol):
            return
        if symbol not in await self.store.symbols():
            raise HTTPException(404, f"unknown symbol: {symbol}; GET /symbols lists what there is")

    def broker(self) -> Check:
        """Whether the broker is there."""
        connected = self.broker_connected()
        return Check("broker", ok=connected, detail="connected" if connected else "not connected")

    def report(self) -> Report:
        """The health of everything."""
        seen = assess(self.view, self.clock(), self.broker(), self.monitor.check, self.monitor.tasks)
        details = {**seen.details, **self.upkeep.details()}
        return Report((*seen.checks, *self.upkeep.checks()), details)

    def health(self) -> Health:
        """The health of this service alone: ready when broker and store answer."""
        checks = (self.broker(), self.monitor.check)
        return Health(live=True, ready=all(check.ok for check in checks), checks=checks)
