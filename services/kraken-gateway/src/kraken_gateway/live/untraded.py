"""The pairs that have never traded: Kraken sends no snapshot of them, so no feed can cover them yet."""

import asyncio
from collections.abc import Callable, Collection, Iterable

from ingress_common.logs import get_logger
from kraken_gateway.kraken.rest import KrakenRest, RestError, UnknownPairError
from kraken_gateway.live.feed import Feed, FeedReport

_WAIT_SECONDS = 15.0
"""Seconds that a symbol may wait for its snapshot before its first trade is requested from REST."""

_REPEAT_SECONDS = 60.0
"""Seconds between two such calls for one symbol."""

_MOST_AT_ONCE = 4
"""Maximum number of calls in a row: the backfill needs the rate limit, too."""

_LOOK_SECONDS = 1.0

log = get_logger(__name__)


class UntradedPairs:
    """Finds, by REST, the symbols that live feeds cannot cover because they have never traded; calls `changed` after
    one was found.
    """

    def __init__(self, feeds: Callable[[], Collection[Feed]], rest: KrakenRest, changed: Callable[[], None]) -> None:
        self._feeds = feeds
        self._rest = rest
        self._changed = changed
        self._steady = asyncio.get_running_loop().time
        self._request_at: dict[str, float] = {}
        self._found: set[str] = set()

    def symbols(self, reports: Iterable[FeedReport]) -> frozenset[str]:
        """The symbols of `reports`, one of each feed, that have never traded."""
        return _uncovered(reports) & self._found

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = self._steady()
            uncovered = _uncovered(feed.report() for feed in self._feeds())
            self._request_at = {symbol: self._request_at.get(symbol, now + _WAIT_SECONDS) for symbol in uncovered}
            self._found &= uncovered
            due = sorted((at, symbol) for symbol, at in self._request_at.items() if at <= now)
            for _, symbol in due[:_MOST_AT_ONCE]:
                self._request_at[symbol] = now + _REPEAT_SECONDS
                await self._request(symbol)

    async def _request(self, symbol: str) -> None:
        try:
            first = await self._rest.first_trade(await self._rest.pair(symbol))
        except (RestError, UnknownPairError) as error:
            log.info("untraded.no-rest", symbol=symbol, error=str(error))
            return
        if first is not None:
            self._found.discard(symbol)
        elif symbol not in self._found:
            log.info("symbol.untraded", symbol=symbol)
            self._found.add(symbol)
            self._changed()


def _uncovered(reports: Iterable[FeedReport]) -> frozenset[str]:
    """The symbols that live feeds neither cover, nor exclude until they are verified, nor see rejected."""
    waiting = (
        report.wanted - report.excluded - report.rejected.keys() - set(report.state.symbols)
        for report in reports
        if report.live
    )
    return frozenset().union(*waiting)
