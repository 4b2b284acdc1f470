"""The bus's payloads, in one place: JSON out of the model and back (`design.md`, section 4).

Decoding checks what the rest of the code takes for granted - aligned times, sane prices, known names, and that nothing
is longer than it can be - and raises PayloadError with what was expected and what came, and nothing else whatever the
bytes are. Unknown fields are ignored. Prices and volumes keep their exact decimals both ways.
"""

import base64
import codecs
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ingress_common.model import (
    Candle,
    DeadLetter,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    Presence,
    Range,
    SeedRequest,
    Source,
    Status,
    Watermark,
)
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_common.topics import TopicError, topic_symbol

LETTER_BYTES = 64 * 1024
"""Bytes of a payload that its dead letter keeps; the letter's reason says how many there were."""

EARLIEST = 0
LATEST = 7_258_118_400
"""The times (unix seconds) that a payload may name: 1970 up to, and without, 2200."""

AHEAD = 86_400
"""Seconds that a candle may begin after its `at`: more than any two clocks differ."""

_REASON_LENGTH = 1_000


class PayloadError(ValueError):
    """A payload that is not what its topic promises; the message says what was expected and what came, in brief."""

    def __init__(self, text: str) -> None:
        super().__init__(_brief(text))


def _brief(text: str) -> str:
    return text if len(text) <= _REASON_LENGTH else text[:_REASON_LENGTH] + " ..."


# Lengths that nothing real comes near, so that no message can make a service hold or pass on what it cannot afford.
_Name = Annotated[str, msgspec.Meta(max_length=200)]
_Text = Annotated[str, msgspec.Meta(max_length=2_000)]
_FeedSymbols = Annotated[list[str], msgspec.Meta(max_length=1_000)]
_RequestSymbols = Annotated[list[str], msgspec.Meta(max_length=5_000)]
_Rejected = Annotated[dict[_Name, _Text], msgspec.Meta(max_length=1_000)]


class _Candle(msgspec.Struct, frozen=True):
    symbol: str
    timeframe: Timeframe
    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal
    trades: int
    at: datetime
    closed: bool = False
    infilled: bool = False
    complete: bool = True
    revision: int = 0
    source: Source = Source.WS
    exchange: Literal["kraken"] = "kraken"
    close_time: datetime | None = None


class _Range(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    start: datetime
    end: datetime


class _History(msgspec.Struct, frozen=True):
    symbol: str
    timeframe: Timeframe
    source: Source
    covers: _Range
    candles: Annotated[list[_Candle], msgspec.Meta(max_length=20_000)]
    exchange: Literal["kraken"] = "kraken"


class _FeedState(msgspec.Struct, frozen=True):
    feed: _Name
    state: FeedCondition
    since: datetime
    symbols: _FeedSymbols = []
    rejected: _Rejected = {}


class _Watermark(msgspec.Struct, frozen=True):
    feed: _Name
    watermark: datetime
    at: datetime


class _SeedRequest(msgspec.Struct, frozen=True):
    symbols: _RequestSymbols


class _Attempts(msgspec.Struct, frozen=True):
    attempts: list[float]


class _HistoryRequest(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    symbols: _RequestSymbols
    timeframe: Timeframe
    start: datetime
    end: datetime


class _Status(msgspec.Struct, frozen=True):
    service: _Name
    instance: _Name
    state: Presence
    version: _Name
    started_at: datetime


class _DeadLetter(msgspec.Struct, frozen=True):
    topic: Annotated[str, msgspec.Meta(max_length=65_535)]
    payload: Annotated[str, msgspec.Meta(max_length=2 * LETTER_BYTES)]
    reason: _Text
    at: datetime


_NUMBER_LENGTH = 64
_MOST_TRADES = 2**64 - 1
_MOST_REVISIONS = 10**9
_KIB = 1024

_T = TypeVar("_T")
_DECODERS: Mapping[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (
        _Candle,
        _History,
        _FeedState,
        _Watermark,
        _SeedRequest,
        _HistoryRequest,
        _Status,
        _Attempts,
        _DeadLetter,
    )
}
_FIELDS: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_LONGEST: Mapping[type, int] = {
    _Candle: 16 * _KIB,
    _History: 16 * _KIB * _KIB,
    _FeedState: 512 * _KIB,
    _Watermark: 4 * _KIB,
    _SeedRequest: 512 * _KIB,
    _HistoryRequest: 512 * _KIB,
    _Status: 256 * _KIB,
    _Attempts: 64 * _KIB,
    _DeadLetter: 1024 * _KIB,
}


def _decode(payload: bytes, kind: type[_T]) -> _T:
    # Before anything else, so that an oversized message costs nothing.
    if len(payload) > _LONGEST[kind]:
        raise PayloadError(f"expected a {kind.__name__[1:]} of at most {_LONGEST[kind]} bytes, got {len(payload)}")
    decoded: _T = _parse(payload, _DECODERS[kind], kind.__name__[1:])
    return decoded


def _parse(payload: bytes, decoder: msgspec.json.Decoder[Any], name: str) -> Any:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"expected a {name} as JSON: {error}") from None


def _instant(value: datetime, name: str) -> float:
    if value.tzinfo is None:
        raise PayloadError(f"expected {name} with an offset such as Z, got {value.isoformat()}")
    instant = value.timestamp()
    if not EARLIEST <= instant < LATEST:
        raise PayloadError(f"expected {name} from 1970 to 2199, got {value.isoformat()}")
    return instant


def _known_symbol(symbol: str) -> str:
    try:
        topic_symbol(symbol)
    except TopicError as error:
        raise PayloadError(str(error)) from None
    return symbol


def _range(start: datetime, end: datetime) -> Range:
    parsed = Range(_instant(start, "from"), _instant(end, "to"))
    if parsed.start > parsed.end:
        raise PayloadError(f"expected from to be no later than to, got {start.isoformat()} and {end.isoformat()}")
    return parsed


# --- candles ----------------------------------------------------------------------------------------------------------


def encode_candle(candle: Candle) -> bytes:
    """The candle's payload.

    Rendered by hand, because JSON libraries write decimals as strings, floats or with exponents.
    """
    return _candle_text(candle).encode()


def _candle_text(c: Candle) -> str:
    return (
        f'{{"exchange":"{c.exchange}","symbol":"{c.symbol}","timeframe":"{c.timeframe.value}",'
        f'"open_time":"{rfc3339(c.open_time)}","close_time":"{rfc3339(c.close_time)}",'
        f'"open":{c.open:f},"high":{c.high:f},"low":{c.low:f},"close":{c.close:f},'
        f'"volume":{c.volume:f},"vwap":{c.vwap:f},"trades":{c.trades},'
        f'"closed":{_bool(c.closed)},"infilled":{_bool(c.infilled)},"complete":{_bool(c.complete)},'
        f'"revision":{c.revision},"source":"{c.source}","at":"{rfc3339(c.at)}"}}'
    )


def _bool(value: bool) -> str:  # noqa: FBT001 - renders it
    return "true" if value else "false"


def decode_candle(payload: bytes) -> Candle:
    """The candle of a payload; PayloadError if it is none that could exist."""
    return _candle(_decode(payload, _Candle))


def _candle(raw: _Candle) -> Candle:
    open_time = _instant(raw.open_time, "open_time")
    if open_time % raw.timeframe.seconds:
        raise PayloadError(f"expected an open_time aligned to {raw.timeframe.value}, got {raw.open_time.isoformat()}")
    at = _instant(raw.at, "at")
    if open_time > at + AHEAD:
        raise PayloadError(
            f"expected an open_time that had come by at, {raw.at.isoformat()}, got {raw.open_time.isoformat()}"
        )
    if raw.close_time is not None and _instant(raw.close_time, "close_time") != open_time + raw.timeframe.seconds:
        raise PayloadError(
            f"expected a close_time {raw.timeframe.value} after open_time, got {raw.close_time.isoformat()}"
        )
    prices = (raw.open, raw.high, raw.low, raw.close, raw.vwap)
    if not all(_plausible(price) for price in prices):
        raise PayloadError(f"expected prices of 0 or more with at most 30 digits, got {', '.join(map(str, prices))}")
    if not raw.low <= min(raw.open, raw.close) <= max(raw.open, raw.close) <= raw.high:
        raise PayloadError(
            f"expected low <= open, close <= high, got open {raw.open} high {raw.high} low {raw.low} close {raw.close}"
        )
    if not _plausible(raw.volume):
        raise PayloadError(f"expected a volume of 0 or more with at most 30 digits, got {raw.volume}")
    if not (0 <= raw.trades <= _MOST_TRADES and 0 <= raw.revision <= _MOST_REVISIONS):
        raise PayloadError(
            f"expected trades from 0 to {_MOST_TRADES} and a revision from 0 to {_MOST_REVISIONS}, "
            f"got {raw.trades} and {raw.revision}"
        )
    return Candle(
        symbol=_known_symbol(raw.symbol),
        timeframe=raw.timeframe,
        open_time=int(open_time),
        open=raw.open,
        high=raw.high,
        low=raw.low,
        close=raw.close,
        volume=raw.volume,
        vwap=raw.vwap,
        trades=raw.trades,
        closed=raw.closed,
        infilled=raw.infilled,
        complete=raw.complete,
        revision=raw.revision,
        source=raw.source,
        at=at,
        exchange=raw.exchange,
    )


def _plausible(number: Decimal) -> bool:
    """Whether it is a price or volume that could be, and short enough to be written out."""
    # The size first: the digits of a number that is as long as a message are not for taking apart.
    if not number.is_finite() or number < 0 or not -31 <= number.adjusted() <= 30 or len(str(number)) > _NUMBER_LENGTH:
        return False
    return int(number.as_tuple().exponent) >= -30


# --- history ----------------------------------------------------------------------------------------------------------


def encode_history(history: History) -> bytes:
    """The payload of a history batch."""
    return (
        f'{{"exchange":"{history.exchange}","symbol":"{history.symbol}","timeframe":"{history.timeframe.value}",'
        f'"source":"{history.source}",'
        f'"covers":{{"from":"{rfc3339(history.covers.start)}","to":"{rfc3339(history.covers.end)}"}},'
        f'"candles":[{",".join(map(_candle_text, history.candles))}]}}'
    ).encode()


def decode_history(payload: bytes) -> History:
    """The history batch of a payload; PayloadError also if a row is not of the batch's symbol and timeframe."""
    raw = _decode(payload, _History)
    candles = tuple(_candle(row) for row in raw.candles)
    for candle in candles:
        if (candle.symbol, candle.timeframe) != (raw.symbol, raw.timeframe):
            raise PayloadError(
                f"expected rows of {raw.symbol} {raw.timeframe.value}, got {candle.symbol} {candle.timeframe.value}"
            )
    return History(
        symbol=_known_symbol(raw.symbol),
        timeframe=raw.timeframe,
        source=raw.source,
        covers=_range(raw.covers.start, raw.covers.end),
        candles=candles,
        exchange=raw.exchange,
    )


# --- feeds ------------------------------------------------------------------------------------------------------------


def encode_feed_state(state: FeedState) -> bytes:
    """The payload of a feed's state."""
    return _encode(
        {
            "feed": state.feed,
            "state": state.state.value,
            "since": rfc3339(state.since),
            "symbols": list(state.symbols),
            "rejected": dict(state.rejected),
        }
    )


def decode_feed_state(payload: bytes) -> FeedState:
    """The feed state of a payload; PayloadError if it is none."""
    raw = _decode(payload, _FeedState)
    return FeedState(
        feed=raw.feed,
        state=raw.state,
        since=_instant(raw.since, "since"),
        symbols=tuple(_known_symbol(symbol) for symbol in raw.symbols),
        rejected=raw.rejected,
    )


def encode_watermark(watermark: Watermark) -> bytes:
    """The payload of a watermark."""
    return _encode({"feed": watermark.feed, "watermark": rfc3339(watermark.watermark), "at": rfc3339(watermark.at)})


def decode_watermark(payload: bytes) -> Watermark:
    """The watermark of a payload; PayloadError if it is none."""
    raw = _decode(payload, _Watermark)
    return Watermark(feed=raw.feed, watermark=_instant(raw.watermark, "watermark"), at=_instant(raw.at, "at"))


# --- requests ---------------------------------------------------------------------------------------------------------


def encode_seed_request(request: SeedRequest) -> bytes:
    """The payload of a seed request."""
    return _encode({"symbols": list(request.symbols)})


def decode_seed_request(payload: bytes) -> SeedRequest:
    """The seed request of a payload; PayloadError if it is none."""
    return SeedRequest(symbols=tuple(_known_symbol(symbol) for symbol in _decode(payload, _SeedRequest).symbols))


def encode_attempts(attempts: Sequence[float]) -> bytes:
    """The payload that tells when connection attempts were made (unix seconds)."""
    return _encode({"attempts": [round(at, 3) for at in attempts]})


def decode_attempts(payload: bytes) -> tuple[float, ...]:
    """The connection attempts (unix seconds) of a payload; PayloadError if it is none."""
    return tuple(_decode(payload, _Attempts).attempts)


def encode_history_request(request: HistoryRequest) -> bytes:
    """The payload of a history request."""
    return _encode(
        {
            "symbols": list(request.symbols),
            "timeframe": request.timeframe.value,
            "from": rfc3339(request.range.start),
            "to": rfc3339(request.range.end),
        }
    )


def decode_history_request(payload: bytes) -> HistoryRequest:
    """The history request of a payload; PayloadError if it is none."""
    raw = _decode(payload, _HistoryRequest)
    return HistoryRequest(
        symbols=tuple(_known_symbol(symbol) for symbol in raw.symbols),
        timeframe=raw.timeframe,
        range=_range(raw.start, raw.end),
    )


# --- status and dead letters ------------------------------------------------------------------------------------------

_STATUS_FIELDS = frozenset(_Status.__struct_fields__)


def encode_status(status: Status) -> bytes:
    """The payload of an instance's status; `details` become fields of their own."""
    return _encode(
        {
            **status.details,
            "service": status.service,
            "instance": status.instance,
            "state": status.state.value,
            "version": status.version,
            "started_at": rfc3339(status.started_at),
        }
    )


def decode_status(payload: bytes) -> Status:
    """The status of a payload; PayloadError if it is none."""
    raw = _decode(payload, _Status)
    fields: dict[str, Any] = _parse(payload, _FIELDS, "Status")
    return Status(
        service=raw.service,
        instance=raw.instance,
        state=raw.state,
        version=raw.version,
        started_at=_instant(raw.started_at, "started_at"),
        details={name: value for name, value in fields.items() if name not in _STATUS_FIELDS},
    )


def decode_status_on(topic: str, payload: bytes) -> Status:
    """The status of a payload that came on `topic`; PayloadError also if it is that of another instance."""
    status = decode_status(payload)
    if topic.split("/")[-2:] != [status.service, status.instance]:
        raise PayloadError(f"expected the status of {topic}, got that of {status.service} {status.instance}")
    return status


def dead_letter(topic: str, payload: bytes, reason: str, at: float) -> DeadLetter:
    """A dead letter about the message `payload` that came on `topic`; `at` in unix seconds.

    It keeps the first LETTER_BYTES of the payload, so that it can be delivered however long the message was.
    """
    reason, kept = _brief(reason), payload[:LETTER_BYTES]
    if len(kept) < len(payload):
        reason += f" (payload of {len(payload)} bytes cut to {len(kept)})"
    try:
        # A cut may go through a character; what is left of it is not decoded.
        text = codecs.getincrementaldecoder("utf-8")().decode(kept, final=len(kept) == len(payload))
    except UnicodeDecodeError:
        text = "base64:" + base64.b64encode(kept).decode()
    return DeadLetter(topic=topic, payload=text, reason=reason, at=at)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """The payload of a dead letter."""
    return _encode(
        {"topic": letter.topic, "payload": letter.payload, "reason": letter.reason, "at": rfc3339(letter.at)}
    )


def decode_dead_letter(payload: bytes) -> DeadLetter:
    """The dead letter of a payload; PayloadError if it is none."""
    raw = _decode(payload, _DeadLetter)
    return DeadLetter(topic=raw.topic, payload=raw.payload, reason=raw.reason, at=_instant(raw.at, "at"))


def _encode(fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(fields)


WIRE: Mapping[str, type[msgspec.Struct]] = {
    "candle": _Candle,
    "history": _History,
    "feed-state": _FeedState,
    "watermark": _Watermark,
    "seed-request": _SeedRequest,
    "history-request": _HistoryRequest,
    "status": _Status,
    "attempts": _Attempts,
    "dead-letter": _DeadLetter,
}
"""How each payload looks on the wire, by its name; their JSON schemas are made from this (`docs/schemas/`)."""
