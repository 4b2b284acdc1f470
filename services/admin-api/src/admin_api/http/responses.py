"""Answers as JSON, and their description in the OpenAPI document: both come from one msgspec type."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

JSON = "application/json"

_REFERENCE = "#/components/schemas/{name}"


class Body(msgspec.Struct, frozen=True):
    """A JSON object that is answered; its fields are described with `msgspec.Meta`."""


def answer(body: Body, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as JSON."""
    return Response(msgspec.json.encode(body), status, headers, media_type=JSON)


def described(body: type[Body], text: str = "Successful Response") -> dict[str, Any]:
    """The description of an answer, which refers to the schema that `schemas` gives."""
    return {"description": text, "content": {JSON: {"schema": {"$ref": _REFERENCE.format(name=body.__name__)}}}}


def schemas(bodies: Iterable[type[Body]]) -> dict[str, Any]:
    """The JSON schemas of `bodies` and of what they hold, by name."""
    _, components = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    return components
