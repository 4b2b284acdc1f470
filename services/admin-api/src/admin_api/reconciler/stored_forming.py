"""Follows forming candles from the bus into the store: they show within seconds what closed ones show once a minute."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from admin_api.system.details import texts
from admin_api.system.state import SymbolState, SystemState
from ingress_common.health import some
from ingress_common.membership import TAKEOVER_SECONDS
from ingress_common.service_names import WRITER
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339
from ingress_store import CandleStore

_RECENT_SECONDS = 10.0
_LAST_SECONDS = 2.0
_CLOSED_SECONDS = 15.0
_MOST_WAITING = 8
_SETTLED_SECONDS = 3.0
_RECONNECTED_SECONDS = 8.0
_MICROSECOND = 1e-6
_M1 = Timeframe.M1


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A forming 1m candle that was on the bus at `seen_at` (unix seconds)."""

    symbol: str
    open_time: int
    at: float
    seen_at: float


@dataclass(slots=True)
class _Followed:
    """What one writer's symbols had on the bus.

    `waiting`: by symbol, the first and the last candle that the store did not have yet. `newest`: the newest `at` that
    was noted. `stored`: when the newest candle was seen that the store has got (unix seconds).
    """

    waiting: dict[str, list[_Sighting]] = field(default_factory=dict)
    newest: float = float("-inf")
    stored: float = float("-inf")

    def late(self, now: float, limit: float) -> _Sighting | None:
        """The first candle that is late: nothing that was seen after it is stored, or two of its symbol are missing."""
        for first, *later in self.waiting.values():
            if now - first.seen_at > limit and (later or first.seen_at > self.stored):
                return first
        return None


class FormingWatch:
    """Notes the newest forming 1m candle of each writer's symbols, and queries it until the store has it.

    A newer candle counts as well. Because the bus may lose a forming one (QoS 0), a single one of a symbol is late only
    while the same writer stores nothing later. It is late `limit` seconds after it was noted. What was published while
    the writer or we were not connected is not followed, nor is a minute without trades.
    """

    def __init__(self, store: CandleStore, state: SystemState, limit: float) -> None:
        self._store = store
        self._state = state
        self._limit = limit
        self._writers: dict[str, _Followed] = {}
        self._connected_at = float("-inf")

    def reconnected(self, now: float) -> None:
        """The broker was disconnected: the writers may not have reconnected yet."""
        self._writers.clear()
        self._connected_at = now

    async def look(self, symbols: AbstractSet[str], now: float) -> None:
        """Check the candles of `symbols` at `now` (unix seconds). StoreUnavailableError without a response."""
        online = dict(self._state.online(WRITER, now, TAKEOVER_SECONDS))
        self._writers = {writer: self._writers.get(writer, _Followed()) for writer in online}
        for writer, followed in self._writers.items():
            for symbol in list(followed.waiting):
                await self._find(followed, symbol)
            # Once its minute must have closed, the check of closed candles covers it.
            ended = now - _M1.seconds - _CLOSED_SECONDS
            followed.waiting = {
                symbol: kept
                for symbol, waiting in followed.waiting.items()
                if (kept := [sighting for sighting in waiting if sighting.open_time > ended])
            }
            since = max(
                self._state.instances[WRITER, writer].online_since + _SETTLED_SECONDS,
                self._connected_at + _RECONNECTED_SECONDS,
            )
            self._note(followed, symbols & set(texts(online[writer].get("symbols"))), since, now)

    async def _find(self, followed: _Followed, symbol: str) -> None:
        """Look for the candles of `symbol` that wait, the last one first."""
        waiting = followed.waiting[symbol]
        for place in reversed(range(len(waiting))):
            if await self._has(waiting[place]):
                followed.stored = max(followed.stored, waiting[place].seen_at)
                del waiting[: place + 1]
                break
        if not waiting:
            del followed.waiting[symbol]

    async def _has(self, sighting: _Sighting) -> bool:
        """Whether the store has the candle, a newer state of it, or a later one of its symbol."""
        symbol, open_time = sighting.symbol, sighting.open_time
        forming = await self._store.forming(symbol, _M1)
        if forming and (forming.open_time, forming.at) >= (open_time, sighting.at - _MICROSECOND):
            return True
        return bool(await self._store.newest_candles(symbol, _M1, start=open_time, limit=1))

    def _note(self, followed: _Followed, symbols: AbstractSet[str], since: float, now: float) -> None:
        changed = [
            _Sighting(name, symbol.minute, symbol.at, now)
            for name in symbols & self._state.symbols.keys()
            if (symbol := self._state.symbols[name]).at is not None
            and symbol.came >= since
            and max(followed.newest, now - _RECENT_SECONDS) < symbol.at <= now + _RECENT_SECONDS
            and _is_traded_and_forming(symbol, now)
        ]
        if not changed:
            return
        newest = max(changed, key=lambda sighting: sighting.at)
        followed.newest = newest.at
        if newest.symbol in followed.waiting or len(followed.waiting) < _MOST_WAITING:
            # The first one shows since when, the last one whether it goes on.
            followed.waiting[newest.symbol] = [*followed.waiting.get(newest.symbol, [])[:1], newest]

    def problem(self, now: float) -> str:
        """What is late at `now` (unix seconds); empty if nothing is."""
        late = [
            f"{sighting.symbol} {_M1.value} of {rfc3339(sighting.at)} ({writer})"
            for writer, followed in self._writers.items()
            if (sighting := followed.late(now, self._limit))
        ]
        return f"forming candles do not reach the store: {some(late)}" if late else ""


def _is_traded_and_forming(symbol: SymbolState, now: float) -> bool:
    """Whether its newest minute has trades and is open, and long enough to be stored as such.

    One without trades is published once; nothing later of a thin market would show that the store works again.
    """
    end = symbol.minute + _M1.seconds
    return symbol.trades > 0 and symbol.minute <= now < end - _LAST_SECONDS and symbol.closed_until != end
