"""The address and credentials of an InfluxDB."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ingress_common.tls import TlsFiles
from ingress_store.errors import StoreUrlError

_EXPECTED = "expected a store URL such as influxdb://host:8086 or influxdbs://host:8086"
_PORT = 8086


@dataclass(frozen=True, slots=True)
class InfluxAccess:
    """The organisation, by its name or ID, and a token that may read and write its buckets.

    `tls`: own authorities and a client certificate, for `influxdbs://`.
    """

    org: str
    token: str = field(repr=False)
    tls: TlsFiles = TlsFiles()  # noqa: RUF009 - immutable


def http_url(url: str) -> str:
    """The server's HTTP address of `influxdb://host:port` (port 8086 by default); StoreUrlError otherwise."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
    except ValueError:
        raise StoreUrlError(f"{_EXPECTED}, got {url!r}") from None
    more = parts.username is not None or parts.query or parts.fragment
    if parts.scheme not in ("influxdb", "influxdbs") or not parts.hostname or more:
        raise StoreUrlError(f"{_EXPECTED}, got {parts.scheme}://{parts.hostname or ''}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    scheme = "https" if parts.scheme == "influxdbs" else "http"
    return f"{scheme}://{host}:{port}{parts.path.rstrip('/')}"
