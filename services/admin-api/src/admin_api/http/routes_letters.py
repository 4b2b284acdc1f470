"""`/dead-letters`: read, re-send and drop what services could not use."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.exceptions import HTTPException

from admin_api.http.authorization import authorized_by
from admin_api.http.context import Context
from admin_api.http.models import Dropped, Letters, Resent
from admin_api.http.problems import documented
from admin_api.letters import BrokerAwayError, Letter, NotResendableError
from ingress_common.times import rfc3339

DEFAULT_LETTERS = 100
MOST_LETTERS = 500

LetterId = Annotated[str, Path(description="The letter's id", examples=["8c6976e5b5410415bde9"], max_length=100)]


def router(context: Context) -> APIRouter:
    """Routes for dead letters."""
    routes = APIRouter(tags=["dead letters"])
    authorized = authorized_by(context.admin_token)
    letters = context.upkeep.letters

    @routes.get("/dead-letters", response_model=Letters, responses=documented(422))
    async def listed(
        service: Annotated[str | None, Query(description="Only those of this service", max_length=100)] = None,
        limit: Annotated[int, Query(description="The newest so many", ge=1, le=MOST_LETTERS)] = DEFAULT_LETTERS,
    ) -> dict[str, Any]:
        """The dead letters that are kept, newest first."""
        found = letters.newest_first(service or None)
        return {"dead_letters": [_letter(letter) for letter in found[:limit]], "total": len(found)}

    @routes.post(
        "/dead-letters/{letter_id}/resend",
        response_model=Resent,
        responses=documented(401, 404, 409, 503),
        dependencies=[Depends(authorized)],
    )
    async def resend(letter_id: LetterId) -> dict[str, Any]:
        """Publish the message on its topic again (QoS 1, not retained), and drop the letter."""
        try:
            return {"resent": _letter(await letters.resend(letter_id))}
        except KeyError:
            raise _unknown(letter_id) from None
        except NotResendableError as error:
            raise HTTPException(409, str(error)) from None
        except BrokerAwayError as error:
            raise HTTPException(503, str(error)) from None

    @routes.delete(
        "/dead-letters/{letter_id}",
        response_model=Dropped,
        responses=documented(401, 404),
        dependencies=[Depends(authorized)],
    )
    async def drop(letter_id: LetterId) -> dict[str, Any]:
        """Drop a letter."""
        try:
            return {"dropped": _letter(letters.drop(letter_id))}
        except KeyError:
            raise _unknown(letter_id) from None

    return routes


def _unknown(letter_id: str) -> HTTPException:
    return HTTPException(404, f"expected the id of a letter of GET /dead-letters, got {letter_id!r}")


def _letter(letter: Letter) -> dict[str, Any]:
    content = letter.content
    return {
        "id": letter.id,
        "service": letter.service,
        "topic": content.topic,
        "payload": content.payload,
        "reason": content.reason,
        "at": rfc3339(content.at),
        "truncated": letter.truncated,
    }
