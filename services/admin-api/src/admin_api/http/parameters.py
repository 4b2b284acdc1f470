"""The parameters of the routes that read; an empty one counts as not given."""

import math
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import Query, Request
from pydantic import BeforeValidator, WithJsonSchema

from admin_api.http.problems import InvalidError
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339, rfc3339
from ingress_common.topics import TopicError, symbol_of

DEFAULT_LIMIT = 500
MAX_LIMIT = 5_000
MAX_BULK = 100_000
MAX_SYMBOLS = 10_000
MAX_SEARCH = 40
MAX_STREAM_SYMBOLS = 500

_SHOWN = 100
"""Characters of a wrong value that are repeated in the answer."""

_NAMES = [timeframe.value for timeframe in TIMEFRAMES]

_EXPECTED = "expected an RFC 3339 time such as 2024-02-25T02:15:00Z, or unix seconds from the year 1970 to 9999"
_LAST = 253_402_300_799


def timeframe_of(value: object) -> Timeframe:
    """The timeframe of a parameter, 1m if it is empty; ValueError names what is possible."""
    return Timeframe.parse(str(value)[:_SHOWN]) if value != "" and value is not None else Timeframe.M1


def instant_of(value: object) -> float | None:
    """The instant of a parameter (unix seconds), None if it is empty; ValueError says what is possible."""
    if value is None or value == "":
        return None
    text = str(value)[:_SHOWN]
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


def _number(least: int, most: int, otherwise: int) -> BeforeValidator:
    def parse(value: object) -> int:
        text = str(otherwise if value is None or value == "" else value)
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1
        if not least <= number <= most:
            raise ValueError(f"expected a number from {least} to {most}, got {text[:_SHOWN]!r}")
        return number

    return BeforeValidator(parse)


def _symbols(value: object) -> frozenset[str] | None:
    names = _words(value)
    if len(names) > MAX_STREAM_SYMBOLS:
        raise ValueError(f"expected at most {MAX_STREAM_SYMBOLS} symbols, or none for all, got {len(names)}")
    try:
        return frozenset(symbol_of(name) for name in names) or None
    except TopicError as error:
        raise ValueError(str(error)) from None


def _timeframes(value: object) -> frozenset[Timeframe]:
    return frozenset(Timeframe.parse(name[:_SHOWN]) for name in _words(value)) or frozenset(TIMEFRAMES)


def _words(value: object) -> list[str]:
    """The words of a parameter that may be given several times, each a list with commas."""
    given = value if isinstance(value, list) else [] if value is None else [value]
    return [word for text in given for word in str(text).split(",") if word]


def once(*names: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency: 422 if one of these parameters is given twice, since only one of the two could count."""

    async def check(request: Request) -> None:
        for name in names:
            count = len(request.query_params.getlist(name))
            if count > 1:
                raise InvalidError(name, f"expected it once, got it {count} times")

    return check


_TIMEFRAME_SCHEMA = {"type": "string", "enum": _NAMES, "default": "1m"}
_INSTANT_SCHEMA = {"type": "string", "examples": [rfc3339(1_708_827_300), "1708827300"]}
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
    _number(1, MAX_BULK, DEFAULT_LIMIT),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_BULK, "default": DEFAULT_LIMIT}),
    Query(description=f"At most so many candles of the range; up to {MAX_LIMIT} as JSON, up to {MAX_BULK} otherwise"),
]
KeepParameter = Annotated[
    Literal["newest", "oldest"],
    BeforeValidator(lambda value: value or "newest"),
    Query(description="Which candles are kept where there are more in the range than `limit`"),
]
FormatParameter = Annotated[
    Literal["json", "csv", "arrow"] | None,
    BeforeValidator(lambda value: value or None),
    Query(alias="format", description="Instead of the header Accept"),
]
SearchParameter = Annotated[
    str, Query(max_length=MAX_SEARCH, description="Only symbols that hold this, in capitals or not", examples=["btc"])
]
SymbolLimitParameter = Annotated[
    int,
    _number(1, MAX_SYMBOLS, MAX_SYMBOLS),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_SYMBOLS, "default": MAX_SYMBOLS}),
    Query(description="At most so many symbols"),
]
OffsetParameter = Annotated[
    int,
    _number(0, 1_000_000, 0),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 0}),
    Query(description="Leave out so many of the first"),
]
SymbolsParameter = Annotated[
    frozenset[str] | None,
    BeforeValidator(_symbols),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "examples": [["BTC-USD", "ETH-USD"]]}),
    Query(description="Symbols, with commas or given several times; all without"),
]
TimeframesParameter = Annotated[
    frozenset[Timeframe],
    BeforeValidator(_timeframes),
    WithJsonSchema({"type": "array", "items": {"type": "string", "enum": _NAMES}, "examples": [["1m", "5m"]]}),
    Query(description="Timeframes, with commas or given several times; all without"),
]
