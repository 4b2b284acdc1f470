"""What admin-api takes from the environment."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from admin_api.limits import HttpLimits
from ingress_store.settings import StoreSettings

_ORIGIN = re.compile(r"\*|https?://[^\s/,*]+")
_PROXY = re.compile(r"\*|[0-9A-Fa-f.:]+(/\d{1,3})?")


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _origins(value: object) -> object:
    return _each(_split(value), _ORIGIN, "an origin such as https://example.org")


def _proxies(value: object) -> object:
    return _each(_split(value), _PROXY, "an address or network such as 10.0.0.0/8")


def _each(values: object, pattern: re.Pattern[str], what: str) -> object:
    if isinstance(values, tuple):
        wrong = [value for value in values if not pattern.fullmatch(value)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not {what}")
    return values


Origins = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_origins),
    Field(description="origins separated by commas such as https://example.org, or * for all"),
]
"""Pages of which other origins may read over HTTP."""

Proxies = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_proxies),
    Field(description="addresses or networks separated by commas such as 10.0.0.0/8, or * for all"),
]
"""From where X-Forwarded-For is believed."""


class AdminSettings(StoreSettings):
    """The common settings, STORE_URL, RETENTION, ADMIN_TOKEN, and what a client may ask for over HTTP."""

    http_port: Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any free one")] = 8000
    admin_token: SecretStr | None = None
    rate_limit: Annotated[
        float, Field(ge=0, le=1_000_000, description="requests a second and address, or 0 for any number")
    ] = 100
    rate_burst: Annotated[int, Field(ge=1, le=1_000_000, description="requests at once above RATE_LIMIT")] = 500
    max_streams: Annotated[int, Field(ge=0, le=100_000, description="event streams open at once")] = 1_000
    cors_origins: Origins = ()
    trusted_proxies: Proxies = ()

    @property
    def http_limits(self) -> HttpLimits:
        """What the service takes over HTTP."""
        return HttpLimits(
            rate=self.rate_limit, burst=self.rate_burst, streams=self.max_streams, origins=self.cors_origins
        )
