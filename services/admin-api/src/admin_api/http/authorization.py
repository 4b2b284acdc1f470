"""Who may change something over HTTP: whoever has the bearer token."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

_bearer = HTTPBearer(auto_error=False, description="ADMIN_TOKEN")

Authorized = Callable[[HTTPAuthorizationCredentials | None], Awaitable[None]]


def authorized_by(admin_token: str | None) -> Authorized:
    """A dependency of routes that answers 401 to whoever does not bring `admin_token`; to everybody if that is None."""

    async def authorized(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        if admin_token is None:
            raise _unauthorized("changes over HTTP are off: ADMIN_TOKEN is not set on this service")
        if given is None:
            raise _unauthorized("expected a header Authorization: Bearer <ADMIN_TOKEN>")
        # Headers come as latin-1; this gives back the bytes that were sent.
        if not hmac.compare_digest(given.credentials.encode("latin-1"), admin_token.encode()):
            raise _unauthorized("expected the bearer token of ADMIN_TOKEN, got another one")

    return authorized


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
