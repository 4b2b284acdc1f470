"""The domain model: candles, history, feeds, watermarks, requests, status, dead letters.

`ingress_common.payloads` decodes the bus's payloads into these types, services work with them and the store writes
them; none of them has a second form. All values are immutable. Times are unix seconds: integers for a candle's open,
floats for instants (receipt, watermark, coverage). Prices and volumes are `Decimal` and keep their original digits.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct, field

from ingress_common.timeframes import Timeframe
from ingress_common.times import UnixSeconds, UnixTime

EXCHANGE = "kraken"
"""The only exchange so far; topics and payloads leave room for others."""

Series = tuple[str, Timeframe]
"""Symbol and timeframe of a candle series."""

GRACE = 1.0
"""Seconds to wait for late messages of a minute that has ended (`docs/design.md`, section 3)."""

DEAD_LETTER_BYTES = 64 * 1024
"""Maximum size in bytes of the payload in a dead letter. The dead letter's reason gives the original size."""

MAXIMUM_FEED_SYMBOLS = 1_000
MAXIMUM_REQUEST_SYMBOLS = 5_000
MAXIMUM_BATCH = 20_000
"""Limits on symbols in one feed, symbols in one request and candles in one history batch. They are far above real
lengths and keep a forged message from exhausting a service's memory.
"""

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Revision = Annotated[int, Meta(ge=0, le=10**9)]
_Name = Annotated[str, Meta(max_length=200)]
_Text = Annotated[str, Meta(max_length=2_000)]
_Topic = Annotated[str, Meta(max_length=65_535)]
_DeadPayload = Annotated[str, Meta(max_length=2 * DEAD_LETTER_BYTES)]
_FeedSymbols = Annotated[tuple[str, ...], Meta(max_length=MAXIMUM_FEED_SYMBOLS)]
_RequestSymbols = Annotated[tuple[str, ...], Meta(max_length=MAXIMUM_REQUEST_SYMBOLS)]
_Rejected = Annotated[dict[_Name, _Text], Meta(max_length=MAXIMUM_FEED_SYMBOLS)]
if TYPE_CHECKING:
    # A store may hold candles of other exchanges; only payloads are all of this one.
    _Exchange = str
else:
    # Not a pattern: it takes a sixth of decoding a candle.
    _Exchange = Literal["kraken"]


class Source(StrEnum):
    """Origin of a candle's numbers."""

    WS = "ws"
    SNAPSHOT = "snapshot"
    REST = "rest"
    TRADES = "trades"
    ARCHIVE = "archive"
    INFILL = "infill"
    ROLLUP = "rollup"

    # Enum's own hash is a Python function and slows every look-up down.
    __hash__ = str.__hash__


class Candle(Struct, frozen=True, gc=False):
    """One candle. A candle with the same (exchange, symbol, timeframe, open_time) replaces it.

    `closed`: the window has ended and its data is final. `infilled`: nothing traded, flat at the last close.
    `complete`: every minute of it is known. `revision`: starts at 0 and rises with each correction of the closed
    candle. `at`: when the gateway received the message behind it (unix seconds). `vwap`: volume-weighted average price;
    the last close if the candle is infilled.
    """

    symbol: str
    timeframe: Timeframe
    open_time: UnixSeconds
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal
    trades: _Count
    closed: bool
    infilled: bool
    complete: bool
    revision: _Revision
    source: Source
    at: UnixTime
    exchange: _Exchange = EXCHANGE

    @property
    def close_time(self) -> int:
        """The end of the window (unix seconds), which is the next candle's open time."""
        return self.open_time + self.timeframe.seconds


_at = attrgetter("at")


class Range(Struct, frozen=True, gc=False, rename={"start": "from", "end": "to"}):
    """A half-open span of time in unix seconds: includes `start`, excludes `end`. On the wire `from` and `to`."""

    start: UnixTime
    end: UnixTime


class History(Struct, frozen=True):
    """A batch of candles from a Kraken response, and the range that it covers.

    Inside `covers` the batch is complete: an interval without a row had no trades. A snapshot covers from its oldest
    row's open to the moment it was taken; a REST response covers the requested range.

    A row with 0 trades is flat at the last close and gives the price at its open. Only the first row of a REST response
    may be one. It may open before `covers.start`; then it only gives the price at which the range starts.
    """

    symbol: str
    timeframe: Timeframe
    source: Source
    covers: Range
    candles: Annotated[tuple[Candle, ...], Meta(max_length=MAXIMUM_BATCH)]
    exchange: _Exchange = EXCHANGE

    @property
    def at(self) -> float:
        """Time of receipt (unix seconds): the latest `at` of its rows; without rows the end of `covers`."""
        return max(map(_at, self.candles), default=self.covers.end)


class FeedCondition(StrEnum):
    """Whether a feed delivers data."""

    LIVE = "live"
    DOWN = "down"


class FeedState(Struct, frozen=True):
    """State of one live connection to Kraken.

    `since`: start of the state (unix seconds); a live feed's watermarks cover the time from then on. `symbols`: the
    symbols whose ticks it carries; a symbol joins once its snapshot is published. `rejected`: the symbols that Kraken
    refused, with Kraken's error text.
    """

    feed: _Name
    state: FeedCondition
    since: UnixTime
    symbols: _FeedSymbols = ()
    rejected: _Rejected = {}


class Watermark(Struct, frozen=True, gc=False):
    """Every tick of the feed's symbols from the feed's `since` up to `watermark` (Kraken's time) has been published.

    `at`: when the gateway received the last frame (by its own clock).
    """

    feed: _Name
    watermark: UnixTime
    at: UnixTime


MinuteTrades = Mapping[int, Mapping[str, int]]
"""The trades of the last update that a feed has published, by minute (unix seconds of its open) and symbol."""


class SeedRequest(Struct, frozen=True):
    """A request to the gateway to publish the snapshots of `symbols` in all timeframes."""

    symbols: _RequestSymbols


class HistoryRequest(Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """A request to the gateway to publish candles of `symbols`, from `start` up to `end` (unix seconds)."""

    symbols: _RequestSymbols
    timeframe: Timeframe
    start: UnixTime
    end: UnixTime

    @property
    def range(self) -> Range:
        """The requested range."""
        return Range(self.start, self.end)


class RepublishRequest(Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """A request to the aggregator to republish the closed candles of `symbols` that it keeps.

    It selects candles whose `at` is from `start` to `end`, both included (unix seconds; on the wire `from` and `to`).
    """

    symbols: _RequestSymbols
    start: UnixTime
    end: UnixTime


class InstanceState(StrEnum):
    """Whether an instance of a service is running."""

    ONLINE = "online"
    OFFLINE = "offline"


class Status(Struct, frozen=True):
    """Retained state of one instance of a service.

    `details` differ by service and become further fields of the payload.
    """

    service: _Name
    instance: _Name
    state: InstanceState
    version: _Name
    started_at: UnixTime
    details: Mapping[str, Any] = field(default_factory=dict)


class DeadLetter(Struct, frozen=True):
    """A message that a service rejected.

    `payload` is the rejected payload as text; if it is not UTF-8, base64 with the prefix `base64:`.
    """

    topic: _Topic
    payload: _DeadPayload
    reason: _Text
    at: UnixTime
