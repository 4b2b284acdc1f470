"""The response bodies of the endpoints of `candles`.

`/candles` and `/stream` join the bytes of candles as on the bus; `CandleBody` is their schema.
"""

from typing import Annotated, Literal

from msgspec import Meta

from admin_api.http.responses import Body, SymbolName, Time, TimeframeName
from ingress_common.model import Source

Number = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class CandleBody(Body, frozen=True):
    """A candle as on the bus. Prices and volumes are numbers with their exact decimals."""

    exchange: Literal["kraken"]
    symbol: SymbolName
    timeframe: TimeframeName
    open_time: Annotated[Time, Meta(description="Start of the window", examples=["2024-02-25T02:15:00Z"])]
    close_time: Annotated[Time, Meta(description="End, and start of the next one", examples=["2024-02-25T02:16:00Z"])]
    open: Annotated[Number, Meta(examples=[51600.1])]
    high: Annotated[Number, Meta(examples=[51610.0])]
    low: Annotated[Number, Meta(examples=[51600.1])]
    close: Annotated[Number, Meta(examples=[51605.2])]
    volume: Annotated[Number, Meta(examples=[1.2048])]
    vwap: Annotated[Number, Meta(description="Volume-weighted average price", examples=[51604.3])]
    trades: Annotated[Count, Meta(examples=[17])]
    closed: Annotated[bool, Meta(description="The window has ended and is complete or given up on", examples=[True])]
    infilled: Annotated[bool, Meta(description="No trades: flat at the last close", examples=[False])]
    complete: Annotated[bool, Meta(description="Every minute of it is known", examples=[True])]
    revision: Annotated[Count, Meta(description="0 at first; each correction is higher", examples=[0])]
    source: Source
    at: Annotated[Time, Meta(description="Receipt of the message that led to it", examples=["2024-02-25T02:16:01.1Z"])]


class CandlesBody(Body, frozen=True):
    """A page of candles, oldest first."""

    symbol: SymbolName
    timeframe: TimeframeName
    candles: list[CandleBody]


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


BODIES = (CandlesBody, SymbolsBody)
"""The types whose schemas the OpenAPI document contains."""
