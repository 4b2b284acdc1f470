"""Kraken's WebSocket v2 frames, in and out (`kraken-protocol.md`). Pure: bytes in, values out; no frame of Kraken's
makes it raise.

A frame is decoded once, straight into the structs below; prices and volumes keep their exact decimals, and a number may
also come as a string. A bad row does not invalidate the other rows of its frame: each stands for itself and its symbol.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Subnormal
from functools import lru_cache
from typing import ClassVar, Literal, TypeVar, final
from urllib.parse import urlsplit

import msgspec

from ingress_common.decimals import ZERO
from ingress_common.model import Candle, Source
from ingress_common.timeframes import Timeframe
from ingress_common.topics import TopicError, topic_symbol

INTERVALS: Mapping[int, Timeframe] = {timeframe.minutes: timeframe for timeframe in Timeframe}
"""Kraken's interval (minutes) of each timeframe."""

CHUNK = 100
"""Symbols in one subscribe message (`kraken-protocol.md`, limits)."""

ONLINE = "online"
"""The status of a pair for which Kraken gives none."""

TRADED = frozenset({"online", "limit_only", "post_only", "reduce_only"})
"""The statuses of pairs in which there are trades; a new listing begins in `limit_only`."""

GONE = frozenset({"delisted", "work_in_progress"})
"""The statuses of pairs that are not traded, and may never be."""

Params = Mapping[str, object]
"""The parameters of a subscription."""

_T = TypeVar("_T")
_LIMIT = Decimal("1e20")
# Raise for numbers longer than any price: arithmetic on huge numbers would be slow.
_exact = Context(prec=60, Emin=-40, Emax=40, traps=[Inexact, Clamped, Overflow, Subnormal, InvalidOperation]).plus
_MAX_AHEAD = 60.0


class IntervalRow(msgspec.Struct, frozen=True, gc=False):
    """The cumulative state of one interval, as Kraken sent it; `interval` in minutes."""

    symbol: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    trades: int
    volume: Decimal
    vwap: Decimal
    interval_begin: datetime
    interval: int

    @classmethod
    def of(
        cls,
        symbol: str,
        timeframe: Timeframe,
        open_time: int,
        prices: tuple[Decimal, Decimal, Decimal, Decimal],
        volume: Decimal,
        vwap: Decimal,
        trades: int,
    ) -> "IntervalRow":
        """A row from another source: `prices` are open, high, low and close, `open_time` unix seconds."""
        begin = datetime.fromtimestamp(open_time, UTC)
        return cls(symbol, *prices, trades, volume, vwap, begin, timeframe.minutes)

    @property
    def open_time(self) -> int:
        """When the interval begins (unix seconds)."""
        return int(self.interval_begin.timestamp())

    @property
    def timeframe(self) -> Timeframe:
        """The timeframe of the interval."""
        return INTERVALS[self.interval]

    def candle(self, source: Source, *, closed: bool, at: float) -> Candle:
        """The row as a candle, its numbers unchanged; `at` in unix seconds."""
        # By position: by name it takes twice as long.
        return Candle(
            self.symbol, INTERVALS[self.interval], self.open_time,
            self.open, self.high, self.low, self.close, self.volume, self.vwap, self.trades,
            closed, self.trades == 0, True, 0, source, at,
        )  # fmt: skip


class BadRow(msgspec.Struct, frozen=True):
    """A row that is not a candle. `symbol` is None if it cannot be read.

    `lost`: a state of the symbol's candle may be lost with it; false for a row of an interval that is not a timeframe.
    """

    symbol: str | None
    reason: str
    lost: bool = True


class OhlcFrame(msgspec.Struct, frozen=True, gc=False):
    """An ohlc frame. `timestamp`: when Kraken made it (unix seconds), None if unknown. `snapshot` or update."""

    label: ClassVar[str] = "candles"
    snapshot: bool
    timestamp: float | None
    rows: tuple[IntervalRow, ...]
    bad: tuple[BadRow, ...] = ()


@final
class Heartbeat(msgspec.Struct, frozen=True, tag_field="channel", tag="heartbeat"):
    """The connection is alive and there is nothing else to send."""

    label: ClassVar[str] = "heartbeat"


class SystemStatus(msgspec.Struct, frozen=True):
    """State of the trading engine: `online`, `maintenance`, `cancel_only`, `post_only`."""

    label: ClassVar[str] = "systemstatus"
    system: str


class Pong(msgspec.Struct, frozen=True):
    """The response to an application ping. `time`: when Kraken sent it (unix seconds)."""

    label: ClassVar[str] = "pong"
    req_id: int | None
    time: float | None


class Ack(msgspec.Struct, frozen=True):
    """A subscription (or its end) was accepted. `time`: when Kraken sent this (unix seconds)."""

    label: ClassVar[str] = "ack"
    method: str
    req_id: int | None
    channel: str | None
    symbol: str | None
    time: float | None


class Refusal(msgspec.Struct, frozen=True):
    """A request was refused with `error`; `req_id` and `symbol` are None where the frame has none (fact 8)."""

    label: ClassVar[str] = "refusal"
    method: str | None
    req_id: int | None
    symbol: str | None
    error: str
    time: float | None


class RateExceeded(msgspec.Struct, frozen=True):
    """`Exceeded msg rate`: what we sent last was probably ignored."""

    label: ClassVar[str] = "rateexceeded"


class InstrumentFrame(msgspec.Struct, frozen=True):
    """Kraken's pairs and their status (`online`, `delisted`, ...)."""

    label: ClassVar[str] = "instruments"
    snapshot: bool
    pairs: Mapping[str, str]


class Other(msgspec.Struct, frozen=True):
    """A valid frame of a kind that is not needed."""

    label: ClassVar[str] = "other"
    kind: str


class Unreadable(msgspec.Struct, frozen=True):
    """No valid frame.

    `may_be_data`: candles may have been lost with it, so the coverage ends.
    """

    label: ClassVar[str] = "unreadable"
    reason: str
    may_be_data: bool


Frame = (
    OhlcFrame | Heartbeat | SystemStatus | Pong | Ack | Refusal | RateExceeded | InstrumentFrame | Other | Unreadable
)
"""What Kraken sends. `label`: the kind of frame in the metric `ingress_gateway_frames_total`."""


def sent_at(frame: Frame) -> float | None:
    """When Kraken sent `frame` (unix seconds); None if unknown."""
    match frame:
        case OhlcFrame(timestamp=stamp) | Pong(time=stamp) | Ack(time=stamp) | Refusal(time=stamp):
            return stamp
        case _:
            return None


# --- in: the wire -----------------------------------------------------------------------------------------------------


class _Ohlc(msgspec.Struct, frozen=True, gc=False, tag_field="channel", tag="ohlc"):
    type: Literal["snapshot", "update"]
    data: tuple[IntervalRow, ...]
    timestamp: datetime | None = None


class _Envelope(msgspec.Struct, frozen=True):
    """Any other frame; its content is decoded by its channel or method."""

    channel: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    method: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    Error: msgspec.Raw = msgspec.Raw()
    success: msgspec.Raw = msgspec.Raw()
    req_id: msgspec.Raw = msgspec.Raw()
    symbol: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()
    time_in: msgspec.Raw = msgspec.Raw()
    time_out: msgspec.Raw = msgspec.Raw()


class _System(msgspec.Struct, frozen=True):
    system: str


class _Result(msgspec.Struct, frozen=True):
    channel: str | None = None
    symbol: str | None = None


class _RowName(msgspec.Struct, frozen=True):
    symbol: str
    interval: msgspec.Raw = msgspec.Raw()


class _Pair(msgspec.Struct, frozen=True):
    symbol: str
    status: str = ""


class _PairList(msgspec.Struct, frozen=True):
    pairs: list[msgspec.Raw]


class _OneRow(msgspec.Struct, frozen=True, gc=False):
    symbol: str
    interval_begin: str


class _OneUpdate(msgspec.Struct, frozen=True, gc=False, tag_field="channel", tag="ohlc"):
    type: str
    data: tuple[_OneRow]


# Not strict: Kraken's own SDK accepts numbers as strings, and intervals such as 1.0.
_STREAM: msgspec.json.Decoder[_Ohlc | Heartbeat] = msgspec.json.Decoder(_Ohlc | Heartbeat, strict=False)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ROW = msgspec.json.Decoder(IntervalRow, strict=False)
_UPDATE_KEY = msgspec.json.Decoder(_OneUpdate)
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse_frame(frame: str | bytes) -> Frame:
    """Parse a received frame. Binary frames are not part of the protocol."""
    if isinstance(frame, bytes):
        return Unreadable("expected a text frame, got a binary one", may_be_data=_mentions_candles(frame))
    try:
        message = _STREAM.decode(frame)
    except _ERRORS:
        return _parse_other(frame)
    # Not `isinstance`: with a msgspec struct it takes a thirtieth of parsing the frame.
    if type(message) is Heartbeat:
        return message
    snapshot = message.type == "snapshot"
    timestamp = _seconds(message.timestamp)
    for row in message.data:
        if _problem(row, timestamp) is not None:
            return _candles([_checked(row, timestamp) for row in message.data], timestamp, snapshot=snapshot)
    return OhlcFrame(snapshot, timestamp, message.data)


def update_key(frame: str | bytes) -> tuple[str, str] | None:
    """Symbol and interval of an update of one row, at a sixth of the cost of `parse_frame`; None for any other frame.

    Rows are cumulative, so a later update with the same key holds all of this one.
    """
    try:
        message = _UPDATE_KEY.decode(frame)
    except _ERRORS:
        return None
    (row,) = message.data
    return (row.symbol, row.interval_begin) if message.type == "update" else None


def _mentions_candles(frame: str | bytes) -> bool:
    return b"ohlc" in frame if isinstance(frame, bytes) else '"ohlc"' in frame


def _parse_other(frame: str | bytes) -> Frame:
    try:
        message = _ENVELOPE.decode(frame)
    except _ERRORS:
        return Unreadable("expected a JSON object", may_be_data=_mentions_candles(frame))
    if (channel := _text(message.channel)) is not None:
        return _parse_channel(channel, message)
    method, time = _text(message.method), _time(message.time_out) or _time(message.time_in)
    req_id = _whole(message.req_id)
    if method == "pong":
        return Pong(req_id, time)
    if (error := _text(message.error) or _text(message.Error)) is not None:
        if "msg rate" in error.lower():
            return RateExceeded()
        return Refusal(method, req_id, _text(message.symbol), error, time)
    if bytes(message.success) == b"true" and method in ("subscribe", "unsubscribe"):
        result = _decoded(message.result, _Result) or _Result()
        return Ack(method, req_id, result.channel, result.symbol, time)
    return Other(method or "unknown")


def _parse_channel(channel: str, message: _Envelope) -> Frame:
    match channel:
        case "ohlc":
            return _parse_candles(message)
        case "status":
            states = _decoded(message.data, list[_System])
            return SystemStatus(states[-1].system) if states else Other("status without system")
        case "instrument":
            listed = _decoded(message.data, _PairList)
            if listed is None:
                return Other("instrument without pairs")
            pairs = [pair for raw in listed.pairs if (pair := _decoded(raw, _Pair)) is not None]
            return InstrumentFrame(_text(message.type) == "snapshot", {pair.symbol: pair.status for pair in pairs})
        case _:
            return Other(channel)


def _parse_candles(message: _Envelope) -> Frame:
    """Parse an ohlc frame with bad rows, row by row."""
    kind, items = _text(message.type), _decoded(message.data, list[msgspec.Raw])
    if kind not in ("snapshot", "update") or items is None:
        return Unreadable("expected an ohlc snapshot or update with a data array", may_be_data=True)
    timestamp = _time(message.timestamp)
    return _candles([_parse_row(item, timestamp) for item in items], timestamp, snapshot=kind == "snapshot")


def _candles(judged: list[IntervalRow | BadRow], timestamp: float | None, *, snapshot: bool) -> OhlcFrame:
    rows = tuple(row for row in judged if isinstance(row, IntervalRow))
    return OhlcFrame(snapshot, timestamp, rows, tuple(row for row in judged if isinstance(row, BadRow)))


def _parse_row(item: msgspec.Raw, timestamp: float | None) -> IntervalRow | BadRow:
    try:
        row = _ROW.decode(item)
    except _ERRORS as error:
        name = _decoded(item, _RowName)
        usable = name is not None and _usable(name.symbol)
        return BadRow(name.symbol if name and usable else None, f"expected a candle: {error}"[:200])
    return _checked(row, timestamp)


def _checked(row: IntervalRow, timestamp: float | None) -> IntervalRow | BadRow:
    problem = _problem(row, timestamp)
    if problem is None:
        return row
    if not _usable(row.symbol):
        return BadRow(None, problem)
    return BadRow(row.symbol, problem, lost=row.interval in INTERVALS or row.interval <= 0)


def _problem(row: IntervalRow, timestamp: float | None) -> str | None:
    """Why `row` is not a candle; None if it is one."""
    if not _usable(row.symbol):
        return "expected a symbol such as BTC/USD"
    timeframe = INTERVALS.get(row.interval)
    if timeframe is None:
        return f"expected the interval of a timeframe in minutes, got {row.interval}"
    interval_begin = row.interval_begin
    if interval_begin.tzinfo is None:
        return "expected an interval_begin with an offset such as Z"
    begin = interval_begin.timestamp()
    if begin % timeframe.seconds or begin < 0:
        return f"expected an interval_begin aligned to {timeframe.value}"
    if timestamp is not None and begin > timestamp + _MAX_AHEAD:
        return "expected an interval_begin that is not in the future"
    opening, high, low, close, volume, vwap = row.open, row.high, row.low, row.close, row.volume, row.vwap
    try:
        _exact(opening)
        _exact(high)
        _exact(low)
        _exact(close)
        _exact(volume)
        _exact(vwap)
        # `low <= high` follows; a NaN is not comparable.
        if not ZERO <= low <= opening <= high < _LIMIT or not low <= close <= high:
            return "expected 0 <= low <= open, close <= high < 1e20"
        if not ZERO <= volume < _LIMIT or not ZERO <= vwap < _LIMIT:
            return "expected volume and vwap from 0 to 1e20"
    except ArithmeticError:
        return "expected finite numbers of at most 60 digits"
    return None if row.trades >= 0 else "expected trades as a whole number of 0 or more"


@lru_cache(maxsize=10_000)
def _usable(symbol: str) -> bool:
    try:
        topic_symbol(symbol)
    except TopicError:
        return False
    return True


def _seconds(value: datetime | None) -> float | None:
    return None if value is None or value.tzinfo is None else value.timestamp()


def _decoded(raw: msgspec.Raw, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except _ERRORS:
        return None


def _text(raw: msgspec.Raw) -> str | None:
    return _decoded(raw, str)


def _whole(raw: msgspec.Raw) -> int | None:
    return _decoded(raw, int)


def _time(raw: msgspec.Raw) -> float | None:
    return _seconds(_decoded(raw, datetime))


# --- out --------------------------------------------------------------------------------------------------------------


def candles(symbols: Iterable[str], timeframe: Timeframe) -> Params:
    """The candles of `symbols`."""
    return {"channel": "ohlc", "symbol": list(symbols), "interval": timeframe.minutes}


def instruments() -> Params:
    """The list of pairs, of every asset class."""
    return {"channel": "instrument", "include_tokenized_assets": True}


def required_by(url: str) -> Params:
    """Further parameters of every subscription at `url`: the unified socket requires an asset class."""
    return {"asset_class": "spot"} if urlsplit(url).path.rstrip("/").endswith("/v2/public") else {}


def subscribe(params: Params, req_id: int) -> str:
    """Subscribe to the snapshot and the updates of `params`."""
    return _request("subscribe", {**params, "snapshot": True}, req_id)


def unsubscribe(params: Params, req_id: int) -> str:
    """End a subscription."""
    return _request("unsubscribe", params, req_id)


def ping(req_id: int) -> str:
    """A ping: its pong keeps an idle connection open and has Kraken's time."""
    return msgspec.json.encode({"method": "ping", "req_id": req_id}).decode()


def _request(method: str, params: Params, req_id: int) -> str:
    return msgspec.json.encode({"method": method, "params": params, "req_id": req_id}).decode()
