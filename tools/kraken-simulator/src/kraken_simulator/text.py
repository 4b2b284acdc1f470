"""Numbers and times in Kraken's text formats: fixed decimals, and RFC 3339 with a varying number of digits."""

import time
from decimal import Decimal, InvalidOperation

from kraken_simulator.errors import SourceError

NANOS = 1_000_000_000
"""Nanoseconds in a second."""


def fixed(units: int, decimals: int) -> str:
    """Return `units` of the last decimal as text with exactly `decimals` decimals, trailing zeros kept."""
    if decimals == 0:
        return str(units)
    sign = "-" if units < 0 else ""
    digits = str(abs(units)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


def units(text: str, decimals: int) -> int:
    """Return decimal text (`16535.97`, `1E+1`) in units of the last of `decimals` decimals, rounded to the nearest."""
    return int(parse_decimal(text).scaleb(decimals).to_integral_value())


def parse_decimal(text: str) -> Decimal:
    """Return decimal text as a finite Decimal. SourceError if it is not one."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        message = f"expected a decimal number, was {text!r}"
        raise SourceError(message)
    return value


def decimals_of(text: str) -> int:
    """Return the number of decimals that the value of `text` needs, without trailing zeros."""
    exponent = parse_decimal(text).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def rfc3339_seconds(seconds: int) -> str:
    """Return unix seconds as `2024-02-25T02:15:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def rfc3339(nanos: int, digits: int) -> str:
    """Return unix nanoseconds as RFC 3339, truncated to `digits` fractional digits (1 to 9)."""
    seconds, fraction = divmod(nanos, NANOS)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}"[: 20 + digits] + "Z"


def rfc3339_shortest(nanos: int) -> str:
    """Return unix nanoseconds as RFC 3339 with the fewest sufficient fractional digits of 0, 3, 6 and 9.

    Recorded update frames carry 9 digits or 6 (`docs/kraken-protocol.md`).
    """
    if nanos % NANOS == 0:
        return rfc3339_seconds(nanos // NANOS)
    if nanos % 1_000_000 == 0:
        return rfc3339(nanos, 3)
    return rfc3339(nanos, 6 if nanos % 1_000 == 0 else 9)
