"""`/dead-letters`: list, resend and drop messages that services could not use."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response

from admin_api.admin.authorization import Authorization
from admin_api.admin.bodies import DeadLettersBody, Dropped, Resent
from admin_api.admin.dead_letters import DeadLetters
from admin_api.http.problems import documented
from admin_api.http.responses import described, json_response

_DEFAULT, _MOST = 100, 500

DeadLetterId = Annotated[
    str, Path(description="The dead letter's id", examples=["8c6976e5b5410415bde9"], max_length=100)
]


def router(dead_letters: DeadLetters, authorization: Authorization) -> APIRouter:
    """Routes of dead letters."""
    routes = APIRouter(tags=["dead letters"], default_response_class=Response)

    @routes.get("/dead-letters", responses={200: described(DeadLettersBody), **documented(422)})
    async def listed(
        service: Annotated[str | None, Query(description="Only those of this service", max_length=100)] = None,
        limit: Annotated[int, Query(description="Maximum number of dead letters", ge=1, le=_MOST)] = _DEFAULT,
    ) -> Response:
        """The dead letters that are kept, newest first."""
        found = dead_letters.newest_first(service or None)
        return json_response(DeadLettersBody(found[:limit], len(found)))

    @routes.post(
        "/dead-letters/{dead_letter_id}/resend",
        responses={200: described(Resent), **documented(401, 404, 409, 503)},
        dependencies=[Depends(authorization.required)],
    )
    async def resend(dead_letter_id: DeadLetterId) -> Response:
        """Republish the message on its topic (QoS 1, not retained), and drop the dead letter."""
        return json_response(Resent(await dead_letters.resend(dead_letter_id)))

    @routes.delete(
        "/dead-letters/{dead_letter_id}",
        responses={200: described(Dropped), **documented(401, 404)},
        dependencies=[Depends(authorization.required)],
    )
    async def drop(dead_letter_id: DeadLetterId) -> Response:
        """Drop a dead letter."""
        return json_response(Dropped(dead_letters.drop(dead_letter_id)))

    return routes
