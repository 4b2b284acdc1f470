"""The symbols and their freshness."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from starlette.exceptions import HTTPException

from admin_api.candles.bodies import SymbolBody, SymbolsBody
from admin_api.candles.reads import BoundedReads
from admin_api.system.state import SymbolState, SystemState
from ingress_common.timeframes import TIMEFRAMES
from ingress_common.times import rfc3339
from ingress_store import Freshness, StoreUnavailableError

KEPT_SECONDS = 2.0
"""Maximum age of the list of symbols, or of a failure to read it, before the next read."""

STALE_SECONDS = 60.0
"""Maximum age of a list that serves a request while a newer one is read; higher if reads are slow."""

_DUTY = 20
"""The pause between reads, in multiples of a read's duration, so that a large store is not read all the time."""

_LOOK_SECONDS = 0.5


class StoredSymbols:
    """The symbols of the store, read at most once in KEPT_SECONDS. `steady`: a monotonic clock in seconds."""

    def __init__(self, reads: BoundedReads, steady: Callable[[], float]) -> None:
        self._reads = reads
        self._steady = steady
        self._one_at_a_time = asyncio.Lock()
        self._read_at = float("-inf")
        self._took = 0.0
        # Read the first list in advance.
        self._used_at = self._steady()
        self._found: dict[str, list[Freshness]] | StoreUnavailableError = {}

    async def series(self) -> Mapping[str, Sequence[Freshness]]:
        """The newest closed candle of every timeframe, by symbol. StoreUnavailableError."""
        async with self._one_at_a_time:
            began = self._steady()
            if began - self._read_at > KEPT_SECONDS:
                try:
                    self._found = await self._reads.series()
                except StoreUnavailableError as error:
                    self._found = error
                self._read_at = self._steady()
                self._took = self._read_at - began
            found = self._found
        if isinstance(found, StoreUnavailableError):
            # A new exception, because the traceback grows each time the same one is raised.
            raise StoreUnavailableError(str(found))
        return found

    async def recent(self) -> Mapping[str, Sequence[Freshness]]:
        """Like `series`, but returns a list that is not too old at once; `refresh` then reads a newer one."""
        self._used_at = self._steady()
        usable = max(STALE_SECONDS, 2 * _DUTY * self._took)
        if self._used_at - self._read_at <= usable and not isinstance(self._found, StoreUnavailableError):
            return self._found
        return await self.series()

    async def refresh(self) -> None:
        """Refresh the list while it is in use, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            due = self._read_at + max(KEPT_SECONDS, _DUTY * self._took)
            if self._used_at > self._read_at and self._steady() > due:
                try:
                    await self.series()
                except StoreUnavailableError:
                    # The next request reads the list itself.
                    self._read_at = self._used_at = float("-inf")


class Symbols:
    """The symbols of the store and of the bus. `clock` in unix seconds."""

    def __init__(self, stored: StoredSymbols, state: SystemState, clock: Callable[[], float]) -> None:
        self._stored = stored
        self._state = state
        self._clock = clock

    async def page(self, search: str, limit: int, offset: int) -> SymbolsBody:
        """Up to `limit` symbols that contain `search` (upper case), after the first `offset`. StoreUnavailableError."""
        stored = await self._stored.recent()
        now = self._clock()
        live = self._state.live_since(now)
        names = stored.keys() | self._state.symbols.keys() | live.keys()
        found = sorted(name for name in names if search in name.upper())
        page = found[offset : offset + limit]
        bodies = [_body(name, stored.get(name, ()), self._state.symbols.get(name), name in live, now) for name in page]
        return SymbolsBody(bodies, len(found))

    async def must_know(self, symbol: str) -> None:
        """HTTPException 404 if neither the bus nor the store has `symbol`; StoreUnavailableError."""
        if symbol not in self._state.symbols and symbol not in await self._stored.series():
            raise HTTPException(404, f"unknown symbol: {symbol}; GET /symbols lists the known ones")


def _body(
    name: str,
    series: Sequence[Freshness],
    state: SymbolState | None,
    live: bool,  # noqa: FBT001 - a field
    now: float,
) -> SymbolBody:
    """The entry of a symbol: its candles in the store by the last read, and those known to be stored since."""
    newest = {one.timeframe: one.open_time for one in series}
    instants = [one.at for one in series]
    for timeframe, candle in (state.stored if state else {}).items():
        newest[timeframe] = max(newest.get(timeframe, 0), candle.open_time)
        instants.append(candle.at)
    at = max(instants, default=None)
    return SymbolBody(
        name,
        [timeframe.value for timeframe in TIMEFRAMES if timeframe in newest],
        {timeframe.value: rfc3339(newest[timeframe]) for timeframe in TIMEFRAMES if timeframe in newest},
        None if at is None else rfc3339(at),
        None if at is None else round(now - at, 3),
        live,
    )
