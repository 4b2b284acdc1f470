"""The query parameters of `GET /candles`; an empty one counts as not given."""

import math
from typing import Annotated

from fastapi import Query
from pydantic import BeforeValidator, WithJsonSchema

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339, rfc3339

DEFAULT_LIMIT = 500
MAX_LIMIT = 5_000

_EXPECTED = "expected an RFC 3339 time such as 2024-02-25T02:15:00Z, or unix seconds from the year 1970 to 9999"
_LAST = 253_402_300_799


def timeframe_of(value: object) -> Timeframe:
    """The timeframe of a parameter, 1m if it is empty; ValueError names what is possible."""
    return Timeframe.parse(str(value)) if value != "" and value is not None else Timeframe.M1


def instant_of(value: object) -> float | None:
    """The instant of a parameter (unix seconds), None if it is empty; ValueError says what is possible."""
    if value is None or value == "":
        return None
    text = str(value)
    try:
        instant = float(text)
    except ValueError:
        try:
            instant = parse_rfc3339(text)
        except (ValueError, OverflowError):
            raise ValueError(f"{_EXPECTED}, got {text!r}") from None
    if not (math.isfinite(instant) and 0 <= instant <= _LAST):
        raise ValueError(f"{_EXPECTED}, got {text!r}")
    return instant


def _limit(value: object) -> int:
    text = DEFAULT_LIMIT if value is None or value == "" else value
    try:
        limit = int(str(text))
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"expected a number from 1 to {MAX_LIMIT}, got {str(text)!r}")
    return limit


_TIMEFRAME_SCHEMA = {"type": "string", "enum": [timeframe.value for timeframe in TIMEFRAMES], "default": "1m"}
_INSTANT_SCHEMA = {"type": "string", "examples": [rfc3339(1_708_827_300), "1708827300"]}
_LIMIT_SCHEMA = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}

TimeframeParameter = Annotated[
    Timeframe,
    BeforeValidator(timeframe_of),
    WithJsonSchema(_TIMEFRAME_SCHEMA),
    Query(description="The candles' length"),
]
FromParameter = Annotated[
    float | None,
    BeforeValidator(instant_of),
    WithJsonSchema(_INSTANT_SCHEMA),
    Query(alias="from", description="Candles that open at this time or later"),
]
ToParameter = Annotated[
    float | None,
    BeforeValidator(instant_of),
    WithJsonSchema(_INSTANT_SCHEMA),
    Query(alias="to", description="Candles that open before this time"),
]
LimitParameter = Annotated[
    int,
    BeforeValidator(_limit),
    WithJsonSchema(_LIMIT_SCHEMA),
    Query(description="The newest so many candles of the range"),
]
