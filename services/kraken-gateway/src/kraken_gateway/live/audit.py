"""A second look at each minute: snapshots over a connection of their own, compared with what the feeds have seen.

Heartbeats prove that a connection lives, not that each symbol on it does, and an update that never came leaves no trace
on its own connection.
"""

import asyncio
from collections.abc import Callable, Collection

from ingress_common.logs import get_logger
from ingress_common.model import GRACE
from ingress_common.timeframes import Timeframe
from kraken_gateway.history.snapshots import Found, Snapshot, fetch_snapshots
from kraken_gateway.kraken.budget import Urgency
from kraken_gateway.kraken.connection import ConnectionLost, Kraken
from kraken_gateway.live.blindness import Blindness
from kraken_gateway.live.feed import Feed
from kraken_gateway.live.judging import has_missed, is_behind
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import BusStalledError, Outlet, snapshot_history

AT_ONCE = 300
"""Symbols looked at after each minute; more of them take turns, those in doubt and the silent ones first."""

_AFTER_MINUTE = 4.0
_LONGEST_SLEEP = 5.0
_ON_ITS_WAY_SECONDS = 2.0
_SILENT_SECONDS = 30.0

log = get_logger(__name__)


class Audit:
    """After each minute asks Kraken for its last candles once more.

    A closed minute of which the feed has seen fewer trades is published again, as Kraken has it now; a feed that is
    behind for a symbol that trades is restarted. A doubt that finds no support ends here too, for REST (`verifier`) may
    be down. `kraken_now` is Kraken's time (unix seconds).
    """

    def __init__(
        self,
        kraken: Kraken,
        feeds: Callable[[], Collection[Feed]],
        outlet: Outlet,
        metrics: GatewayMetrics,
        blindness: Blindness,
        kraken_now: Callable[[], float],
    ) -> None:
        self._kraken = kraken
        self._feeds = feeds
        self._outlet = outlet
        self._metrics = metrics
        self._blindness = blindness
        self._kraken_now = kraken_now
        self._looked_at: dict[str, float] = {}

    async def run(self) -> None:
        """Audit until cancelled."""
        while True:
            wait = 60 - (self._kraken_now() - _AFTER_MINUTE) % 60
            # Kraken's time may become known while we wait.
            await asyncio.sleep(min(wait, _LONGEST_SLEEP))
            if wait <= _LONGEST_SLEEP:
                await self.look()

    async def look(self) -> None:
        """Audit once, as many symbols as are due."""
        carriers = self._due()
        if not carriers:
            return
        doubts = {symbol: doubt for feed in self._feeds() for symbol, doubt in feed.doubts().items()}
        found: list[Snapshot] = []

        async def take(item: Found) -> None:
            if isinstance(item, Snapshot):
                found.append(item)

        self._metrics.connects.labels("audit").inc()
        try:
            await fetch_snapshots(self._kraken, carriers, Timeframe.M1, Urgency.CHECK, take)
        except ConnectionLost as lost:
            log.debug("audit.incomplete", reason=lost.reason, symbols=len(carriers), found=len(found))
        for snapshot in found:
            self._looked_at[snapshot.symbol] = asyncio.get_running_loop().time()
        suspects = [snapshot for snapshot in found if self._differs(carriers[snapshot.symbol], snapshot)]
        if suspects:
            # What has just traded may still be on its way on the live connection.
            await asyncio.sleep(_ON_ITS_WAY_SECONDS)
        for snapshot in suspects:
            await self._judge(carriers[snapshot.symbol], snapshot)
        for snapshot in found:
            feed, doubt = carriers[snapshot.symbol], doubts.get(snapshot.symbol)
            if doubt is not None and not self._behind(feed, snapshot):
                self._blindness.over(snapshot.symbol)
                feed.explain(doubt)

    def _due(self) -> dict[str, Feed]:
        now = asyncio.get_running_loop().time()
        silence = {symbol: (seconds, feed) for feed in self._feeds() for symbol, seconds in feed.silence().items()}
        self._looked_at = {symbol: at for symbol, at in self._looked_at.items() if symbol in silence}

        doubted = {symbol for feed in self._feeds() for symbol in feed.doubts()}

        def turn(symbol: str) -> tuple[bool, float, bool]:
            # Whole minutes ago, so that among those looked at together the silent ones go first.
            waited = (self._looked_at.get(symbol, float("-inf")) - now) // 60
            return symbol not in doubted, waited, silence[symbol][0] < _SILENT_SECONDS

        return {symbol: silence[symbol][1] for symbol in sorted(silence, key=turn)[:AT_ONCE]}

    def _differs(self, feed: Feed, snapshot: Snapshot) -> bool:
        return self._missed(feed, snapshot) or self._behind(feed, snapshot)

    def _missed(self, feed: Feed, snapshot: Snapshot) -> bool:
        """Whether Kraken has more trades of a closed minute than the feed has seen."""
        return has_missed(feed.seen(snapshot.symbol), _told(snapshot), snapshot.taken - GRACE - Timeframe.M1.seconds)

    def _behind(self, feed: Feed, snapshot: Snapshot) -> bool:
        """Whether Kraken has newer trades than the feed has seen."""
        return is_behind(feed.seen(snapshot.symbol), _told(snapshot))

    async def _judge(self, feed: Feed, snapshot: Snapshot) -> None:
        missed, behind = self._missed(feed, snapshot), self._behind(feed, snapshot)
        if missed or behind:
            log.warning("symbol.missed-trades", feed=feed.name, symbol=snapshot.symbol, still_blind=behind)
            self._metrics.missed.inc()
            history = snapshot_history(snapshot.symbol, Timeframe.M1, snapshot.rows, snapshot.taken, snapshot.at)
            try:
                await self._outlet.history(history)
            except BusStalledError as error:
                log.warning("audit.unheard", symbol=snapshot.symbol, detail=str(error))
        if behind:
            self._blindness.found(feed, snapshot.symbol, max(_told(snapshot).items()))


def _told(snapshot: Snapshot) -> dict[int, int]:
    return {row.open_time: row.trades for row in snapshot.rows}
