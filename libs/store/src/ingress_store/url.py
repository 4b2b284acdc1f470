"""The store's URL: which store, and where."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ingress_common.redaction import holds_credentials
from ingress_common.urls import bracketed, plain_url, split_url
from ingress_store.errors import StoreUrlError

EXPECTED = "a store URL such as influxdb://host:8086, influxdbs://host or sqlite:///path"
"""The valid form of a store URL, for error messages."""

_HTTP = {"influxdb": "http", "influxdbs": "https"}
_PORT = 8086


@dataclass(frozen=True, slots=True)
class SqliteUrl:
    """A SQLite file: `sqlite:///data/candles.db` from the working directory, `sqlite:////var/candles.db` absolute."""

    path: Path

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `sqlite:///path`; StoreUrlError otherwise."""
        rest = text.removeprefix("sqlite://")
        if not rest.startswith("/") or rest == "/":
            raise StoreUrlError("it has no path; write three slashes and a path")
        if "?" in rest or "#" in rest:
            raise StoreUrlError("it contains a query or a fragment, which is shown to everyone")
        if holds_credentials(rest):
            raise StoreUrlError("it contains a user, which is shown to everyone")
        return cls(Path(rest[1:]))

    @property
    def absolute(self) -> Self:
        """The same file, whatever the working directory."""
        return type(self)(self.path.absolute())

    def __str__(self) -> str:
        return f"sqlite:///{self.path}"


@dataclass(frozen=True, slots=True)
class InfluxUrl:
    """An InfluxDB 2: `influxdb://host:8086`, or `influxdbs://host:8086` with TLS.

    `text`: as it was given, without a trailing slash. `http`: the server's HTTP address.
    """

    text: str
    http: str
    tls: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `influxdb[s]://host[:port]`, by default port 8086. StoreUrlError otherwise, without a password."""
        try:
            text = plain_url(text, *_HTTP)
            parts = split_url(text)
        except ValueError as error:
            raise StoreUrlError(str(error)) from None
        host = bracketed(parts.hostname or "")
        http = f"{_HTTP[parts.scheme]}://{host}:{parts.port or _PORT}{parts.path}"
        return cls(text, http, tls=parts.scheme == "influxdbs")

    def __str__(self) -> str:
        return self.text


StoreUrl = SqliteUrl | InfluxUrl
"""Where candles are stored. Its text contains no secret."""


def parse_store_url(text: str) -> StoreUrl:
    """Parse a store URL. StoreUrlError if no store understands it; its text contains no password."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise StoreUrlError("it has no scheme")
    if scheme == "sqlite":
        return SqliteUrl.parse(text)
    if scheme in _HTTP:
        return InfluxUrl.parse(text)
    raise StoreUrlError("the scheme is not influxdb, influxdbs or sqlite")
