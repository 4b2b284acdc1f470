"""Talking to the server: requests, and what its answers mean to us."""

import asyncio
import gzip
import json
import os
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

from ingress_store.errors import StoreUnavailableError
from ingress_store.influx.access import InfluxAccess

_CONNECT_SECONDS = 5.0
_TOTAL_SECONDS = 30.0
_DROPPED = re.compile(r"dropped=(\d+)")
# The annotations would only cost time; the columns are known.
_DIALECT = {"header": True, "annotations": [], "delimiter": ",", "dateTimeFormat": "RFC3339Nano"}


class RefusedError(Exception):
    """The server refuses what it was asked, and will again: the answer's status and its message."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def dropped(self) -> int:
        """How many lines of a batch the server says it has dropped; 0 if it does not say."""
        match = _DROPPED.search(str(self))
        return int(match[1]) if match else 0


class TokenError(StoreUnavailableError):
    """The server does not know the token, or the token may not do this."""


class NotThereError(StoreUnavailableError):
    """The organisation or bucket is not there, or is not for this token's eyes: InfluxDB does not tell which."""


class Server:
    """One InfluxDB with one token. Every call is bounded in time.

    StoreUnavailableError: try again later (no connection, no answer in time, 5xx, 429, and what only a person can mend:
    token, organisation, bucket). RefusedError: this request will never be taken.
    """

    def __init__(self, url: str, org: str, token: str, location: str) -> None:
        timeout = aiohttp.ClientTimeout(total=_TOTAL_SECONDS, sock_connect=_CONNECT_SECONDS)
        self._client = InfluxDBClientAsync(url=url, token=token, org=org, timeout=timeout)
        self._org = org
        self._location = location

    @classmethod
    def for_writing(cls, url: str, access: InfluxAccess, location: str) -> Self:
        """With the token that writes."""
        return cls(url, access.org, access.token, location)

    @classmethod
    def for_reading(cls, url: str, access: InfluxAccess, location: str) -> Self:
        """With the token that reads."""
        return cls(url, access.org, access.read_token or access.token, location)

    async def __aenter__(self) -> Self:
        """Nothing is connected yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def query(self, flux: str) -> str:
        """The answer of a Flux query, as CSV with a header line before each block of rows."""
        body = {"query": flux, "dialect": _DIALECT, "type": "flux"}
        answer = await self._call("POST", "/api/v2/query", {"org": self._org}, body)
        return answer.decode()

    async def write(self, bucket: str, precision: str, lines: list[str]) -> None:
        """Write line protocol; it is durable when this returns."""
        body = "\n".join(lines).encode()
        packed = await asyncio.to_thread(gzip.compress, body, 1)
        headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip"}
        parameters = {"org": self._org, "bucket": bucket, "precision": precision}
        await self._call("POST", "/api/v2/write", parameters, packed, headers)

    async def get(self, path: str, **parameters: str | int) -> Any:
        """A resource."""
        return json.loads(await self._call("GET", f"/api/v2/{path}", parameters))

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Make a resource."""
        return json.loads(await self._call("POST", f"/api/v2/{path}", {}, body))

    async def patch(self, path: str, body: Mapping[str, Any]) -> None:
        """Change a resource."""
        await self._call("PATCH", f"/api/v2/{path}", {}, body)

    async def delete(self, path: str) -> None:
        """Delete a resource."""
        await self._call("DELETE", f"/api/v2/{path}", {})

    async def _call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str | int],
        body: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        try:
            # The client's own calls for these cost a copy of the data, or know no asyncio.
            response = await self._client.api_client.call_api(  # type: ignore[no-untyped-call]
                path,
                method,
                query_params=dict(parameters),
                header_params={"Accept-Encoding": "gzip", **(headers or {})},
                body=body,
                _preload_content=False,
            )
            answer: bytes = await response.read()
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno or 0
            reason = os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
            raise StoreUnavailableError(f"{self._location}: expected a server, got: {reason}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = str(error) or f"no answer within {_TOTAL_SECONDS:.0f} s"
            raise StoreUnavailableError(f"{self._location}: {text}") from error
        if response.status >= 300:
            raise self._meaning(response.status, _message(answer) or str(response.reason))
        return answer

    def _meaning(self, status: int, message: str) -> Exception:
        if status == 401:
            return TokenError(f"{self._location}: expected a token that the server knows, got another one: {message}")
        if status == 403:
            return TokenError(f"{self._location}: the token may not do this: {message}")
        # Of an organisation that is not there the query endpoint says so with another status.
        if status == 404 or (status == 400 and "organization name" in message and "not found" in message):
            return NotThereError(f"{self._location}: {message} (organisation {self._org!r})")
        # A conflict of types comes as an internal error from some versions; trying that again is no use.
        if (status >= 500 and "partial write" not in message) or status in (408, 429):
            return StoreUnavailableError(f"{self._location}: {status} {message}")
        return RefusedError(status, message)


def _message(answer: bytes) -> str:
    try:
        fields = json.loads(answer)
        text = str(fields["message"])
    except (ValueError, KeyError, TypeError):
        text = answer.decode(errors="replace")
    return " ".join(text.split())[:1000]
