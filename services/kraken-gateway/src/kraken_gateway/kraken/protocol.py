"""Kraken's WebSocket v2 frames, in and out (`kraken-protocol.md`). Pure: text in, values out, and nothing here raises
for what Kraken sends.

Numbers keep their exact decimals. A row that is not a candle is told apart from its neighbours in the same frame,
because each row stands for itself and its symbol.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ingress_common.timeframes import Timeframe
from ingress_common.times import parse_rfc3339
from ingress_common.topics import TopicError, topic_symbol

INTERVALS: Mapping[int, Timeframe] = {timeframe.minutes: timeframe for timeframe in Timeframe}
"""Kraken's interval (minutes) of each timeframe."""

CHUNK = 100
"""Symbols in one subscribe message (`kraken-protocol.md`, limits)."""

ONLINE = "online"
"""The status of a pair that is traded."""

GONE = frozenset({"delisted", "work_in_progress"})
"""The statuses of pairs that are not traded, and may never be."""

_LIMIT = Decimal("1e20")
_SMALLEST_EXPONENT = -40
_MAX_AHEAD = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """The cumulative state of one interval, as Kraken sent it. `open_time` in unix seconds."""

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


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not a candle. `symbol` is None where not even that could be read.

    `lost`: a state of the symbol's candle may be lost with it; not so for a row of an interval that is none of ours.
    """

    symbol: str | None
    reason: str
    lost: bool = True


@dataclass(frozen=True, slots=True)
class Candles:
    """An ohlc frame. `timestamp`: when Kraken made it (unix seconds), None if it does not say. `snapshot` or update."""

    snapshot: bool
    timestamp: float | None
    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Kraken lives and has nothing else to say."""


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """State of the trading engine: `online`, `maintenance`, `cancel_only`, `post_only`."""

    system: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to an application ping. `time`: when Kraken sent it (unix seconds)."""

    req_id: int | None
    time: float | None


@dataclass(frozen=True, slots=True)
class Ack:
    """A subscription (or its end) was accepted. `time`: when Kraken said so (unix seconds)."""

    method: str
    req_id: int | None
    channel: str | None
    symbol: str | None
    time: float | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request was refused with `error`; `req_id` and `symbol` are None where the frame has none (fact 8)."""

    method: str | None
    req_id: int | None
    symbol: str | None
    error: str
    time: float | None


@dataclass(frozen=True, slots=True)
class RateExceeded:
    """`Exceeded msg rate`: what we sent last was probably ignored."""


@dataclass(frozen=True, slots=True)
class Instruments:
    """Kraken's pairs and their status (`online`, `delisted`, ...)."""

    snapshot: bool
    pairs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Other:
    """A well-formed frame of a kind that is not needed here."""

    kind: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Not a frame.

    `may_be_data`: candles may have been lost with it, so what was claimed to be complete no longer is.
    """

    reason: str
    may_be_data: bool


Frame = Candles | Heartbeat | SystemStatus | Pong | Ack | Refusal | RateExceeded | Instruments | Other | Unreadable


# --- in ---------------------------------------------------------------------------------------------------------------


def parse_frame(frame: str | bytes) -> Frame:
    """What a received frame says. Binary frames are not part of the protocol."""
    if isinstance(frame, bytes):
        return Unreadable("expected a text frame, got a binary one", may_be_data=b"ohlc" in frame)
    try:
        message = json.loads(frame, parse_float=_decimal, parse_constant=_not_a_number)
    except (ValueError, RecursionError):
        return Unreadable("expected JSON", may_be_data='"ohlc"' in frame)
    if not isinstance(message, dict):
        return Unreadable("expected a JSON object", may_be_data='"ohlc"' in frame)
    channel = message.get("channel")
    if isinstance(channel, str):
        return _parse_channel(channel, message)
    if isinstance(message.get("method"), str) or isinstance(message.get("error"), str):
        return _parse_reply(message)
    if isinstance(message.get("Error"), str):
        return _refusal(message, message["Error"])
    return Other("unknown")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:  # an exponent beyond what a Decimal holds
        return Decimal("NaN")


def _not_a_number(_: str) -> Decimal:
    return Decimal("NaN")


def _parse_channel(channel: str, message: Mapping[str, Any]) -> Frame:
    data = message.get("data")
    match channel:
        case "heartbeat":
            return Heartbeat()
        case "ohlc":
            return _parse_candles(message, data)
        case "status":
            system = data[-1].get("system") if isinstance(data, list) and data and isinstance(data[-1], dict) else None
            return SystemStatus(system) if isinstance(system, str) else Other("status without system")
        case "instrument":
            return _parse_instruments(message, data)
        case _:
            return Other(channel)


def _parse_candles(message: Mapping[str, Any], data: Any) -> Frame:
    kind = message.get("type")
    if kind not in ("snapshot", "update") or not isinstance(data, list):
        return Unreadable("expected an ohlc snapshot or update with a data array", may_be_data=True)
    timestamp = _time(message.get("timestamp"))
    rows: list[Row] = []
    bad: list[BadRow] = []
    for item in data:
        parsed = _parse_row(item, timestamp)
        if isinstance(parsed, Row):
            rows.append(parsed)
        else:
            bad.append(parsed)
    return Candles(kind == "snapshot", timestamp, tuple(rows), tuple(bad))


def _parse_row(item: Any, timestamp: float | None) -> Row | BadRow:
    if not isinstance(item, dict):
        return BadRow(None, "expected a row object")
    symbol = item.get("symbol")
    if not isinstance(symbol, str) or not _usable(symbol):
        return BadRow(None, "expected a symbol such as BTC/USD")
    interval = item.get("interval")
    timeframe = INTERVALS.get(interval) if isinstance(interval, int) else None
    if timeframe is None:
        lost = not isinstance(interval, int) or isinstance(interval, bool)
        return BadRow(symbol, "expected the interval of a timeframe in minutes", lost)
    begin = _time(item.get("interval_begin"))
    if begin is None or begin != timeframe.floor(begin):
        return BadRow(symbol, f"expected an interval_begin aligned to {timeframe.value}")
    if timestamp is not None and begin > timestamp + _MAX_AHEAD:
        return BadRow(symbol, "expected an interval_begin that is not in the future")
    numbers = [_number(item.get(name)) for name in ("open", "high", "low", "close", "volume", "vwap")]
    opening, high, low, close, volume, vwap = numbers
    trades = _count(item.get("trades"))
    if opening is None or high is None or low is None or close is None or volume is None or vwap is None:
        return BadRow(symbol, "expected open, high, low, close, volume and vwap as finite numbers of 0 or more")
    if trades is None:
        return BadRow(symbol, "expected trades as a whole number of 0 or more")
    if not low <= min(opening, close) <= max(opening, close) <= high:
        return BadRow(symbol, "expected low <= open, close <= high")
    return Row(symbol, timeframe, int(begin), opening, high, low, close, volume, vwap, trades)


def _parse_instruments(message: Mapping[str, Any], data: Any) -> Frame:
    pairs = data.get("pairs") if isinstance(data, dict) else None
    if not isinstance(pairs, list):
        return Other("instrument without pairs")
    known = {
        pair["symbol"]: str(pair.get("status", ""))
        for pair in pairs
        if isinstance(pair, dict) and isinstance(pair.get("symbol"), str)
    }
    return Instruments(message.get("type") == "snapshot", known)


def _parse_reply(message: Mapping[str, Any]) -> Frame:
    method = message.get("method")
    time = _time(message.get("time_out")) or _time(message.get("time_in"))
    if method == "pong":
        return Pong(_whole(message.get("req_id")), time)
    if isinstance(message.get("error"), str):
        return _refusal(message, message["error"])
    if message.get("success") is True and method in ("subscribe", "unsubscribe"):
        result = message.get("result")
        result = result if isinstance(result, dict) else {}
        return Ack(
            method, _whole(message.get("req_id")), _text(result.get("channel")), _text(result.get("symbol")), time
        )
    return Other(str(method))


def _refusal(message: Mapping[str, Any], error: str) -> Frame:
    if "msg rate" in error.lower():
        return RateExceeded()
    time = _time(message.get("time_out")) or _time(message.get("time_in"))
    return Refusal(
        _text(message.get("method")), _whole(message.get("req_id")), _text(message.get("symbol")), error, time
    )


def _usable(symbol: str) -> bool:
    try:
        topic_symbol(symbol)
    except TopicError:
        return False
    # A quote or backslash would break out of a payload.
    return '"' not in symbol and "\\" not in symbol


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    exponent = number.as_tuple().exponent
    # The bounds keep plain decimals short: 1e999999 is a number, but not a price.
    if (
        not isinstance(exponent, int)
        or not 0 <= number < _LIMIT
        or exponent < _SMALLEST_EXPONENT
        or exponent > -_SMALLEST_EXPONENT
    ):
        return None
    return number


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == number.to_integral_value() else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        return parse_rfc3339(value)
    except (ValueError, OverflowError):
        return None


# --- out --------------------------------------------------------------------------------------------------------------


def chunks(symbols: Iterable[str], size: int = CHUNK) -> list[tuple[str, ...]]:
    """`symbols` in tuples of up to `size`."""
    items = tuple(symbols)
    return [items[i : i + size] for i in range(0, len(items), size)]


def subscribe_candles(symbols: Iterable[str], timeframe: Timeframe, req_id: int) -> str:
    """Asks for snapshot and updates of `symbols`."""
    params = {"channel": "ohlc", "symbol": list(symbols), "interval": timeframe.minutes, "snapshot": True}
    return json.dumps({"method": "subscribe", "params": params, "req_id": req_id})


def unsubscribe_candles(symbols: Iterable[str], timeframe: Timeframe, req_id: int) -> str:
    """Ends subscriptions of `symbols`."""
    params = {"channel": "ohlc", "symbol": list(symbols), "interval": timeframe.minutes}
    return json.dumps({"method": "unsubscribe", "params": params, "req_id": req_id})


def subscribe_instruments(req_id: int) -> str:
    """Asks for the list of pairs."""
    return json.dumps({"method": "subscribe", "params": {"channel": "instrument", "snapshot": True}, "req_id": req_id})


def ping(req_id: int) -> str:
    """Asks for a pong, which keeps an idle connection open and tells Kraken's time."""
    return json.dumps({"method": "ping", "req_id": req_id})
