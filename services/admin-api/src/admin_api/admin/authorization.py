"""Authorisation of requests that change something: by bearer token."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

_bearer = HTTPBearer(auto_error=False, description="ADMIN_TOKEN")


class Authorization:
    """FastAPI dependencies that check the token. Without an `admin_token` they refuse every request."""

    def __init__(self, admin_token: str | None) -> None:
        self._token = admin_token

    async def knows(self, request: Request) -> bool:
        """Whether a request has the token, for routes that show more with it."""
        # Parsed here: with `_bearer` the API's description would state that the route needs the token.
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._matches(given)

    async def required(self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        """Refuse a request without the token with 401."""
        if self._token is None:
            raise _unauthorized("changes over HTTP are off: ADMIN_TOKEN is not set on this service")
        if given is None:
            raise _unauthorized("expected a header Authorization: Bearer <ADMIN_TOKEN>")
        if not self._matches(given.credentials):
            raise _unauthorized("expected the bearer token of ADMIN_TOKEN, got another one")

    def _matches(self, given: str) -> bool:
        # Starlette decodes headers as latin-1; encoding restores the bytes of the request.
        return self._token is not None and hmac.compare_digest(given.encode("latin-1"), self._token.encode())


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
