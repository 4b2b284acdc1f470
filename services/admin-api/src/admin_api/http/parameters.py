"""Query parameters of several routes. An empty value means the default."""

import math
from collections.abc import Awaitable, Callable

from fastapi import Request
from pydantic import BeforeValidator

from admin_api.http.problems import InvalidError
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339, rfc3339

TIMEFRAME_NAMES = [timeframe.value for timeframe in TIMEFRAMES]

TIME_SCHEMA = {"type": "string", "examples": [rfc3339(1_708_827_300), "1708827300"]}
"""The JSON schema of a time."""

SHOWN = 100
"""Maximum number of characters of a wrong value in an error."""

_EXPECTED = "expected an RFC 3339 time such as 2024-02-25T02:15:00Z, or unix seconds from the year 1970 to 9999"
_LAST = 253_402_300_799


def timeframe_of(value: object) -> Timeframe | None:
    """The timeframe of a parameter, None if it is empty; ValueError lists the valid ones."""
    return None if value is None or value == "" else Timeframe.parse(str(value)[:SHOWN])


def instant_of(value: object) -> float | None:
    """The time of a parameter (unix seconds), None if it is empty; ValueError names the valid formats."""
    if value is None or value == "":
        return None
    text = str(value)[:SHOWN]
    try:
        instant = float(text)
    except ValueError:
        try:
            instant = parse_rfc3339(text)
        except (ValueError, OverflowError):
            raise ValueError(f"{_EXPECTED}, got {text!r}") from None
    if not (math.isfinite(instant) and 0 <= instant <= _LAST):
        raise ValueError(f"{_EXPECTED}, got {text!r}")
    return instant


def number(least: int, most: int, default: int, expected: str = "") -> BeforeValidator:
    """A validator of whole numbers from `least` to `most`; an empty value gives `default`.

    `expected` is the text for an error if that is not just the two numbers.
    """
    expected = expected or f"a number from {least} to {most}"

    def parse(value: object) -> int:
        text = str(default if value is None or value == "" else value)
        found = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1
        if not least <= found <= most:
            raise ValueError(f"expected {expected}, got {text[:SHOWN]!r}")
        return found

    return BeforeValidator(parse)


def once(*names: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses a repeated parameter with 422, because only one of its values would count."""

    async def check(request: Request) -> None:
        for name in names:
            count = len(request.query_params.getlist(name))
            if count > 1:
                raise InvalidError(name, f"expected it once, got it {count} times")

    return check
