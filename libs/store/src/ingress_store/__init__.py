"""The candle store: a small port, the databases behind it, and what they need to be there."""

from ingress_store.bootstrap import BootstrapResult, BootstrapState, Comparison, Resource, ResourceState, compare
from ingress_store.errors import StoreOpenError, StoreUnavailableError, StoreUrlError
from ingress_store.holes import Hole
from ingress_store.influx import InfluxAccess, InfluxStore, backfill_flux, task_flux
from ingress_store.opening import open_store
from ingress_store.ordering import replaces
from ingress_store.port import CandleStore, Freshness, Rejection, Settlement, TaskState, WriteResult
from ingress_store.retention import Retention
from ingress_store.sqlite import SqliteStore

__all__ = [
    "BootstrapResult",
    "BootstrapState",
    "CandleStore",
    "Comparison",
    "Freshness",
    "Hole",
    "InfluxAccess",
    "InfluxStore",
    "Rejection",
    "Resource",
    "ResourceState",
    "Retention",
    "Settlement",
    "SqliteStore",
    "StoreOpenError",
    "StoreUnavailableError",
    "StoreUrlError",
    "TaskState",
    "WriteResult",
    "backfill_flux",
    "compare",
    "open_store",
    "replaces",
    "task_flux",
]
