"""`GET /bootstrap` and `POST /bootstrap`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from admin_api.admin.authorization import Authorization
from admin_api.admin.bodies import Bootstrap, Bootstrapped, DifferenceBody, Resource
from admin_api.admin.bootstrap import StoreMonitor
from admin_api.http.problems import documented
from admin_api.http.responses import described, json_response
from ingress_store import BootstrapState, CandleStore, ResourceState


def router(store: CandleStore, monitor: StoreMonitor, authorization: Authorization) -> APIRouter:
    """Routes of the bootstrap."""
    routes = APIRouter(tags=["bootstrap"], default_response_class=Response)

    @routes.get("/bootstrap", responses={200: described(Bootstrap), **documented(503)})
    async def inspect(trusted: Annotated[bool, Depends(authorization.knows)]) -> Response:
        """The store's resources: found, expected, and the difference.

        Resources of others in the same store are listed only with the bearer token.
        """
        state = await store.inspect()
        return json_response(Bootstrap(**_fields(state, foreign=trusted)))

    @routes.post(
        "/bootstrap",
        responses={200: described(Bootstrapped), **documented(401, 503)},
        dependencies=[Depends(authorization.required)],
    )
    async def bootstrap() -> Response:
        """Create the store's missing resources; idempotent."""
        result = await monitor.bootstrap()
        return json_response(Bootstrapped(**_fields(result.state, foreign=True), changes=list(result.changes)))

    return routes


def _fields(state: BootstrapState, *, foreign: bool) -> dict[str, Any]:
    rows = [row for row in state.resources if foreign or row.state is not ResourceState.FOREIGN]
    return {
        "store": state.store,
        "complete": state.complete,
        "is_": [Resource(r.kind, r.name, dict(r.found)) for r in rows if r.found is not None],
        "should_be": [Resource(r.kind, r.name, dict(r.expected)) for r in rows if r.expected is not None],
        "difference": [DifferenceBody(**row.as_json()) for row in state.difference],
    }
