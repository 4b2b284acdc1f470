"""Open a store by its URL."""

import time
from collections.abc import Callable
from pathlib import Path

from ingress_store.errors import StoreUrlError
from ingress_store.influx import InfluxAccess, InfluxStore
from ingress_store.port import CandleStore
from ingress_store.retention import Retention
from ingress_store.sqlite import SqliteStore


def open_store(
    url: str,
    *,
    clock: Callable[[], float] = time.time,
    retention: Retention | None = None,
    influx: InfluxAccess | None = None,
) -> CandleStore:
    """The store of `url`, to open with `async with`; nothing is connected or created before that.

    `influxdb://host:8086` and `influxdbs://host:8086` (TLS) need `influx`. `sqlite:///data/candles.db` is a path from
    the working directory, `sqlite:////var/lib/candles.db` an absolute one. StoreUrlError if no store understands the
    URL. `clock` (unix seconds) dates the rows of SQLite.
    """
    scheme, separator, rest = url.partition("://")
    if scheme in ("influxdb", "influxdbs") and separator:
        if influx is None:
            raise StoreUrlError(f"{scheme}:// needs an organisation and a token: set INFLUX_ORG and INFLUX_TOKEN")
        return InfluxStore(url, influx, retention=retention)
    if scheme != "sqlite" or not rest.startswith("/") or not rest[1:]:
        raise StoreUrlError(f"expected a store URL such as influxdb://host:8086 or sqlite:///path, got {url!r}")
    return SqliteStore(Path(rest[1:]), clock=clock, retention=retention)
