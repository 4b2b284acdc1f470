"""JSON responses and their OpenAPI schemas, both from one msgspec type."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

JSON = "application/json"

_REFERENCE = "#/components/schemas/{name}"


class Body(msgspec.Struct, frozen=True):
    """The body of a JSON response; `msgspec.Meta` describes its fields."""


def answer(body: Body, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response with `body`."""
    return Response(msgspec.json.encode(body), status, headers, media_type=JSON)


def described(body: type[Body], text: str = "Successful Response") -> dict[str, Any]:
    """The OpenAPI description of a response, with a reference to its schema in `schemas`."""
    return {"description": text, "content": {JSON: {"schema": {"$ref": _REFERENCE.format(name=body.__name__)}}}}


def schemas(bodies: Iterable[type[Body]]) -> dict[str, Any]:
    """The JSON schemas of `bodies` and of the types in them, by name."""
    _, components = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    return components
