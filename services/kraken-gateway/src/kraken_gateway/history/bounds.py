"""What a request may ask for. Pure."""

from ingress_common.model import HistoryRequest, SeedRequest
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339

MOST_SYMBOLS = 5_000
"""Symbols in one request; Kraken has about 1,450 pairs."""

MOST_WINDOWS = 5_000
"""Candles above 1m that one request may span, for each symbol."""

MOST_MINUTES = 31 * 1440
"""Minutes that one request may span, for each symbol: about as much as Trades gives of a busy pair in an hour."""

_AHEAD_SECONDS = 86400


class RequestRefusedError(ValueError):
    """A request that is not answered; the message says what was expected and what came."""


def longest(timeframe: Timeframe) -> int:
    """Seconds of `timeframe` that are asked for at once."""
    return (MOST_MINUTES if timeframe is Timeframe.M1 else MOST_WINDOWS) * timeframe.seconds


def check(request: SeedRequest | HistoryRequest, now: float) -> None:
    """RequestRefusedError if `request` asks for more than is ever of use. `now` in unix seconds."""
    if len(request.symbols) > MOST_SYMBOLS:
        raise RequestRefusedError(f"expected at most {MOST_SYMBOLS} symbols, got {len(request.symbols)}")
    if isinstance(request, SeedRequest):
        return
    span, timeframe = request.range, request.timeframe
    if span.start < 0 or span.end > now + _AHEAD_SECONDS:
        raise RequestRefusedError(
            f"expected a range from 1970 to a day from now, got {rfc3339(span.start)} to {rfc3339(span.end)}"
        )
    if span.end - span.start > longest(timeframe):
        raise RequestRefusedError(
            f"expected at most {longest(timeframe) // timeframe.seconds} candles of {timeframe.value} at once, "
            f"got a range of {(span.end - span.start) / timeframe.seconds:.0f}"
        )
