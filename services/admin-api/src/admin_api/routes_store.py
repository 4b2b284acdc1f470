"""`GET /bootstrap` and `POST /bootstrap`."""

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from admin_api.context import Context
from admin_api.problems import documented
from ingress_store import BootstrapState

_bearer = HTTPBearer(auto_error=False, description="ADMIN_TOKEN")


def router(context: Context) -> APIRouter:
    """Routes for setting the store up."""
    routes = APIRouter(tags=["bootstrap"])

    async def authorized(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        if context.admin_token is None:
            raise _unauthorized("changes over HTTP are off: ADMIN_TOKEN is not set on this service")
        if given is None:
            raise _unauthorized("expected a header Authorization: Bearer <ADMIN_TOKEN>")
        # Headers come as latin-1; this gives back the bytes that were sent.
        if not hmac.compare_digest(given.credentials.encode("latin-1"), context.admin_token.encode()):
            raise _unauthorized("expected the bearer token of ADMIN_TOKEN, got another one")

    @routes.get("/bootstrap", responses=documented(503))
    async def inspect() -> dict[str, Any]:
        """What is in the store, what should be, and the difference."""
        return _state(await context.store.inspect())

    @routes.post("/bootstrap", responses=documented(401, 503), dependencies=[Depends(authorized)])
    async def bootstrap() -> dict[str, Any]:
        """Make what should be in the store; idempotent."""
        result = await context.monitor.bootstrap()
        return {"changes": list(result.changes), **_state(result.state)}

    return routes


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _state(state: BootstrapState) -> dict[str, Any]:
    rows = state.resources
    return {
        "store": state.store,
        "complete": state.complete,
        "is": [_resource(r.kind, r.name, r.found) for r in rows if r.found is not None],
        "should_be": [_resource(r.kind, r.name, r.expected) for r in rows if r.expected is not None],
        "difference": [row.as_json() for row in state.difference],
    }


def _resource(kind: str, name: str, properties: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "properties": dict(properties)}
