"""Who may change something, and what every answer tells a browser."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_bearer = HTTPBearer(auto_error=False, description="ADMIN_TOKEN")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"


def bearer(admin_token: str | None) -> Callable[..., Awaitable[None]]:
    """A dependency for every route that changes something: 401 without the bearer token `admin_token`.

    Without a configured token that is always 401. The comparison takes the same time wherever the two differ.
    """

    async def authorized(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        if admin_token is None:
            raise _unauthorized("changes over HTTP are off: ADMIN_TOKEN is not set on this service")
        if given is None:
            raise _unauthorized("expected a header Authorization: Bearer <ADMIN_TOKEN>")
        # Headers come as latin-1; this gives back the bytes that were sent.
        if not hmac.compare_digest(given.credentials.encode("latin-1"), admin_token.encode()):
            raise _unauthorized("expected the bearer token of ADMIN_TOKEN, got another one")

    return authorized


class SecurityHeaders:
    """Adds to every answer what keeps a browser from doing more with it than it is for.

    A header that a route has set itself stays. Pages bring a content policy of their own; everything else is data,
    which may load nothing. `shared` is for when other origins may read (CORS_ORIGINS).
    """

    def __init__(self, app: ASGIApp, *, shared: bool) -> None:
        self._app = app
        self._headers = dict(_HEADERS)
        if shared:
            self._headers["Cross-Origin-Resource-Policy"] = "cross-origin"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and add to the head of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if not headers.get("content-type", "").startswith("text/html"):
                    headers.setdefault("Content-Security-Policy", _DATA_POLICY)
            await send(message)

        await self._app(scope, receive, with_headers)


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
