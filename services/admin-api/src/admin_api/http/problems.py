"""Errors over HTTP as `application/problem+json` (RFC 9457)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Router
from starlette.types import Scope

from admin_api.http.middleware import ENDLESS
from admin_api.http.responses import Body
from ingress_common.logs import get_logger
from ingress_store import StoreUnavailableError

MEDIA_TYPE = "application/problem+json"
"""The media type of every error."""

log = get_logger(__name__)

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

_RETRY_SECONDS = "5"
_SHOWN = 200
"""Maximum number of characters of a wrong value in an error."""

_EXAMPLES: Mapping[int, str] = {
    400: "There was an error parsing the body",
    401: "expected a header Authorization: Bearer <ADMIN_TOKEN>",
    404: "unknown symbol: ETH/EUR; GET /symbols lists the known ones",
    405: "expected GET, HEAD or OPTIONS, got DELETE",
    409: "a repair of this range is under way",
    413: "expected a body of at most 65536 bytes",
    414: "expected a path and query of at most 8192 bytes, got 9000",
    422: "limit: expected a number from 1 to 5000, got '0'",
    429: "expected at most 100 requests a second from one address; try again in 1 s",
    503: "the store does not answer: sqlite:///data/candles.db: disk I/O error",
}


class ProblemError(Body, frozen=True):
    """One fault of a request."""

    name: Annotated[str, Meta(description="The parameter or field; empty for the whole body")]
    detail: Annotated[str, Meta(description="What was expected, and what was received")]


class Problem(Body, frozen=True, omit_defaults=True):
    """Why a request failed (RFC 9457)."""

    type: Annotated[str, Meta(description="Always about:blank: the status gives the kind")]
    title: Annotated[str, Meta(description="The name of the status")]
    status: Annotated[int, Meta(description="The HTTP status", ge=400, le=599)]
    detail: Annotated[str, Meta(description="What was expected, and what was received; for people")]
    errors: Annotated[list[ProblemError] | None, Meta(description="With 422: every fault, by parameter or field")] = (
        None
    )


class InvalidError(Exception):
    """An invalid parameter; becomes 422. `name` is empty if several parameters are involved."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name
        self.detail = detail


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: list[ProblemError] | None = None,
) -> Response:
    """An error response: `status` gives the kind, `detail` the cause. A 503 has a Retry-After."""
    body = Problem("about:blank", HTTPStatus(status).phrase, status, detail, errors)
    retry = {"Retry-After": _RETRY_SECONDS} if status == 503 else {}
    headers = {"Cache-Control": "no-store", **retry, **(headers or {})}
    return Response(msgspec.json.encode(body), status, headers, media_type=MEDIA_TYPE)


def invalid(*errors: ProblemError) -> Response:
    """A 422 response that lists every fault."""
    lines = [f"{error.name}: {error.detail}" if error.name else error.detail for error in errors]
    return problem(422, "; ".join(lines), errors=list(errors))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a route's errors.

    `describe_common` adds those of all routes: 400, 413, 414, 429, and 422 for parameters.
    """
    return {status: _description(status) for status in statuses}


def describe_common(document: dict[str, Any]) -> None:
    """Add the errors that any route may return to an OpenAPI document."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in document.get("paths", {}).values():
        for method, operation in operations.items():
            responses = operation["responses"]
            if "HTTPValidationError" in str(responses.get("422")):
                responses["422"] = _description(422)
            common = [414, 429, *([413] if method != "get" else []), *([400] if "requestBody" in operation else [])]
            for status in common:
                responses.setdefault(str(status), _description(status))


def install(app: FastAPI) -> None:
    """Make `app` return every error as `application/problem+json`, and answer OPTIONS with the allowed methods."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = _allowed_methods(app.router, request.scope)
            headers = {"Allow": ", ".join(allowed)}
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
            return problem(405, f"expected {_listed(allowed)}, got {request.method}", headers)
        if error.status_code == 422:
            return invalid(ProblemError("", str(error.detail)))
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(_request: Request, error: RequestValidationError) -> Response:
        return invalid(*(_complaint(entry, error.body) for entry in error.errors()))

    @app.exception_handler(InvalidError)
    async def _invalid(_request: Request, error: InvalidError) -> Response:
        return invalid(ProblemError(error.name, error.detail))

    @app.exception_handler(StoreUnavailableError)
    async def _store(_request: Request, error: StoreUnavailableError) -> Response:
        return problem(503, f"the store does not answer: {error}")

    @app.exception_handler(Exception)
    async def _defect(request: Request, error: Exception) -> Response:
        log.error("http.failed", path=request.url.path, exc_info=error)
        return problem(500, "the request failed; the service's log has the reason")


def _allowed_methods(router: Router, scope: Scope) -> list[str]:
    """The allowed methods of a request's path, sorted."""
    found = {
        method
        for method in _METHODS
        for route in router.routes
        if route.matches({**scope, "method": method})[0] is Match.FULL
    }
    if "GET" in found and scope["path"] not in ENDLESS:
        found.add("HEAD")
    return sorted(found | {"OPTIONS"})


def _description(status: int) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    example: dict[str, Any] = {"type": "about:blank", "title": phrase, "status": status}
    example["detail"] = _EXAMPLES.get(status, phrase)
    if status == 422:
        example["errors"] = [{"name": "limit", "detail": "expected a number from 1 to 5000, got '0'"}]
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    return {"description": phrase, "content": content}


def _complaint(entry: Mapping[str, Any], body: object) -> ProblemError:
    if entry["type"] == "json_invalid":
        place, reason = entry["loc"][-1], entry["ctx"]["error"]
        return ProblemError("", f"expected a body in JSON, got {body!r:.{_SHOWN}} ({reason}, at character {place})")
    name = ".".join(str(part) for part in entry["loc"][1:])
    message = str(entry["msg"]).removeprefix("Value error, ")
    if "got " not in message:
        message = f"{message}, got {entry['input']!r:.{_SHOWN}}"
    return ProblemError(name, message)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)
