"""Instants: unix seconds inside, RFC 3339 UTC on the wire."""

import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

EARLIEST = 0
LATEST = 7_258_118_400
"""The range of times (unix seconds) in a payload: from 1970 up to, not including, 2200."""

if TYPE_CHECKING:
    UnixSeconds = int
    UnixTime = float
else:

    class UnixSeconds(int):
        """Whole unix seconds; in a payload an RFC 3339 time."""

    class UnixTime(float):
        """Unix seconds; in a payload an RFC 3339 time."""


_NumberT = TypeVar("_NumberT", int, float)
# The same few times recur: every symbol closes a candle with the same open time and `at`.
_REMEMBERED = 4_096
_MICROSECONDS = 1_000_000


@lru_cache(maxsize=_REMEMBERED)
def rfc3339(instant: float) -> str:
    """`instant` (unix seconds) as RFC 3339 UTC; microseconds only if they are not zero. ValueError if not finite."""
    second = instant // 1
    if not math.isfinite(second):
        raise ValueError(f"expected an instant in unix seconds, got {instant}")
    microseconds = round((instant - second) * 1e6)
    if microseconds == _MICROSECONDS:
        second, microseconds = second + 1, 0
    return f"{_to_the_second(second)}.{microseconds:06}Z" if microseconds else f"{_to_the_second(second)}Z"


@lru_cache(maxsize=_REMEMBERED)
def _to_the_second(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def parse_rfc3339(text: str) -> float:
    """Unix seconds of an RFC 3339 time with an offset, to the microsecond. ValueError if `text` is not one."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected an RFC 3339 time such as 2024-02-25T02:15:00Z, got {text[:100]!r}") from None
    if parsed.tzinfo is None:
        raise ValueError(f"expected an RFC 3339 time with an offset such as Z, got {text!r}")
    return parsed.timestamp()


@lru_cache(maxsize=_REMEMBERED)
def parse_instant(kind: type[_NumberT], text: str) -> _NumberT:
    """A payload's time as `UnixSeconds` or `UnixTime`. ValueError if it is not an RFC 3339 time from 1970 to 2199."""
    if not isinstance(text, str):
        raise ValueError(f"expected an RFC 3339 time such as 2024-02-25T02:15:00Z, got {text!r}")
    try:
        instant = parse_rfc3339(text)
    except OverflowError:
        instant = math.inf
    if not EARLIEST <= instant < LATEST:
        raise ValueError(f"expected a time from 1970 to 2199, got {text}")
    number = kind(instant)
    if number != instant:
        raise ValueError(f"expected a time in whole seconds, got {text}")
    return number
