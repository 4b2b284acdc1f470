"""HTTP/1.1 for a server that strangers talk to: uvicorn's protocol, with an end to everything that a peer can draw out.

uvicorn ends an idle kept-alive connection; it waits without limit for a request that does not come or does not end, for
a peer that does not read, and takes a head of any size.
"""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS = 30.0
"""How long a request may take to arrive, from the connection or its first byte on to its last byte."""

STALL_SECONDS = 30.0
"""How long a peer may read nothing while there is more for it than the system keeps."""

MAX_HEAD = 32 * 1024
"""Bytes of a request before its body."""

ABORT = "ingress.abort"
"""The extension in an ASGI scope that ends the connection at once, without sending what is still to be sent."""

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
)
_TOO_LARGE_BODY = (
    b'{"type":"about:blank","title":"Request Header Fields Too Large","status":431,'
    b'"detail":"expected a request head of at most %d bytes, got more"}' % MAX_HEAD
)


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    _request_timer: TimerHandle | None = None
    _stall_timer: TimerHandle | None = None
    _in_head = True
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
        """Parse what came, unless its head grows without end."""
        began_in_head = self._in_head
        super().data_received(data)
        if not (began_in_head and self._in_head):
            self._head = 0
            return
        self._head += len(data)
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE % (len(_TOO_LARGE_BODY), _TOO_LARGE_BODY))
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
        self._in_head = True
        self._expect_request()

    def on_headers_complete(self) -> None:
        """The head of a request is here."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The last byte of a request is here."""
        _cancel(self._request_timer)
        self._in_head = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The peer does not read as fast as we write."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """The peer has read."""
        _cancel(self._stall_timer)
        super().resume_writing()

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
