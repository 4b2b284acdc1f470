"""HTTP/1.1 for a server that faces untrusted clients: uvicorn's protocol with limits on time and size.

uvicorn alone only ends idle kept-alive connections. It waits forever for a request that never arrives or never ends and
for a peer that does not read, and it accepts a request head of any size.
"""

import json
from asyncio import TimerHandle, Transport
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS = 30.0
"""Maximum time for a request to arrive, from the connection or its first byte to its last byte."""

STALL_SECONDS = 30.0
"""Maximum time that a peer may read nothing while the send buffer is full."""

MAX_HEAD = 32 * 1024
"""Maximum size in bytes of a request's head (request line and headers)."""

_TOO_LONG = f"expected a request head of at most {MAX_HEAD} bytes, got more"
_HEADER_MARKS = len(": \r\n")

ABORT = "ingress.abort"
"""Name of the ASGI scope's extension that closes the connection at once and discards unsent data."""


class GuardedProtocol(HttpToolsProtocol):
    """One HTTP connection with limits on time and size."""

    _request_timer: TimerHandle | None = None
    _stall_timer: TimerHandle | None = None
    _head = 0  # bytes that arrived since the last head or body ended
    _fields = 0  # bytes of this request's head, which may have arrived at once

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the timer of the first request."""
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        _cancel(self._request_timer)
        _cancel(self._stall_timer)
        # uvicorn leaves the keep-alive timer running when the connection ended with an error.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse `data`; respond 431 if the head is longer than `MAX_HEAD`."""
        self._head += len(data)
        super().data_received(data)
        # The parser has reset the count if the head was complete.
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self._refuse(431, _TOO_LONG)

    def send_400_response(self, msg: str) -> None:
        """Respond 400: the data is not HTTP; 431 if the head was refused."""
        if self._fields > MAX_HEAD:
            self._refuse(431, _TOO_LONG)
        else:
            self._refuse(400, msg)

    def on_message_begin(self) -> None:
        """Handle the first byte of a request: start its timer."""
        super().on_message_begin()
        self._fields = 0
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
        self._expect_request()

    def on_url(self, url: bytes) -> None:
        """Handle a part of the request line."""
        self._fields += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header."""
        self._fields += len(name) + len(value) + _HEADER_MARKS
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Handle the end of a request's head; one that is too long ends the parsing, and with it the connection."""
        if self._fields > MAX_HEAD:
            raise ValueError(_TOO_LONG)
        self._head = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Handle a part of a request's body."""
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Handle the last byte of a request: stop its timer."""
        _cancel(self._request_timer)
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Start the stall timer: the peer reads more slowly than we write."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Stop the stall timer: the peer has read."""
        _cancel(self._stall_timer)
        super().resume_writing()

    def _refuse(self, status: int, detail: str) -> None:
        """Respond with a problem (RFC 9457) and close the connection."""
        phrase = HTTPStatus(status).phrase
        body = json.dumps({"type": "about:blank", "title": phrase, "status": status, "detail": detail})
        self.transport.write(
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        self.transport.close()

    def _expect_reading(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(STALL_SECONDS, self._check_reading, waiting)

    def _check_reading(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._expect_reading()
        else:
            self.transport.abort()

    def _expect_request(self) -> None:
        _cancel(self._request_timer)
        self._request_timer = self.loop.call_later(REQUEST_SECONDS, self._close_late)

    def _close_late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def _cancel(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
