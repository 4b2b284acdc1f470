"""Candles and ticks as line protocol. Rendered by hand: the client's `Point` takes seven times as long."""

import math
from zlib import crc32

from ingress_common.model import Candle
from ingress_store.influx.names import CANDLE, TICK

_MAX_INTEGER = 2**63 - 1
_LATEST = 9_223_372_036  # unix seconds; InfluxDB's nanoseconds end in the year 2262
_NUMBERS = ("open", "high", "low", "close", "volume", "vwap")
_SPECIAL = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})

NO_CHECK = 0
"""The field `check` of a row that was not written by us: by a task."""


def candle_line(c: Candle) -> str:
    """A line of a candle bucket, time in seconds.

    `at` (microseconds) goes beyond the contract, so that a candle comes back as it was on the bus; and so does `check`.
    """
    fields = _all_fields(c)
    return (
        f"{CANDLE},exchange={_tag(c.exchange)},symbol={_tag(c.symbol)} {fields},check={_check(fields)}i {c.open_time}"
    )


def is_of_one_write(c: Candle, check: int) -> bool:
    """Whether the fields of a stored row, `c` and `check`, were written together.

    Two writes of one point at one moment are merged field by field, so a row may be made of both. `NO_CHECK`: unknown.
    """
    return check in (NO_CHECK, _check(_all_fields(c)))


def tick_line(c: Candle) -> str:
    """A line of the tick bucket, time in nanoseconds: `at` in microseconds, and below that the minute it is of.

    One frame may hold the last state of a minute and the first of the next; at the same time they would be one point.
    """
    time = microseconds(c.at) * 1000 + c.open_time // 60 % 1000
    return (
        f"{TICK},exchange={_tag(c.exchange)},symbol={_tag(c.symbol)} {_fields(c)},closed={_bool(c.closed)},"
        f"infilled={_bool(c.infilled)},revision={c.revision}i,complete={_bool(c.complete)},"
        f'source="{c.source.value}",open_time={c.open_time}i {time}'
    )


def rejection(c: Candle) -> str | None:
    """Why a line cannot hold `c`; None if it can. A bad line would cost the whole batch a round of its own."""
    for name in _NUMBERS:
        value = getattr(c, name)
        try:
            finite = math.isfinite(float(value))
        except OverflowError:
            finite = False
        if not finite:
            return f"expected {name} to be a finite number, got {value}"
    for name in ("trades", "revision"):
        number: int = getattr(c, name)
        if abs(number) > _MAX_INTEGER:
            return f"expected {name} to fit into 64 bits, got {number}"
    for name in ("open_time", "at"):
        instant: float = getattr(c, name)
        if not (math.isfinite(instant) and abs(instant) < _LATEST):
            return f"expected {name} to be an instant before the year 2262, got {instant}"
    for text in (c.symbol, c.exchange):
        if not text or not text.isprintable() or text.endswith("\\") or len(text) > 1000:
            return f"expected a name without control characters, got {text[:100]!r}"
    return None


def microseconds(instant: float) -> int:
    """`instant` (unix seconds) in microseconds."""
    return round(instant * 1_000_000)


def _all_fields(c: Candle) -> str:
    return (
        f"{_fields(c)},closed={_bool(c.closed)},infilled={_bool(c.infilled)},revision={c.revision}i,"
        f'complete={_bool(c.complete)},source="{c.source.value}",at={microseconds(c.at)}i'
    )


def _check(fields: str) -> int:
    return crc32(fields.encode()) or 1


def _fields(c: Candle) -> str:
    return (
        f"open={float(c.open)!r},high={float(c.high)!r},low={float(c.low)!r},close={float(c.close)!r},"
        f"volume={float(c.volume)!r},vwap={float(c.vwap)!r},trades={c.trades}i"
    )


def _tag(text: str) -> str:
    return text.translate(_SPECIAL)


def _bool(value: bool) -> str:  # noqa: FBT001 - renders it
    return "true" if value else "false"
