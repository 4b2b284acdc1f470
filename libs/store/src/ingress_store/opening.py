"""From a store URL to a store."""

import time
from collections.abc import Callable
from pathlib import Path

from ingress_store.errors import StoreUrlError
from ingress_store.port import CandleStore
from ingress_store.retention import Retention
from ingress_store.sqlite import SqliteStore


def open_store(url: str, *, clock: Callable[[], float] = time.time, retention: Retention | None = None) -> CandleStore:
    """The store behind `url`, to be opened with `async with`; nothing is connected or created before that.

    `sqlite:///data/candles.db` is a path from the working directory, `sqlite:////var/lib/candles.db` an absolute one.
    StoreUrlError names a URL that no store of this version understands. `clock` (unix seconds) tells when a row was
    written, which retention goes by.
    """
    scheme, separator, rest = url.partition("://")
    if scheme in ("influxdb", "influxdbs") and separator:
        raise StoreUrlError(f"{scheme}:// is not available yet in this version, expected sqlite:///path")
    if scheme != "sqlite" or not rest.startswith("/") or not rest[1:]:
        raise StoreUrlError(f"expected a store URL such as sqlite:///path, got {url!r}")
    return SqliteStore(Path(rest[1:]), clock=clock, retention=retention)
