"""`/dead-letters`: list, resend and drop messages that services could not use."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from admin_api.admin.authorization import Authorization
from admin_api.admin.bodies import DeadLetterBody, DeadLettersBody, Dropped, Resent
from admin_api.admin.dead_letters import BrokerAwayError, DeadLetters, Letter, NotResendableError
from admin_api.http.problems import documented
from admin_api.http.responses import answer, described
from ingress_common.times import rfc3339

_DEFAULT, _MOST = 100, 500

LetterId = Annotated[str, Path(description="The dead letter's id", examples=["8c6976e5b5410415bde9"], max_length=100)]


def router(letters: DeadLetters, authorization: Authorization) -> APIRouter:
    """Routes of dead letters."""
    routes = APIRouter(tags=["dead letters"], default_response_class=Response)

    @routes.get("/dead-letters", responses={200: described(DeadLettersBody), **documented(422)})
    async def listed(
        service: Annotated[str | None, Query(description="Only those of this service", max_length=100)] = None,
        limit: Annotated[int, Query(description="Maximum number of dead letters", ge=1, le=_MOST)] = _DEFAULT,
    ) -> Response:
        """The dead letters that are kept, newest first."""
        found = letters.newest_first(service or None)
        return answer(DeadLettersBody([_body(letter) for letter in found[:limit]], len(found)))

    @routes.post(
        "/dead-letters/{letter_id}/resend",
        responses={200: described(Resent), **documented(401, 404, 409, 503)},
        dependencies=[Depends(authorization.required)],
    )
    async def resend(letter_id: LetterId) -> Response:
        """Republish the message on its topic (QoS 1, not retained), and drop the dead letter."""
        try:
            return answer(Resent(_body(await letters.resend(letter_id))))
        except KeyError:
            raise _unknown(letter_id) from None
        except NotResendableError as error:
            raise HTTPException(409, str(error)) from None
        except BrokerAwayError as error:
            raise HTTPException(503, str(error)) from None

    @routes.delete(
        "/dead-letters/{letter_id}",
        responses={200: described(Dropped), **documented(401, 404)},
        dependencies=[Depends(authorization.required)],
    )
    async def drop(letter_id: LetterId) -> Response:
        """Drop a dead letter."""
        try:
            return answer(Dropped(_body(letters.drop(letter_id))))
        except KeyError:
            raise _unknown(letter_id) from None

    return routes


def _unknown(letter_id: str) -> HTTPException:
    return HTTPException(404, f"expected the id of a dead letter of GET /dead-letters, got {letter_id!r}")


def _body(letter: Letter) -> DeadLetterBody:
    content = letter.content
    return DeadLetterBody(
        letter.id,
        letter.service,
        content.topic,
        content.payload,
        content.reason,
        rfc3339(content.at),
        letter.truncated,
    )
