"""Open a store by its URL."""

import time
from collections.abc import Callable

from ingress_store.errors import StoreUrlError
from ingress_store.influx import InfluxAccess, InfluxStore
from ingress_store.port import CandleStore
from ingress_store.retention import Retention
from ingress_store.sqlite import SqliteStore
from ingress_store.url import InfluxUrl, StoreUrl


def open_store(
    url: StoreUrl,
    *,
    clock: Callable[[], float] = time.time,
    retention: Retention | None = None,
    influx: InfluxAccess | None = None,
) -> CandleStore:
    """The store of `url`, to open with `async with`; nothing is connected or created before that.

    InfluxDB needs `influx`; StoreUrlError without it. `clock` (unix seconds) dates the rows of SQLite, and decides
    which candles InfluxDB has to accept.
    """
    if isinstance(url, InfluxUrl):
        if influx is None:
            raise StoreUrlError(f"{url} needs an organisation and a token: set INFLUX_ORG and INFLUX_TOKEN")
        return InfluxStore(url, influx, clock=clock, retention=retention)
    return SqliteStore(url.path, clock=clock, retention=retention)
