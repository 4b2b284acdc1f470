"""The parameters of the routes that read candles."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BeforeValidator, WithJsonSchema

from admin_api.candles.formats import Numbers
from admin_api.http.parameters import SHOWN, TIME_SCHEMA, TIMEFRAME_NAMES, instant_of, number, timeframe_of
from ingress_common.timeframes import Timeframe
from ingress_common.topics import TopicError, symbol_of

DEFAULT_LIMIT = 500
MAX_LIMIT = 5_000
MAX_BULK = 100_000
LIMITS = f"a number from 1 to {MAX_LIMIT} as JSON, to {MAX_BULK} in the other formats"
MAX_SYMBOLS = 10_000
MAX_SEARCH = 40
MAX_STREAM_SYMBOLS = 500


def _symbols(value: object) -> frozenset[str] | None:
    names = _words(value)
    if len(names) > MAX_STREAM_SYMBOLS:
        raise ValueError(f"expected at most {MAX_STREAM_SYMBOLS} symbols, or none for all, got {len(names)}")
    try:
        return frozenset(symbol_of(name) for name in names) or None
    except TopicError as error:
        raise ValueError(str(error)) from None


def _timeframes(value: object) -> frozenset[Timeframe] | None:
    return frozenset(Timeframe.parse(name[:SHOWN]) for name in _words(value)) or None


def _words(value: object) -> list[str]:
    """The values of a parameter that may be repeated, each a list with commas."""
    given = value if isinstance(value, list) else [] if value is None else [value]
    return [value for text in given for value in str(text).split(",") if value]


def _integer(least: int, most: int, default: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": least, "maximum": most, "default": default})


def _list_of(items: dict[str, Any], examples: list[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "array", "items": items, "examples": [examples]})


TimeframeParameter = Annotated[
    Timeframe,
    BeforeValidator(lambda value: timeframe_of(value) or Timeframe.M1),
    WithJsonSchema({"type": "string", "enum": TIMEFRAME_NAMES, "default": "1m"}),
    Query(description="The timeframe of the candles"),
]
FromParameter = Annotated[
    float | None,
    BeforeValidator(instant_of),
    WithJsonSchema(TIME_SCHEMA),
    Query(alias="from", description="Candles that open at this time or later"),
]
ToParameter = Annotated[
    float | None,
    BeforeValidator(instant_of),
    WithJsonSchema(TIME_SCHEMA),
    Query(alias="to", description="Candles that open before this time"),
]
LimitParameter = Annotated[
    int,
    number(1, MAX_BULK, DEFAULT_LIMIT, LIMITS),
    _integer(1, MAX_BULK, DEFAULT_LIMIT),
    Query(description=f"Maximum number of candles: {LIMITS}. The header Link has the rest of the range"),
]
KeepParameter = Annotated[
    Literal["newest", "oldest"],
    BeforeValidator(lambda value: value or "newest"),
    Query(description="Which candles to return if the range has more than `limit`"),
]
FormatParameter = Annotated[
    Literal["json", "csv", "arrow", "parquet"] | None,
    BeforeValidator(lambda value: value or None),
    Query(alias="format", description="The format; overrides the header Accept"),
]
NumbersParameter = Annotated[
    Numbers,
    BeforeValidator(lambda value: value or Numbers.FLOAT),
    Query(description="Prices in Arrow and Parquet: 64-bit floats, or decimals with 18 decimal places, vwap with 27"),
]
SearchParameter = Annotated[
    str,
    Query(
        max_length=MAX_SEARCH,
        description="Only symbols that contain this text, in upper or lower case",
        examples=["btc"],
    ),
]
SymbolLimitParameter = Annotated[
    int,
    number(1, MAX_SYMBOLS, MAX_SYMBOLS),
    _integer(1, MAX_SYMBOLS, MAX_SYMBOLS),
    Query(description="Maximum number of symbols"),
]
OffsetParameter = Annotated[
    int,
    number(0, 1_000_000, 0),
    _integer(0, 1_000_000, 0),
    Query(description="Number of symbols to skip"),
]
SymbolsParameter = Annotated[
    frozenset[str] | None,
    BeforeValidator(_symbols),
    _list_of({"type": "string"}, ["BTC-USD", "ETH-USD"]),
    Query(description="Symbols, separated by commas or in repeated parameters; default: all"),
]
TimeframesParameter = Annotated[
    frozenset[Timeframe] | None,
    BeforeValidator(_timeframes),
    _list_of({"type": "string", "enum": TIMEFRAME_NAMES}, ["1m", "5m"]),
    Query(description="Timeframes, separated by commas or in repeated parameters; default: all"),
]
