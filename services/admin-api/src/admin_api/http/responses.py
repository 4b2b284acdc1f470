"""JSON responses and their OpenAPI schemas, both from one msgspec type."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from ingress_common.timeframes import TIMEFRAMES
from ingress_common.times import rfc3339

JSON = "application/json"

_REFERENCE = "#/components/schemas/{name}"

SymbolName = Annotated[str, Meta(examples=["BTC/USD"])]
TimeframeName = Annotated[str, Meta(examples=["1m"], extra_json_schema={"enum": [t.value for t in TIMEFRAMES]})]
Time = Annotated[str, Meta(examples=["2024-02-25T02:25:00Z"], extra_json_schema={"format": "date-time"})]
"""A time of a body, in RFC 3339."""


class Body(msgspec.Struct, frozen=True):
    """The body of a JSON response; `msgspec.Meta` describes its fields."""


def time_of(instant: float | None) -> Time | None:
    """The time of a body for unix seconds; None stays None."""
    return None if instant is None else rfc3339(instant)


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response with `body`."""
    return Response(msgspec.json.encode(body), status, headers, media_type=JSON)


def described(*bodies: type, text: str = "Successful Response") -> dict[str, Any]:
    """The OpenAPI description of a response with the fields of all `bodies`, by references to `schemas`."""
    references = [{"$ref": _REFERENCE.format(name=body.__name__)} for body in bodies]
    schema = references[0] if len(references) == 1 else {"allOf": references}
    return {"description": text, "content": {JSON: {"schema": schema}}}


def schemas(bodies: Iterable[type]) -> dict[str, Any]:
    """The JSON schemas of `bodies` and of the types in them, by name."""
    _, components = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    return components
