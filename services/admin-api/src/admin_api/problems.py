"""Errors over HTTP as `application/problem+json` (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ingress_common.logs import get_logger
from ingress_store import StoreUnavailableError

log = get_logger(__name__)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error answer: what kind, and what exactly."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for the documentation."""
    content = {"application/problem+json": {"schema": {"type": "object"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem."""

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(_request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, "; ".join(_complaint(entry) for entry in error.errors()))

    @app.exception_handler(StoreUnavailableError)
    async def _store(_request: Request, error: StoreUnavailableError) -> JSONResponse:
        return problem(503, f"the store does not answer: {error}")

    @app.exception_handler(Exception)
    async def _defect(request: Request, error: Exception) -> JSONResponse:
        log.error("http.failed", path=request.url.path, exc_info=error)
        return problem(500, "the request failed; the service's log says why")


def _complaint(entry: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in entry["loc"][1:])
    message = str(entry["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if "got " in message else f"{name}: {message}, got {entry['input']!r}"
