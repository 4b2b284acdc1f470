"""Requests to the server, and the meaning of its responses."""

import csv
import json
import os
import re
import ssl
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from ingress_common.tls import reason_of
from ingress_store.errors import StoreUnavailableError
from ingress_store.influx.access import InfluxAccess

_CONNECT_SECONDS = 5.0
_TOTAL_SECONDS = 30.0
_RESPONSE_BYTES = 64 * 2**20
"""The longest response that is read: a hundred times that of the largest query."""
_MESSAGE_BYTES = 10_000
_DROPPED = re.compile(r"dropped=(\d+)")
_DURABLE = 204
_FOUND = 200
_EMPTY, _END = b"\r\n", b"\r\n\r\n"
TOO_LARGE = 413
"""Status of a request that is too large, for InfluxDB or for a proxy before it."""
_ABOUT_LINES = (400, 422)
_CODES_ABOUT_LINES = ("invalid", "unprocessable entity", "internal error")
# `group` distinguishes the tags of a series from its fields.
_DIALECT = {"header": True, "annotations": ["group"], "delimiter": ",", "dateTimeFormat": "RFC3339Nano"}


ResultT = TypeVar("ResultT")


class RefusedError(Exception):
    """The server rejects the request, and a retry is useless; with the response's status and message."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def dropped(self) -> int:
        """How many lines of a batch the server reports as dropped; 0 if it reports none."""
        match = _DROPPED.search(str(self))
        return int(match[1]) if match else 0

    @property
    def is_partial_write(self) -> bool:
        """Whether InfluxDB has taken the request and dropped lines: older than the retention, another field type."""
        return "partial write" in str(self)


class TokenError(StoreUnavailableError):
    """The server does not know the token, or the token may not do this."""


class NoRightError(TokenError):
    """The server knows the token, but the token may not do this."""


class NotThereError(StoreUnavailableError):
    """The organisation or bucket does not exist, or the token may not see it: InfluxDB does not report which."""


class Server:
    """One InfluxDB with one token, over connections that are kept. Every call is bounded in time.

    StoreUnavailableError: try again later (no connection, no response in time, 5xx, 429), or an operator must act
    (token, organisation, bucket, another server at this address). RefusedError: the server will never accept this
    request.
    """

    def __init__(self, url: str, access: InfluxAccess, location: str) -> None:
        self._url = url
        self._org = access.org
        self._location = location
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Token {access.token}"},
            timeout=aiohttp.ClientTimeout(total=_TOTAL_SECONDS, sock_connect=_CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(ssl=access.tls.client_context()) if url.startswith("https:") else None,
        )

    async def __aenter__(self) -> Self:
        """Nothing connects yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()

    async def query(self, flux: str) -> str:
        """The response to a Flux query, as CSV with a header line before each block of rows."""
        body = {"query": flux, "dialect": _DIALECT, "type": "flux"}
        response = await self._call("POST", "query", {"org": self._org}, body, _FOUND)
        # Each result ends with an empty line; one without rows is nothing else.
        if not response.endswith(_END) and response != _EMPTY:
            end = response[-300:].decode(errors="replace")
            raise StoreUnavailableError(f"{self._location}: expected a whole result, got one that ends with {end!r}")
        return response.decode(errors="replace")

    async def write(self, bucket: str, precision: str, body: bytes) -> None:
        """Write line protocol. It is durable when this returns, after status 204.

        It is not compressed: on two cores compression costs both sides more than the bytes do (2 us a line here).
        """
        parameters = {"org": self._org, "bucket": bucket, "precision": precision}
        status, response = await self._exchange("POST", "write", parameters, body)
        if status != _DURABLE:
            raise self._meaning_of_write(status, response)

    async def delete_points(self, bucket: str, start: str, stop: str, predicate: str) -> None:
        """Delete the points from `start` to `stop` (RFC 3339, both included) that match `predicate`."""
        parameters = {"org": self._org, "bucket": bucket}
        await self._call("POST", "delete", parameters, {"start": start, "stop": stop, "predicate": predicate})

    async def get(self, path: str, **parameters: str | int) -> Any:
        """Read a resource."""
        return self._resource(await self._call("GET", path, parameters))

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create a resource."""
        return self._resource(await self._call("POST", path, {}, body))

    async def patch(self, path: str, body: Mapping[str, Any]) -> None:
        """Change a resource."""
        await self._call("PATCH", path, {}, body)

    async def delete(self, path: str) -> None:
        """Delete a resource."""
        await self._call("DELETE", path, {})

    async def _call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str | int],
        body: Mapping[str, Any] | None = None,
        expected: int | None = None,
    ) -> bytes:
        """The body of a response with the status `expected`, or any below 300."""
        data = None if body is None else json.dumps(body).encode()
        status, response = await self._exchange(method, path, parameters, data, {"Content-Type": "application/json"})
        if status >= 300:
            error = self._meaning(status, _message(response))
            if isinstance(error, RefusedError) and not _is_json(response):
                error = StoreUnavailableError(f"{self._location}: expected InfluxDB, got {status} {error}")
            raise error
        if expected is not None and status != expected:
            raise StoreUnavailableError(f"{self._location}: expected {expected} for a {path}, got {status}")
        return response

    def _resource(self, response: bytes) -> Any:
        if not _is_json(response):
            raise StoreUnavailableError(
                f"{self._location}: expected JSON of InfluxDB, got {_message(response)[:100]!r}"
            )
        return json.loads(response)

    async def _exchange(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str | int],
        body: bytes | None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(
                method,
                f"{self._url}/api/v2/{path}",
                params=parameters,
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as response:
                return response.status, await self._read(response)
        except aiohttp.ClientConnectorCertificateError as error:
            cause = error.certificate_error
            reason = reason_of(cause) if isinstance(cause, OSError) else str(cause)
            raise StoreUnavailableError(f"{self._location}: {reason} (INFLUX_CA_FILE)") from error
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno or 0
            reason = (
                reason_of(error.os_error)
                if isinstance(error.os_error, ssl.SSLError) or number <= 0
                else os.strerror(number)
            )
            raise StoreUnavailableError(f"{self._location}: expected a server, got: {reason}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = str(error) or f"no response within {_TOTAL_SECONDS:.0f} s"
            raise StoreUnavailableError(f"{self._location}: {text}") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of a response. StoreUnavailableError, and the end of its connection, if it is too long."""
        received = bytearray()
        async for piece in response.content.iter_any():
            received += piece
            if len(received) > _RESPONSE_BYTES:
                raise StoreUnavailableError(
                    f"{self._location}: expected a response of at most {_RESPONSE_BYTES // 2**20} MiB, "
                    f"got a longer one with status {response.status}"
                )
        return bytes(received)

    def _meaning_of_write(self, status: int, response: bytes) -> Exception:
        """Only InfluxDB's own report about lines is a reason to give up on one, not the response of a proxy."""
        message = _message(response)
        if status == TOO_LARGE:
            return RefusedError(status, message)
        # Some versions report a type conflict as an internal error; a retry would not help.
        about_lines = status in _ABOUT_LINES or (status >= 500 and "partial write" in message)
        error = self._meaning(status, message)
        if isinstance(error, StoreUnavailableError) or (about_lines and _code(response) in _CODES_ABOUT_LINES):
            return error
        return StoreUnavailableError(f"{self._location}: expected 204 for a write, got {status} {message}")

    def _meaning(self, status: int, message: str) -> Exception:
        if status == 401:
            return TokenError(f"{self._location}: expected a token that the server knows, got another one: {message}")
        if status == 403:
            return NoRightError(f"{self._location}: the token may not do this: {message}")
        # The query endpoint reports a missing organisation with another status.
        if status == 404 or (status == 400 and "organization name" in message and "not found" in message):
            return NotThereError(f"{self._location}: {message} (organisation {self._org!r})")
        if (status >= 500 and "partial write" not in message) or status in (408, 429):
            return StoreUnavailableError(f"{self._location}: {status} {message}")
        return RefusedError(status, message)


async def with_store_errors(location: str, call: Awaitable[ResultT]) -> ResultT:
    """Return the result of `call`. A rejected query, or a response of another server, becomes StoreUnavailableError,
    so the service reports it and continues.
    """
    try:
        return await call
    except RefusedError as error:
        raise StoreUnavailableError(f"{location}: the server refuses a query: {error}") from error
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, csv.Error) as error:
        raise StoreUnavailableError(f"{location}: expected a response of InfluxDB, got another one: {error}") from error


def is_expired(reason: str) -> bool:
    """Whether InfluxDB rejects a line for this reason because it is older than the bucket's retention."""
    return "retention policy" in reason


def _is_json(response: bytes) -> bool:
    try:
        return isinstance(json.loads(response), dict)
    except (ValueError, RecursionError):
        return False


def _code(response: bytes) -> str:
    """The code of InfluxDB's error; empty if the response has none, so it is not InfluxDB's."""
    return str(json.loads(response).get("code", "")) if _is_json(response) else ""


def _message(response: bytes) -> str:
    try:
        fields = json.loads(response)
        text = str(fields["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = response[:_MESSAGE_BYTES].decode(errors="replace")
    return " ".join(text[:_MESSAGE_BYTES].split())[:1000]
