"""The settings of admin-api, from the environment."""

import re
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from admin_api.reconciler.reconciler import Pace
from ingress_common.settings import HeaderSecret, zero_or_at_least
from ingress_store.settings import StoreSettings

_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    if "@" in value:
        # A password may contain a comma, so its parts must not be shown one by one.
        raise ValueError("it contains a user")
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _proxy(text: str) -> str:
    if text != "*":
        # As uvicorn reads them, for which a network with bits of a host, such as 10.0.0.1/8, matches nothing.
        ip_network(text)
    return text


Origins = Annotated[
    tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^\s/,*]+)$")], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(description="origins separated by commas such as https://example.org, or * for all"),
]
"""Origins, parsed from text separated by commas."""

Proxies = Annotated[
    tuple[Annotated[str, AfterValidator(_proxy)], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(description="addresses or networks separated by commas such as 10.0.0.0/8, or * for all"),
]
"""Addresses and networks of proxies, parsed from text separated by commas."""


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([1-9][0-9]{0,5})([hdwy])", value.strip())
    if not match:
        raise ValueError("it is not a number followed by h, d, w or y")
    return int(match[1]) * _UNITS[match[2]]


class AdminSettings(StoreSettings):
    """The common settings, STORE_URL, RETENTION and ADMIN_TOKEN; without a token nothing can be changed over HTTP.

    AUDIT_MINUTES, AUDIT_HORIZON (in seconds, once parsed) and SELF_CHECK_SECONDS: how often and how far back the store
    is audited and checked. RATE_LIMIT, RATE_BURST, MAX_STREAMS, CORS_ORIGINS, TRUSTED_PROXIES: limits of clients.
    """

    http_port: Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any free one")] = 8000
    admin_token: Annotated[HeaderSecret | None, Field(description="a token of printable ASCII characters")] = None
    """Bearer token of requests that change something; without it all of them get 401."""

    influx_password: SecretStr | None = None
    """Password of InfluxDB's own page. Not used; if it is the published one or short, `/health` warns of it."""

    mqtt_viewer_password: SecretStr | None = None
    """Password of the read-only MQTT user. Not used; if it is the published one or short, `/health` warns of it."""

    audit_minutes: Annotated[float, Field(ge=0.1, le=1440, description="a number of minutes from 0.1 to 1440")] = 5.0
    """Minutes between two audits of the store."""

    audit_horizon: Annotated[int, BeforeValidator(_seconds), Field(description="a time such as 12h, 7d, 4w or 1y")] = (
        _UNITS["w"]
    )
    """How far back an audit goes (seconds); at most the retention."""

    self_check_seconds: Annotated[
        float,
        Field(ge=0, le=3600, description="a number of seconds from 1 to 3600, or 0 for no self-check"),
        zero_or_at_least(1.0),
    ] = 10.0
    """Seconds between two self-checks; each compares an hour of one symbol."""

    rate_limit: Annotated[
        float,
        Field(ge=0, le=1_000_000, description="requests a second and address from 0.001 up, or 0 for any number"),
        zero_or_at_least(0.001),
    ] = 100
    """Requests per second and address; a /64 network counts as one IPv6 address."""

    rate_burst: Annotated[int, Field(ge=1, le=1_000_000, description="requests at once above RATE_LIMIT")] = 500
    """Requests that one address may make at once, above RATE_LIMIT."""

    max_streams: Annotated[int, Field(ge=0, le=100_000, description="event streams open at once")] = 1_000
    """Maximum number of open event streams on this instance."""

    max_streams_per_address: Annotated[
        int, Field(ge=0, le=100_000, description="event streams open at once from one address")
    ] = 250
    """Maximum number of open event streams per address; behind Docker's published port all clients share one."""

    cors_origins: Origins = ()
    """Origins whose pages may read over HTTP in a browser."""

    trusted_proxies: Proxies = ()
    """Proxies whose X-Forwarded-For header names the client's address."""

    @property
    def pace(self) -> Pace:
        """The intervals and the horizon of audits and self-checks."""
        return Pace(self.audit_minutes * 60, self.audit_horizon, self.self_check_seconds, self.retention)
