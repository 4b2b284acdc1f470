"""Instants: unix seconds inside, RFC 3339 UTC on the wire."""

import math
from datetime import UTC, datetime


def rfc3339(instant: float) -> str:
    """`instant` (unix seconds) as RFC 3339 UTC; microseconds only where there are any."""
    if not math.isfinite(instant):
        raise ValueError(f"expected an instant in unix seconds, got {instant}")
    return datetime.fromtimestamp(instant, UTC).isoformat().removesuffix("+00:00") + "Z"


def parse_rfc3339(text: str) -> float:
    """Unix seconds of an RFC 3339 time with an offset.

    Up to 9 fractional digits, microseconds are kept. ValueError otherwise.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected an RFC 3339 time such as 2024-02-25T02:15:00Z, got {text!r}") from None
    if parsed.tzinfo is None:
        raise ValueError(f"expected an RFC 3339 time with an offset such as Z, got {text!r}")
    return parsed.timestamp()
