"""Who may change something over HTTP: whoever has the bearer token."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

_bearer = HTTPBearer(auto_error=False, description="ADMIN_TOKEN")


class Authorization:
    """Dependencies of routes; without an `admin_token` nothing can be changed."""

    def __init__(self, admin_token: str | None) -> None:
        self._token = admin_token

    async def knows(self, request: Request) -> bool:
        """Whether the request brings the token, for routes that show more to whoever does."""
        # Not by `_bearer`, which would describe the route as one that needs the token.
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._matches(given)

    async def required(self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        """401 to whoever does not bring the token."""
        if self._token is None:
            raise _unauthorized("changes over HTTP are off: ADMIN_TOKEN is not set on this service")
        if given is None:
            raise _unauthorized("expected a header Authorization: Bearer <ADMIN_TOKEN>")
        if not self._matches(given.credentials):
            raise _unauthorized("expected the bearer token of ADMIN_TOKEN, got another one")

    def _matches(self, given: str) -> bool:
        # Headers come as latin-1; this gives back the bytes that were sent.
        return self._token is not None and hmac.compare_digest(given.encode("latin-1"), self._token.encode())


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
