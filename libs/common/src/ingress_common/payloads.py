"""All payloads of the bus: encodes the model as JSON and decodes it (`docs/design.md`, section 4).

Decoding checks everything that later code relies on: aligned times, valid prices, known names, maximum lengths. It
raises PayloadError, and no other exception, whatever the bytes are; the text names what was expected and what came. It
ignores unknown fields and a candle's `close_time`, which follows from `open_time`. Prices and volumes keep their exact
decimals both ways.
"""

import base64
import codecs
from collections.abc import Callable, Iterable, Mapping
from decimal import DecimalException
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from ingress_common.decimals import DIGITS, INFINITE, ZERO, plain, to_digits
from ingress_common.model import (
    DEAD_LETTER_BYTES,
    EXCHANGE,
    Candle,
    DeadLetter,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    InstanceState,
    Range,
    RepublishRequest,
    SeedRequest,
    Source,
    Status,
    Watermark,
)
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_instant, rfc3339
from ingress_common.topics import TopicError, topic_symbol

AHEAD = 86_400
"""Maximum number of seconds from a candle's `at` to its later open time: more than any two clocks differ."""

_KIB = 1024
_REASON_LENGTH = 1_000


class PayloadError(ValueError):
    """A payload does not match its topic. The text, cut to 1,000 characters, names what was expected and what came."""

    def __init__(self, text: str) -> None:
        super().__init__(_brief(text))


def _brief(text: str) -> str:
    return text if len(text) <= _REASON_LENGTH else text[:_REASON_LENGTH] + " ..."


class Mark(msgspec.Struct, frozen=True):
    """A numbered message that an instance sends to itself."""

    number: int


_T = TypeVar("_T")
_instant = cast("Callable[[type[Any], Any], Any]", parse_instant)
_LIMITS: Mapping[type, int] = {
    Candle: 16 * _KIB,
    History: 16 * _KIB * _KIB,
    FeedState: 512 * _KIB,
    Watermark: 4 * _KIB,
    SeedRequest: 512 * _KIB,
    HistoryRequest: 512 * _KIB,
    RepublishRequest: 512 * _KIB,
    Status: 512 * _KIB,
    Mark: _KIB,
    DeadLetter: 1024 * _KIB,
}
"""Maximum size in bytes of each kind of payload."""

_DECODERS: Mapping[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(dict[str, Any] if kind is Status else kind, dec_hook=_instant) for kind in _LIMITS
}


_ENUMS: Mapping[str, Iterable[str]] = {
    "exchange": (EXCHANGE,),
    "timeframe": [timeframe.value for timeframe in TIMEFRAMES],
    "source": Source,
}
"""The values of the fields that have few."""

_decode_candle: Callable[[bytes], Candle] = _DECODERS[Candle].decode
_CANDLE_LIMIT = _LIMITS[Candle]


def _decode(payload: bytes, kind: type[_T]) -> Any:
    # First, so that an oversized message costs nothing.
    if len(payload) > _LIMITS[kind]:
        raise PayloadError(f"expected a {kind.__name__} of at most {_LIMITS[kind]} bytes, got {len(payload)}")
    try:
        return _DECODERS[kind].decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(kind, error) from None


def _malformed(kind: type[Any], error: Exception) -> PayloadError:
    text = str(error)
    if text.startswith("Invalid enum value"):
        # msgspec names what came, and where: `$.candles[0].timeframe`.
        values = {**_ENUMS, "state": InstanceState if kind is Status else FeedCondition}
        text += f"; there are: {', '.join(values.get(text.rstrip('`').rpartition('.')[2], ()))}"
    return PayloadError(f"expected a {kind.__name__} as JSON: {text}")


def _known_symbols(symbols: Iterable[str]) -> None:
    try:
        for symbol in symbols:
            topic_symbol(symbol)
    except TopicError as error:
        raise PayloadError(str(error)) from None


def _ordered(span: Range) -> None:
    if span.start > span.end:
        raise PayloadError(f"expected `from` no later than `to`, got {rfc3339(span.start)} and {rfc3339(span.end)}")


# --- candles ----------------------------------------------------------------------------------------------------------


def encode_candle(c: Candle) -> bytes:
    """The payload of a candle.

    It is formatted by hand, because JSON libraries write decimals as strings, as floats or with exponents.
    """
    numbers = (
        f'"open":{c.open!s},"high":{c.high!s},"low":{c.low!s},"close":{c.close!s},"volume":{c.volume!s},'
        f'"vwap":{c.vwap!s}'
    )
    if "E" in numbers or numbers.count(".") != _NUMBERS:
        numbers = ",".join(f'"{name}":{plain(getattr(c, name))}' for name in _NUMBER_NAMES)
    window, state = _window_and_state(c.timeframe, c.open_time, c.closed, c.infilled, c.complete, c.revision, c.source)
    return (
        f'{{"exchange":"{c.exchange}","symbol":"{c.symbol}",{window},{numbers},"trades":{c.trades},{state},'
        f'"at":"{rfc3339(c.at)}"}}'
    ).encode()


_NUMBER_NAMES = ("open", "high", "low", "close", "volume", "vwap")
_NUMBERS = len(_NUMBER_NAMES)
_REMEMBERED = 4_096


# Cached, because thousands of candles of one boundary differ only in symbol and numbers.
@lru_cache(maxsize=_REMEMBERED)
def _window_and_state(
    timeframe: Timeframe,
    open_time: int,
    closed: bool,  # noqa: FBT001 - renders it
    infilled: bool,  # noqa: FBT001
    complete: bool,  # noqa: FBT001
    revision: int,
    source: Source,
) -> tuple[str, str]:
    window = (
        f'"timeframe":"{timeframe.value}","open_time":"{rfc3339(open_time)}",'
        f'"close_time":"{rfc3339(open_time + timeframe.seconds)}"'
    )
    state = {"closed": closed, "infilled": infilled, "complete": complete, "revision": revision, "source": source.value}
    return window, msgspec.json.encode(state).decode()[1:-1]


def decode_candle(payload: bytes) -> Candle:
    """The candle of a payload; PayloadError if it is malformed or impossible."""
    try:
        # Skips `_decode`, which costs one call and two look-ups more for every candle on the bus.
        candle: Candle = _decode_candle(payload) if len(payload) <= _CANDLE_LIMIT else _decode(payload, Candle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(Candle, error) from None
    _check(candle)
    return candle


def _check(c: Candle) -> None:
    """PayloadError if `c` is impossible."""
    low, high, opening, close, volume, vwap, open_time = c.low, c.high, c.open, c.close, c.volume, c.vwap, c.open_time
    try:
        to_digits(opening)
        to_digits(high)
        to_digits(low)
        to_digits(close)
        to_digits(volume)
        to_digits(vwap)
        sane = low >= ZERO and high < INFINITE and ZERO <= volume < INFINITE and ZERO <= vwap < INFINITE
    except DecimalException:
        sane = False
    if not sane:
        numbers = ", ".join(f"{name} {getattr(c, name)}" for name in _NUMBER_NAMES)
        raise PayloadError(f"expected prices and a volume of 0 or more with at most {DIGITS} digits, got {numbers}")
    if not (low <= opening <= high and low <= close <= high):
        raise PayloadError(
            f"expected low <= open, close <= high, got open {opening} high {high} low {low} close {close}"
        )
    if open_time % c.timeframe.seconds:
        raise PayloadError(f"expected an open_time aligned to {c.timeframe.value}, got {rfc3339(open_time)}")
    if open_time - c.at > AHEAD:
        raise PayloadError(f"expected an open_time before at, {rfc3339(c.at)}, got {rfc3339(open_time)}")
    try:
        topic_symbol(c.symbol)
    except TopicError as error:
        raise PayloadError(str(error)) from None


# --- history ----------------------------------------------------------------------------------------------------------


def encode_history(history: History) -> bytes:
    """The payload of a history batch."""
    return (
        (
            f'{{"exchange":"{history.exchange}","symbol":"{history.symbol}","timeframe":"{history.timeframe.value}",'
            f'"source":"{history.source}",'
            f'"covers":{{"from":"{rfc3339(history.covers.start)}","to":"{rfc3339(history.covers.end)}"}},'
            '"candles":['
        ).encode()
        + b",".join(map(encode_candle, history.candles))
        + b"]}"
    )


def decode_history(payload: bytes) -> History:
    """The history batch of a payload; PayloadError if it is malformed or a row has another symbol or timeframe."""
    history: History = _decode(payload, History)
    symbol, timeframe = history.symbol, history.timeframe
    _known_symbols((symbol,))
    _ordered(history.covers)
    for candle in history.candles:
        if candle.symbol != symbol or candle.timeframe is not timeframe:
            raise PayloadError(
                f"expected rows of {symbol} {timeframe.value}, got {candle.symbol} {candle.timeframe.value}"
            )
        _check(candle)
    return history


# --- feeds ------------------------------------------------------------------------------------------------------------


def encode_feed_state(state: FeedState) -> bytes:
    """The payload of a feed's state."""
    return _encode(
        {
            "feed": state.feed,
            "state": state.state.value,
            "since": rfc3339(state.since),
            "symbols": state.symbols,
            "rejected": state.rejected,
        }
    )


def decode_feed_state(payload: bytes) -> FeedState:
    """The feed state of a payload; PayloadError if it is malformed."""
    state: FeedState = _decode(payload, FeedState)
    _known_symbols(state.symbols)
    return state


def encode_watermark(watermark: Watermark) -> bytes:
    """The payload of a watermark."""
    return _encode({"feed": watermark.feed, "watermark": rfc3339(watermark.watermark), "at": rfc3339(watermark.at)})


def decode_watermark(payload: bytes) -> Watermark:
    """The watermark of a payload; PayloadError if it is malformed."""
    watermark: Watermark = _decode(payload, Watermark)
    return watermark


# --- requests ---------------------------------------------------------------------------------------------------------


def encode_seed_request(request: SeedRequest) -> bytes:
    """The payload of a seed request."""
    return _encode({"symbols": request.symbols})


def decode_seed_request(payload: bytes) -> SeedRequest:
    """The seed request of a payload; PayloadError if it is malformed."""
    request: SeedRequest = _decode(payload, SeedRequest)
    _known_symbols(request.symbols)
    return request


def encode_mark(number: int) -> bytes:
    """The payload of a mark."""
    return _encode({"number": number})


def decode_mark(payload: bytes) -> int:
    """The number of a mark; PayloadError if it is malformed."""
    mark: Mark = _decode(payload, Mark)
    return mark.number


def encode_history_request(request: HistoryRequest) -> bytes:
    """The payload of a history request."""
    return _encode(
        {
            "symbols": request.symbols,
            "timeframe": request.timeframe.value,
            "from": rfc3339(request.start),
            "to": rfc3339(request.end),
        }
    )


def decode_history_request(payload: bytes) -> HistoryRequest:
    """The history request of a payload; PayloadError if it is malformed."""
    request: HistoryRequest = _decode(payload, HistoryRequest)
    _known_symbols(request.symbols)
    _ordered(request.range)
    return request


def encode_republish_request(request: RepublishRequest) -> bytes:
    """The payload of a republish request."""
    return _encode({"symbols": request.symbols, "from": rfc3339(request.start), "to": rfc3339(request.end)})


def decode_republish_request(payload: bytes) -> RepublishRequest:
    """The republish request of a payload; PayloadError if it is malformed."""
    request: RepublishRequest = _decode(payload, RepublishRequest)
    _known_symbols(request.symbols)
    _ordered(Range(request.start, request.end))
    return request


# --- status and dead letters ------------------------------------------------------------------------------------------

_STATUS_FIELDS = frozenset(Status.__struct_fields__) - {"details"}


def encode_status(status: Status) -> bytes:
    """The payload of an instance's status; each of `details` becomes a field."""
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
    """The status of a payload; PayloadError if it is malformed."""
    fields: dict[str, Any] = _decode(payload, Status)
    details = {name: value for name, value in fields.items() if name not in _STATUS_FIELDS}
    own = {name: value for name, value in fields.items() if name in _STATUS_FIELDS}
    try:
        return msgspec.convert({**own, "details": details}, Status, dec_hook=_instant)
    except msgspec.ValidationError as error:
        raise _malformed(Status, error) from None


def decode_status_on(topic: str, payload: bytes) -> Status:
    """The status of a payload received on `topic`; PayloadError if it is malformed or names another instance."""
    status = decode_status(payload)
    if topic.split("/")[-2:] != [status.service, status.instance]:
        raise PayloadError(f"expected the status of {topic}, got that of {status.service} {status.instance}")
    return status


def dead_letter(topic: str, payload: bytes, reason: str, at: float, limit: int = DEAD_LETTER_BYTES) -> DeadLetter:
    """The dead letter for `payload`, received on `topic` at `at` (unix seconds) and rejected for `reason`.

    It contains the first `limit` bytes of the payload, so that it can be published whatever the message's size.
    """
    reason, kept = _brief(reason), payload[:limit]
    if len(kept) < len(payload):
        reason += f" (payload of {len(payload)} bytes cut to {len(kept)})"
    try:
        # The cut may split a character; the incremental decoder omits it.
        text = codecs.getincrementaldecoder("utf-8")().decode(kept, final=len(kept) == len(payload))
    except UnicodeDecodeError:
        text = "base64:" + base64.b64encode(kept).decode()
    return DeadLetter(topic=topic, payload=text, reason=reason, at=at)


def encode_dead_letter(dead: DeadLetter) -> bytes:
    """The payload of a dead letter."""
    return _encode({"topic": dead.topic, "payload": dead.payload, "reason": dead.reason, "at": rfc3339(dead.at)})


def decode_dead_letter(payload: bytes) -> DeadLetter:
    """The dead letter of a payload; PayloadError if it is malformed."""
    dead: DeadLetter = _decode(payload, DeadLetter)
    return dead


def _encode(fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(fields)


WIRE: Mapping[str, type[msgspec.Struct]] = {
    "candle": Candle,
    "history": History,
    "feed-state": FeedState,
    "watermark": Watermark,
    "seed-request": SeedRequest,
    "history-request": HistoryRequest,
    "republish-request": RepublishRequest,
    "status": Status,
    "mark": Mark,
    "dead-letter": DeadLetter,
}
"""The type of each payload by its name, the source of the JSON schemas in `docs/schemas/`."""
