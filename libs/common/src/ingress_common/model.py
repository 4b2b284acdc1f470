"""What the services talk about: candles, history, feeds, watermarks, requests, status, dead letters.

All values are immutable. Times are unix seconds: whole ones for a candle's open, floats for instants (receipt,
watermark, coverage). Prices and volumes are `Decimal` with the digits they came with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from ingress_common.timeframes import Timeframe

EXCHANGE = "kraken"
"""The exchange that every message is about; the contract leaves room for others."""

GRACE = 1.0
"""Seconds that Kraken is given to send what belongs to a minute that has ended (`design.md`, section 3)."""


class Source(StrEnum):
    """Where a candle's numbers come from."""

    WS = "ws"
    SNAPSHOT = "snapshot"
    REST = "rest"
    TRADES = "trades"
    ARCHIVE = "archive"
    INFILL = "infill"
    ROLLUP = "rollup"


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle; its identity is (exchange, symbol, timeframe, open_time), a repeat replaces it.

    `closed`: the window is over and settled. `infilled`: nothing traded, flat at the last close. `complete`: every
    minute of it is known. `revision`: 0 first, higher with every correction of the closed candle. `at`: when the
    gateway received what led to this message (unix seconds). `vwap` is volume-weighted; of an infilled candle it is the
    last close.
    """

    symbol: str
    timeframe: Timeframe
    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal
    trades: int
    closed: bool
    infilled: bool
    complete: bool
    revision: int
    source: Source
    at: float
    exchange: str = EXCHANGE

    @property
    def close_time(self) -> int:
        """The end of the window (unix seconds), which is the open of the next one."""
        return self.open_time + self.timeframe.seconds


@dataclass(frozen=True, slots=True)
class Range:
    """A span of time, from `start` up to but without `end` (unix seconds); on the wire `from` and `to`."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class History:
    """A batch of candles that Kraken gave in answer to a question, and the time it speaks for.

    Inside `covers` it is the whole truth of the timeframe: an interval without a row did not trade. A snapshot covers
    from its oldest row's open to the moment it was taken, a REST answer the range it was asked for.

    A row of 0 trades is flat at the last close and tells the price at its open. It may be the first row of a REST
    answer only, and open before `covers.start`: then it says nothing of that interval but the price with which the
    range begins.
    """

    symbol: str
    timeframe: Timeframe
    source: Source
    covers: Range
    candles: tuple[Candle, ...]
    exchange: str = EXCHANGE

    @property
    def at(self) -> float:
        """When it was received (unix seconds), as its rows tell; without rows the end of what it covers."""
        return max((candle.at for candle in self.candles), default=self.covers.end)


class FeedCondition(StrEnum):
    """Whether a feed delivers."""

    LIVE = "live"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class FeedState:
    """State of one live connection to Kraken.

    `since`: when the condition began; a live feed's watermarks speak for the time from then on. `symbols`: whose ticks
    it carries, each once its snapshot is on the bus. `rejected`: the symbols that Kraken refused, with its reason.
    """

    feed: str
    state: FeedCondition
    since: float
    symbols: tuple[str, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watermark:
    """Everything of the feed's symbols, from the feed's `since` up to `watermark` (Kraken's time), has been published.

    `at`: when the gateway received the last frame (its own clock).
    """

    feed: str
    watermark: float
    at: float


@dataclass(frozen=True, slots=True)
class SeedRequest:
    """Asks the gateway for the snapshots of all seven timeframes of `symbols`."""

    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Asks the gateway for the candles of `timeframe` in `range`, for each of `symbols`."""

    symbols: tuple[str, ...]
    timeframe: Timeframe
    range: Range


class Presence(StrEnum):
    """Whether an instance of a service is there."""

    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Status:
    """Retained state of one instance of a service.

    `details` differ per service and become further fields of the payload.
    """

    service: str
    instance: str
    state: Presence
    version: str
    started_at: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be used.

    `payload` is its text, base64 with the prefix `base64:` where it is not UTF-8.
    """

    topic: str
    payload: str
    reason: str
    at: float
