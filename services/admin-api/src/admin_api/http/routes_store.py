"""`GET /bootstrap` and `POST /bootstrap`."""

from typing import Any

from fastapi import APIRouter, Depends

from admin_api.http.authorization import authorized_by
from admin_api.http.context import Context
from admin_api.http.models import Bootstrap, Bootstrapped
from admin_api.http.problems import documented
from ingress_store import BootstrapState


def router(context: Context) -> APIRouter:
    """Routes for setting the store up."""
    routes = APIRouter(tags=["bootstrap"])

    authorized = authorized_by(context.admin_token)

    @routes.get("/bootstrap", response_model=Bootstrap, responses=documented(503))
    async def inspect() -> dict[str, Any]:
        """What is in the store, what should be, and the difference."""
        return _state(await context.store.inspect())

    @routes.post(
        "/bootstrap",
        response_model=Bootstrapped,
        responses=documented(401, 503),
        dependencies=[Depends(authorized)],
    )
    async def bootstrap() -> dict[str, Any]:
        """Make what should be in the store; idempotent."""
        result = await context.monitor.bootstrap()
        return {"changes": list(result.changes), **_state(result.state)}

    return routes


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
