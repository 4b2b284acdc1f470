"""Removes stored forming candles that are never closed: without trades, and of symbols that no gateway follows.

Nobody knows whether the symbol traded later in such a window, so the aggregator publishes no closed candle for it.
"""

import asyncio

from admin_api.reconciler.context import Context
from admin_api.system.wanted import unfollowed
from ingress_common.logs import get_logger
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import StoreUnavailableError

LATE_SECONDS = 600.0
"""Seconds after the end of a window in which its closed candle may still come."""

_EVERY_SECONDS = 60.0
_NEVER = float("inf")

log = get_logger(__name__)


class Leftovers:
    """Removes these forming candles once their window is over."""

    def __init__(self, context: Context, seconds: float = _EVERY_SECONDS) -> None:
        self._context = context
        self._store = context.store
        self._clock = context.clock
        self._seconds = seconds
        self._due: dict[tuple[str, Timeframe], float] = {}

    async def run(self) -> None:
        """Check and remove until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.look()
            except StoreUnavailableError as error:
                log.debug("leftovers.postponed", reason=str(error))

    async def look(self) -> None:
        """Check each series that is due once. StoreUnavailableError."""
        ended = unfollowed(self._context.state, self._clock(), await self._store.symbols())
        known = {(symbol, timeframe) for symbol in ended for timeframe in TIMEFRAMES}
        self._due = {series: self._due.get(series, 0.0) for series in sorted(known, key=str)}
        for (symbol, timeframe), due in self._due.items():
            if self._clock() >= due and self._context.owns(symbol):
                self._due[symbol, timeframe] = await self._look_at(symbol, timeframe)

    async def _look_at(self, symbol: str, timeframe: Timeframe) -> float:
        """Remove the forming candle of a series if it is one; returns when to look again (unix seconds)."""
        candle = await self._store.forming(symbol, timeframe)
        if candle is None:
            return _NEVER
        now, over = self._clock(), candle.close_time + LATE_SECONDS
        if now < over:
            return over
        if candle.trades:
            return now + LATE_SECONDS  # an aggregator closes it
        await self._store.series(symbol, timeframe).delete([candle.open_time])
        log.info("leftover.removed", symbol=symbol, timeframe=timeframe.value, open_time=candle.open_time)
        return _NEVER
