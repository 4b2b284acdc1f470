"""What the endpoints answer, for the documentation and for who reads the code; each with an example.

`/candles` and `/stream` are put together by hand, so that every candle has the bytes that it has on the bus; `CANDLE`
is their schema.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ingress_common.model import Source
from ingress_common.timeframes import TIMEFRAMES

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
_NAMES = [timeframe.value for timeframe in TIMEFRAMES]
_NUMBER = {"type": "number", "minimum": 0}
_TIME = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}

CANDLE: Mapping[str, Any] = {
    "type": "object",
    "description": "A candle as on the bus. Prices and volumes are numbers with their exact decimals.",
    "properties": {
        "exchange": {"type": "string", "const": "kraken"},
        "symbol": {"type": "string", "description": "Such as BTC/USD"},
        "timeframe": {"type": "string", "enum": _NAMES},
        "open_time": {**_TIME, "description": "The window's begin"},
        "close_time": {**_TIME, "description": "The window's end, which is the next one's begin"},
        "open": _NUMBER,
        "high": _NUMBER,
        "low": _NUMBER,
        "close": _NUMBER,
        "volume": _NUMBER,
        "vwap": {**_NUMBER, "description": "Volume-weighted average price"},
        "trades": _COUNT,
        "closed": {"type": "boolean", "description": "The window is over and settled"},
        "infilled": {"type": "boolean", "description": "Nothing traded: flat at the last close"},
        "complete": {"type": "boolean", "description": "Every minute of it is known"},
        "revision": {**_COUNT, "description": "0 first, higher with every correction"},
        "source": {"type": "string", "enum": [source.value for source in Source]},
        "at": {**_TIME, "description": "When the gateway received what led to this"},
    },
    "required": list(_EXAMPLE_CANDLE),
    "example": dict(_EXAMPLE_CANDLE),
}
"""The JSON schema of a candle."""

CANDLES: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "symbol": {"type": "string"},
        "timeframe": {"type": "string", "enum": _NAMES},
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
"""An answer in CSV."""

EVENT_EXAMPLE = (
    "retry: 2000\n\nid: 3f2a9c1d-4711-1708827601\nevent: candle\n"
    'data: {"exchange":"kraken","symbol":"BTC/USD","timeframe":"5m","open_time":"2024-02-25T02:15:00Z",'
    '"close_time":"2024-02-25T02:20:00Z","open":51600.1,"high":51610.0,"low":51600.1,"close":51605.2,'
    '"volume":1.20480000,"vwap":51604.3,"trades":17,"closed":true,"infilled":false,"complete":true,"revision":0,'
    '"source":"rollup","at":"2024-02-25T02:20:01.104211Z"}\n\n: heartbeat\n\n'
)
"""Some events."""


class SymbolInfo(BaseModel):
    """A symbol: what there is of it, and how fresh that is."""

    symbol: str = Field(description="Such as BTC/USD; in a path it is BTC-USD", examples=["BTC/USD"])
    timeframes: list[str] = Field(description="Those that the store has closed candles of", examples=[["1m", "5m"]])
    newest: dict[str, str] = Field(
        description="The open time of the newest closed candle in the store, by timeframe",
        examples=[{"1m": "2024-02-25T02:19:00Z"}],
    )
    at: str | None = Field(
        description="When the gateway received what closed the newest one", examples=["2024-02-25T02:20:01.104211Z"]
    )
    age_seconds: float | None = Field(description="Now less `at`", examples=[29.4])
    live: bool = Field(description="Whether a feed that is well carries it now")


class Symbols(BaseModel):
    """A page of the symbols, sorted by name."""

    symbols: list[SymbolInfo]
    total: int = Field(description="How many there are that match the search, on all pages", ge=0, examples=[1450])


class CheckInfo(BaseModel):
    """One thing that is looked at."""

    name: str = Field(examples=["broker"])
    ok: bool
    detail: str = Field(description="For people", examples=["connected"])


class ProcessHealth(BaseModel):
    """The health of this process alone."""

    live: bool = Field(description="The process works")
    ready: bool = Field(description="It does its work now: broker and store answer")
    checks: list[CheckInfo]


class SystemHealth(BaseModel):
    """The health of everything: the checks, and all that they were made of."""

    model_config = ConfigDict(extra="allow")

    status: Literal["ok", "failing"]
    checks: list[CheckInfo]


class Resource(BaseModel):
    """Something in the store: a bucket, a table, a task, a token."""

    kind: str = Field(examples=["bucket"])
    name: str = Field(examples=["candles_1m"])
    properties: dict[str, Any] = Field(examples=[{"retention": "90d"}])


class Difference(BaseModel):
    """Something in the store that is missing, or other than it should be."""

    kind: str = Field(examples=["task"])
    name: str = Field(examples=["downsample_5m"])
    state: str = Field(examples=["missing"])
    expected: dict[str, Any] | None
    found: dict[str, Any] | None


class Bootstrap(BaseModel):
    """What is in the store, what should be, and the difference."""

    store: str = Field(description="Where it is", examples=["influxdb://influxdb:8086"])
    complete: bool = Field(description="Whether everything is as it should be")
    is_: list[Resource] = Field(alias="is", description="What is there")
    should_be: list[Resource]
    difference: list[Difference]


class Bootstrapped(Bootstrap):
    """The same after it was set up."""

    changes: list[str] = Field(description="What was done", examples=[["created bucket candles_1m"]])


class GapInfo(BaseModel):
    """Closed candles that follow each other and are missing in the store, or incomplete there."""

    symbol: str = Field(examples=["BTC/USD"])
    timeframe: str = Field(examples=["1m"])
    from_: str = Field(alias="from", description="The first one's open", examples=["2024-02-25T02:15:00Z"])
    to: str = Field(description="The last one's close", examples=["2024-02-25T02:20:00Z"])
    windows: int = Field(description="How many candles that are", ge=1, examples=[5])
    filled: int = Field(description="How many of them the store has by now", ge=0, examples=[0])
    state: str = Field(description="waiting, asked or unfillable", examples=["asked"])
    incomplete: bool = Field(description="Whether they are there, but not complete")
    source: str = Field(description="What found it", examples=["audit"])
    found_at: str = Field(examples=["2024-02-25T02:25:00Z"])
    attempts: int = Field(description="How often Kraken was asked", ge=0, examples=[1])
    asked_at: str | None = Field(examples=["2024-02-25T02:25:01Z"])
    next_at: str | None = Field(description="When it is asked next; null while it is", examples=[None])


class GapTotal(BaseModel):
    """Over all gaps that match, also those beyond `limit`."""

    gaps: int = Field(ge=0, examples=[1])
    windows: int = Field(ge=0, examples=[5])
    filled: int = Field(ge=0, examples=[0])


class AuditInfo(BaseModel):
    """How the store is looked through."""

    every_seconds: float = Field(examples=[300])
    horizon_seconds: float = Field(description="How far back", examples=[604800])
    last_at: str | None = Field(examples=["2024-02-25T02:25:00Z"])
    trouble: str | None = Field(description="Why the last one failed", examples=[None])


class Gaps(BaseModel):
    """What is missing in the store, and what is being done about it."""

    gaps: list[GapInfo]
    total: GapTotal
    filled_since_start: int = Field(description="Candles that a repair has brought", ge=0, examples=[12])
    requests_waiting: int = Field(description="Ranges that people have asked for", ge=0, examples=[0])
    audit: AuditInfo


class AskInfo(BaseModel):
    """A range that Kraken will be asked for."""

    symbol: str = Field(examples=["BTC/USD"])
    timeframe: str = Field(examples=["1m"])
    from_: str = Field(alias="from", examples=["2024-02-25T00:00:00Z"])
    to: str = Field(examples=["2024-02-26T00:00:00Z"])


class RepairPlan(BaseModel):
    """What a repair begins with."""

    audit: str = Field(examples=["starts now"])
    planned: list[AskInfo]


class LetterInfo(BaseModel):
    """A message that a service could not use."""

    id: str = Field(examples=["8c6976e5b5410415bde9"])
    service: str = Field(description="Who could not use it", examples=["influx-writer"])
    topic: str = Field(description="Where it had come from", examples=["ingress/raw/kraken/BTC-USD/1m"])
    payload: str = Field(examples=['{"symbol":"BTC/USD"}'])
    reason: str = Field(examples=["expected a Candle as JSON: Object missing required field `timeframe`"])
    at: str = Field(examples=["2024-02-25T02:25:00Z"])
    truncated: bool = Field(description="Whether only a part of it was kept, so that it cannot be sent again")


class Letters(BaseModel):
    """Dead letters, newest first."""

    dead_letters: list[LetterInfo]
    total: int = Field(description="How many there are, also beyond `limit`", ge=0, examples=[1])


class Resent(BaseModel):
    """The letter that was sent again, and is no longer kept."""

    resent: LetterInfo


class Dropped(BaseModel):
    """The letter that is no longer kept."""

    dropped: LetterInfo
