"""HTTP/1.1 for a server that strangers talk to: uvicorn's protocol, with an end to everything that a peer can draw out.

uvicorn ends an idle kept-alive connection; it waits without limit for a request that does not come or does not end, for
a peer that does not read, and takes a head of any size.
"""

import json
from asyncio import TimerHandle, Transport
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS = 30.0
"""How long a request may take to arrive, from the connection or its first byte on to its last byte."""

STALL_SECONDS = 30.0
"""How long a peer may read nothing while there is more for it than the system keeps."""

MAX_HEAD = 32 * 1024
"""Bytes of a request before its body."""

ABORT = "ingress.abort"
"""The extension in an ASGI scope that ends the connection at once, without sending what is still to be sent."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    _request_timer: TimerHandle | None = None
    _stall_timer: TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin, and wait for a request."""
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        _cancel(self._request_timer)
        _cancel(self._stall_timer)
        # uvicorn leaves it running where the connection ended with an error.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is a head that grows without end."""
        self._head += len(data)
        super().data_received(data)
        # A head that ended, or a body, has set it back.
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self._refuse(431, f"expected a request head of at most {MAX_HEAD} bytes, got more")

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._refuse(400, msg)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
        self._expect_request()

    def on_headers_complete(self) -> None:
        """The head of a request is here."""
        self._head = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body is here."""
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request is here."""
        _cancel(self._request_timer)
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The peer does not read as fast as we write."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """The peer has read."""
        _cancel(self._stall_timer)
        super().resume_writing()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer with a problem (RFC 9457), and end."""
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
        self._request_timer = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def _cancel(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
