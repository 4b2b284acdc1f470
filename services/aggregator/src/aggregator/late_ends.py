"""The symbols that ended while no aggregator ran: what to do next for each. Pure."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum, auto

from aggregator.core import LateEnd
from aggregator.core.feeds import SUDDEN, ImplausibleError
from ingress_common.model import Candle, History

RESPONSE_SECONDS = 15.0
"""Seconds after which a symbol ends by its retained candles alone."""

REPEAT_SECONDS = 5.0
"""Seconds between two requests for the same symbol: admin-api may still be starting."""

MOST_AT_ONCE = 20
"""Maximum number of symbols at a time; the others wait, so that the store serves few at once."""


class LateStep(Enum):
    """What to do next for a symbol."""

    WAIT = auto()
    SUBSCRIBE = auto()
    """Subscribe to its history and to its retained candles."""
    REQUEST = auto()
    """Request its seed."""
    END = auto()
    """`LateEnds.end` has its last candles."""


@dataclass(slots=True)
class _UnderWay:
    """A symbol under way. `until`, `request_at`: when to end it, and when to request next (steady seconds)."""

    last: LateEnd
    until: float
    request_at: float


class LateEnds:
    """The symbols under way, each with its `LateEnd`."""

    def __init__(self) -> None:
        self._under_way: dict[str, _UnderWay] = {}

    @property
    def symbols(self) -> AbstractSet[str]:
        """The symbols under way."""
        return frozenset(self._under_way)

    def next(self, symbol: str, now: float) -> LateStep:
        """What to do for `symbol` at `now` (steady seconds)."""
        known = self._under_way.get(symbol)
        if known is None:
            if len(self._under_way) >= MOST_AT_ONCE:
                return LateStep.WAIT
            self._under_way[symbol] = _UnderWay(LateEnd(symbol), now + RESPONSE_SECONDS, now)
            return LateStep.SUBSCRIBE
        if known.last.has_response or now >= known.until:
            return LateStep.END
        if now < known.request_at:
            return LateStep.WAIT
        known.request_at = now + REPEAT_SECONDS
        return LateStep.REQUEST

    def resume(self, candle: Candle) -> None:
        """Add a candle retained on the bus."""
        if known := self._under_way.get(candle.symbol):
            known.last.resume(candle)

    def history(self, history: History, now: float) -> None:
        """Add a batch of history, received at `now` (unix seconds). ImplausibleError if it covers a time to come."""
        known = self._under_way.get(history.symbol)
        if known is None:
            return
        latest = max((candle.open_time for candle in history.candles), default=0)
        if max(latest, history.covers.end) > now + SUDDEN:
            raise ImplausibleError(f"expected no history of {history.symbol} that is in the future")
        known.last.history(history)

    def end(self, symbol: str, at: float) -> list[Candle]:
        """Forget `symbol`. Returns its last closed candles and open windows (`LateEnd.last`)."""
        return self._under_way.pop(symbol).last.last(at)

    def forget(self, symbol: str) -> None:
        """Forget `symbol`: it has not ended."""
        del self._under_way[symbol]
