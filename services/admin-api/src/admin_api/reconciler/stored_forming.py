"""Follows forming candles from the bus into the store: they show within seconds what closed ones show once a minute."""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from admin_api.system.state import SystemState
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_store import CandleStore

STORED_SECONDS = 6.0
"""Maximum time of a forming candle's way from the bus to the store, which takes one a second."""

_RECENT_SECONDS = 10.0
_MOST_LOST = 1
_MICROSECOND = 1e-6
_M1 = Timeframe.M1


class _Sighting(NamedTuple):
    """A forming 1m candle that was on the bus at `seen_at` (unix seconds)."""

    symbol: str
    open_time: int
    at: float
    seen_at: float

    def is_open(self, now: float) -> bool:
        """Whether its minute is still open at `now` (unix seconds)."""
        return now < self.open_time + _M1.seconds


class FormingWatch:
    """Notes the newest forming 1m candle at each look, and queries it once the store must have it or a newer one.

    The bus may lose one (QoS 0), so only several in a row are a problem.
    """

    def __init__(self, store: CandleStore, state: SystemState) -> None:
        self._store = store
        self._state = state
        self._sightings: list[_Sighting] = []
        self._lost: list[_Sighting] = []  # in a row, the newest last
        self._newest = float("-inf")

    async def look(self, symbols: AbstractSet[str], now: float) -> None:
        """Look at the candles of `symbols` at `now` (unix seconds); StoreUnavailableError if the store is away."""
        due = [sighting for sighting in self._sightings if now - sighting.seen_at >= STORED_SECONDS]
        self._sightings = [sighting for sighting in self._sightings if now - sighting.seen_at < STORED_SECONDS]
        # What has closed by now is looked after as such.
        self._lost = [sighting for sighting in self._lost if sighting.is_open(now)]
        for sighting in due:
            if not sighting.is_open(now):
                continue
            stored = await self._store.forming(sighting.symbol, _M1)
            if stored and (stored.open_time, stored.at) >= (sighting.open_time, sighting.at - _MICROSECOND):
                self._lost.clear()
            else:
                self._lost = [*self._lost[-_MOST_LOST:], sighting]
        self._note(symbols, now)

    def _note(self, symbols: AbstractSet[str], now: float) -> None:
        known = self._state.symbols
        forming = (
            _Sighting(name, symbol.minute, symbol.at, now)
            for name in symbols & known.keys()
            if (symbol := known[name]).at is not None
            and max(self._newest, now - _RECENT_SECONDS) < symbol.at <= now + _RECENT_SECONDS
            and symbol.minute <= now < symbol.minute + _M1.seconds
            and symbol.closed_until != symbol.minute + _M1.seconds
        )
        newest = max(forming, key=lambda sighting: sighting.at, default=None)
        if newest is not None:
            self._newest = newest.at
            self._sightings.append(newest)

    @property
    def problem(self) -> str:
        """What the store lacks; empty if it lacks nothing."""
        if len(self._lost) <= _MOST_LOST:
            return ""
        named = ", ".join(f"{lost.symbol} {_M1.value} of {rfc3339(lost.at)}" for lost in self._lost)
        return f"forming candles do not reach the store: {named}"
