"""The response bodies of the endpoints of `candles`.

`/candles` and `/stream` join the bytes of candles as on the bus; `CANDLE` is their schema.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from admin_api.http.parameters import TIMEFRAME_NAMES
from admin_api.http.responses import Body, TimeframeName
from ingress_common.model import Source

_EXAMPLE_CANDLE: Mapping[str, Any] = {
    "exchange": "kraken",
    "symbol": "BTC/USD",
    "timeframe": "5m",
    "open_time": "2024-02-25T02:15:00Z",
    "close_time": "2024-02-25T02:20:00Z",
    "open": 51600.1,
    "high": 51610.0,
    "low": 51600.1,
    "close": 51605.2,
    "volume": 1.2048,
    "vwap": 51604.3,
    "trades": 17,
    "closed": True,
    "infilled": False,
    "complete": True,
    "revision": 0,
    "source": "rollup",
    "at": "2024-02-25T02:20:01.104211Z",
}
_NUMBER = {"type": "number", "minimum": 0}
_TIME = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}

CANDLE: Mapping[str, Any] = {
    "type": "object",
    "description": "A candle as on the bus. Prices and volumes are numbers with their exact decimals.",
    "properties": {
        "exchange": {"type": "string", "const": "kraken"},
        "symbol": {"type": "string", "description": "Such as BTC/USD"},
        "timeframe": {"type": "string", "enum": TIMEFRAME_NAMES},
        "open_time": {**_TIME, "description": "Start of the window"},
        "close_time": {**_TIME, "description": "End of the window, and start of the next one"},
        "open": _NUMBER,
        "high": _NUMBER,
        "low": _NUMBER,
        "close": _NUMBER,
        "volume": _NUMBER,
        "vwap": {**_NUMBER, "description": "Volume-weighted average price"},
        "trades": _COUNT,
        "closed": {"type": "boolean", "description": "The window has ended and is complete or given up on"},
        "infilled": {"type": "boolean", "description": "No trades: flat at the last close"},
        "complete": {"type": "boolean", "description": "Every minute of it is known"},
        "revision": {**_COUNT, "description": "0 at first; each correction is higher"},
        "source": {"type": "string", "enum": [source.value for source in Source]},
        "at": {**_TIME, "description": "Time at which the gateway received the message that led to this candle"},
    },
    "required": list(_EXAMPLE_CANDLE),
    "example": dict(_EXAMPLE_CANDLE),
}
"""The JSON schema of a candle."""

CANDLES: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "symbol": {"type": "string"},
        "timeframe": {"type": "string", "enum": TIMEFRAME_NAMES},
        "candles": {"type": "array", "items": CANDLE},
    },
    "required": ["symbol", "timeframe", "candles"],
    "example": {"symbol": "BTC/USD", "timeframe": "5m", "candles": [dict(_EXAMPLE_CANDLE)]},
}
"""The JSON schema of `GET /candles/{symbol}`."""

CSV_EXAMPLE = (
    "time,open,high,low,close,volume,vwap,trades,infilled\n"
    "1708827300,51600.1,51610.0,51600.1,51605.2,1.20480000,51604.3,17,0\n"
)
"""A response in CSV."""

EVENT_EXAMPLE = (
    "retry: 2000\n\nid: 3f2a9c1d-4711-1708827601\nevent: candle\n"
    'data: {"exchange":"kraken","symbol":"BTC/USD","timeframe":"5m","open_time":"2024-02-25T02:15:00Z",'
    '"close_time":"2024-02-25T02:20:00Z","open":51600.1,"high":51610.0,"low":51600.1,"close":51605.2,'
    '"volume":1.20480000,"vwap":51604.3,"trades":17,"closed":true,"infilled":false,"complete":true,"revision":0,'
    '"source":"rollup","at":"2024-02-25T02:20:01.104211Z"}\n\n: heartbeat\n\n'
)
"""Some events."""


class SymbolBody(Body, frozen=True):
    """A symbol, its timeframes and their freshness."""

    symbol: Annotated[str, Meta(description="Such as BTC/USD; in a path it is BTC-USD", examples=["BTC/USD"])]
    timeframes: Annotated[
        list[TimeframeName], Meta(description="Timeframes with closed candles in the store", examples=[["1m", "5m"]])
    ]
    newest: Annotated[
        dict[str, str],
        Meta(
            description="Open time of the newest closed candle in the store, by timeframe",
            examples=[{"1m": "2024-02-25T02:19:00Z"}],
        ),
    ]
    at: Annotated[
        str | None,
        Meta(
            description="Time at which the gateway received the message that closed the newest candle",
            examples=["2024-02-25T02:20:01.104211Z"],
        ),
    ]
    age_seconds: Annotated[float | None, Meta(description="Seconds since `at`", examples=[29.4])]
    live: Annotated[bool, Meta(description="Whether a live feed carries it now")]


class SymbolsBody(Body, frozen=True):
    """A page of the symbols, sorted by name."""

    symbols: list[SymbolBody]
    total: Annotated[
        int, Meta(description="Number of symbols on all pages that match the search", ge=0, examples=[1450])
    ]


BODIES = (SymbolsBody,)
"""The types whose schemas the OpenAPI document contains."""
