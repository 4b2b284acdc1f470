"""The candle store: a small port, its databases, and their bootstrap."""

from ingress_store.bootstrap import BootstrapResult, BootstrapState, Comparison, ResourceState, StoreResource, compare
from ingress_store.bulk import BulkSeries
from ingress_store.errors import StoreOpenError, StoreUnavailableError, StoreUrlError
from ingress_store.influx import InfluxAccess, InfluxStore, backfill_flux, task_flux
from ingress_store.opening import open_store
from ingress_store.ordering import replaces
from ingress_store.port import CandleStore, Freshness, Rejection, TaskState, WriteResult
from ingress_store.retention import Retention
from ingress_store.sqlite import SqliteStore
from ingress_store.url import InfluxUrl, SqliteUrl, StoreUrl, parse_store_url

__all__ = [
    "BootstrapResult",
    "BootstrapState",
    "BulkSeries",
    "CandleStore",
    "Comparison",
    "Freshness",
    "InfluxAccess",
    "InfluxStore",
    "InfluxUrl",
    "Rejection",
    "ResourceState",
    "Retention",
    "SqliteStore",
    "SqliteUrl",
    "StoreOpenError",
    "StoreResource",
    "StoreUnavailableError",
    "StoreUrl",
    "StoreUrlError",
    "TaskState",
    "WriteResult",
    "backfill_flux",
    "compare",
    "open_store",
    "parse_store_url",
    "replaces",
    "task_flux",
]
