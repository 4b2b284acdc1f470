"""The detector of stale subscriptions: an independent reading, then for each symbol a verdict and the recovery.

Heartbeats prove that a connection works, not that each symbol on it does. An update that was never sent leaves no trace
on its own connection.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ingress_common.backoff import Backoff
from ingress_common.logs import get_logger
from ingress_common.model import GRACE, History, Range
from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.responses import ohlc_history
from kraken_gateway.backfill.snapshots import Reading, Snapshot, SnapshotConnection
from kraken_gateway.kraken.rest import KrakenRest, RestError, UnknownPairError
from kraken_gateway.live.feed import Feed
from kraken_gateway.live.stale import has_missed, is_behind, newest
from kraken_gateway.live.stream import LiveStream
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher, snapshot_history

AUDITED = 300
"""Symbols that are read after each minute, beside the suspects; more of them take turns."""

RESTART = Backoff(60.0, 600.0)
"""The pauses between two moves of the same symbol, and between two restarts of the same feed."""

_LOOK_SECONDS = 0.25
_AFTER_MINUTE = 4.0
_MOST_AT_ONCE = 400
_SNAPSHOT_PATIENCE = 0.7
_READING_SECONDS = 4.0
_ON_ITS_WAY_SECONDS = 0.8
_PASSED_SECONDS = 3.0
_RETRY_SECONDS = 10.0
_BEHIND_SECONDS = 1.0
_RECOVERY_SECONDS = 6.0
_FORGIVEN_SECONDS = 1200.0
_SILENT_FEED = (4.0, 3)
"""A feed on which no symbol has had an update for so many seconds, while so many are suspect, is stale as a whole."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Minutes read independently of the feed: `received` (steady seconds), `taken` in Kraken's time."""

    trades: Mapping[int, int]
    history: History
    taken: float
    received: float


@dataclass(slots=True)
class _Stale:
    """A subscription that was found stale `at` (steady seconds), the `tries`-th time in a row.

    `newest`: the newest minute published of it since; `moved_at`, `moves`: when it was moved last, and how often.
    """

    at: float
    newest: tuple[int, int]
    tries: int = 1
    recovered: bool = False
    moved_at: float = float("-inf")
    moves: int = 0

    def may_move(self, now: float) -> bool:
        """Whether the pause since the last move is over."""
        return now - self.moved_at >= RESTART.pause(max(self.moves - 1, 0))


class StaleDetector:
    """Verifies suspect symbols at once, and all symbols in turns after each minute, until each has been read.

    A subscription is stale when a reading (a snapshot, else REST) has trades that the live feed has not received,
    although everything received has been processed: a feed that is behind is not judged. Then the symbol is
    resubscribed; if that fails it is moved to another connection (`move`). Only a connection without any updates is
    restarted.
    A reading with news is published. `kraken_now` is Kraken's time (unix seconds).
    """

    def __init__(
        self,
        feeds: Callable[[], Collection[Feed]],
        snapshots: SnapshotConnection,
        rest: KrakenRest,
        publisher: Publisher,
        metrics: GatewayMetrics,
        move: Callable[[str], None],
        kraken_now: Callable[[], float],
    ) -> None:
        self._feeds = feeds
        self._snapshots = snapshots
        self._rest = rest
        self._publisher = publisher
        self._metrics = metrics
        self._move = move
        self._kraken_now = kraken_now
        self._steady = asyncio.get_running_loop().time
        self._verifying: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._verified_at: dict[str, float] = {}
        self._stale: dict[str, _Stale] = {}
        self._restarted: dict[str, tuple[float, int]] = {}
        self._audited = float("-inf")  # the end of the minute after which symbols were last chosen
        self._unaudited: set[str] = set()

    @property
    def stale(self) -> frozenset[str]:
        """The symbols whose subscription is stale at present."""
        return frozenset(symbol for symbol, stale in self._stale.items() if not stale.recovered)

    def keep(self, symbols: Collection[str]) -> None:
        """Forget every symbol but `symbols`."""
        for known in (self._stale, self._not_before, self._verified_at):
            for symbol in known.keys() - set(symbols):
                del known[symbol]
        self._unaudited &= set(symbols)

    async def run(self) -> None:
        """Detect until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._follow_recoveries()
                for symbol, feed in self._due().items():
                    self._verifying.add(symbol)
                    tasks.create_task(self._verify(symbol, feed), name=f"verify.{symbol}")
                await asyncio.sleep(_LOOK_SECONDS)

    # --- what is to be read ---

    def _due(self) -> dict[str, Feed]:
        """The symbols to verify now: the suspects, those that are still stale, after a minute the others in turns."""
        if self._audit_is_due():
            self._unaudited |= self._next_in_turn()
        now = self._steady()
        due: dict[str, Feed] = {}
        for feed in self._feeds():
            stream = feed.stream
            if stream is None or not stream.caught_up:
                continue
            lasting = {symbol for symbol in self.stale if symbol in feed.wanted and not stream.is_live(symbol)}
            due |= dict.fromkeys({*stream.suspects(), *lasting, *(self._unaudited & feed.wanted)}, feed)
        room = _MOST_AT_ONCE - len(self._verifying)
        ready = [s for s in due if s not in self._verifying and self._not_before.get(s, now) <= now]
        return {symbol: due[symbol] for symbol in ready[: max(0, room)]}

    def _audit_is_due(self) -> bool:
        minute = Timeframe.M1.floor(self._kraken_now() - _AFTER_MINUTE)
        if minute <= self._audited:
            return False
        first, self._audited = self._audited == float("-inf"), minute
        return not first

    def _next_in_turn(self) -> set[str]:
        """The symbols to read after this minute, also of a feed that is behind: the longest unread first, then the most
        unusual.
        """
        followed = [
            (self._verified_at.get(symbol, 0.0) // 60, -stream.unusual(symbol), symbol)
            for feed in self._feeds()
            if (stream := feed.stream)
            for symbol in stream.inactive_for()
        ]
        return {symbol for _, _, symbol in sorted(followed)[:AUDITED]}

    async def _verify(self, symbol: str, feed: Feed) -> None:
        stream = feed.stream
        try:
            if stream is None:
                return
            reading = await self._read(symbol, urgent=stream.unusual(symbol) >= 1 or symbol in self._stale)
            if reading is None:
                self._put_off(symbol, _RETRY_SECONDS, "unread")
            else:
                await self._judge(symbol, feed, stream, reading)
        finally:
            self._verifying.discard(symbol)

    async def _read(self, symbol: str, *, urgent: bool) -> _Reading | None:
        """Kraken's last minutes of `symbol`, by snapshot or REST; None if both fail."""
        snapshot = self._snapshots.read(symbol, urgent=urgent)
        reading = await self._snapshot(snapshot, _SNAPSHOT_PATIENCE if urgent else _READING_SECONDS)
        if reading is None:
            # Both connections may be affected; REST has another back end.
            reading = await self._rest_reading(symbol) or await self._snapshot(snapshot, _READING_SECONDS)
        return reading

    async def _snapshot(self, snapshot: asyncio.Future[Reading], seconds: float) -> _Reading | None:
        await asyncio.wait([snapshot], timeout=seconds)
        if not snapshot.done() or snapshot.cancelled():
            return None
        result = snapshot.result()
        if not isinstance(result, Snapshot) or not result.rows:
            return None
        history = snapshot_history(result.symbol, Timeframe.M1, result.rows, result.taken, result.at)
        return self._reading(history, result.taken)

    async def _rest_reading(self, symbol: str) -> _Reading | None:
        taken = self._kraken_now()
        start = Timeframe.M1.floor(taken) - 10 * Timeframe.M1.seconds
        try:
            rows = await self._rest.ohlc(await self._rest.pair(symbol), Timeframe.M1, start - 1)
        except (RestError, UnknownPairError) as error:
            log.info("verification.no-rest", symbol=symbol, error=str(error))
            return None
        if not rows or rows[-1].open_time < Timeframe.M1.floor(taken):
            return None  # older than the present minute, so it proves nothing
        return self._reading(ohlc_history(symbol, Timeframe.M1, rows, Range(start, taken), taken), taken)

    def _reading(self, history: History, taken: float) -> _Reading:
        trades = {candle.open_time: candle.trades for candle in history.candles if candle.trades}
        return _Reading(trades, history, taken, self._steady())

    # --- verdict ---

    async def _judge(self, symbol: str, feed: Feed, stream: LiveStream, reading: _Reading) -> None:
        if self._differs(symbol, stream, reading) and not await self._has_passed(feed, stream, reading):
            self._put_off(symbol, _BEHIND_SECONDS, "behind")
            return
        if reading.taken - GRACE >= self._audited:
            # Whatever the verdict, the minute after which it was to be read has been compared.
            self._unaudited.discard(symbol)
        seen = stream.seen(symbol)
        behind = is_behind(seen, reading.trades)
        missed = has_missed(seen, reading.trades, reading.taken - GRACE - Timeframe.M1.seconds)
        stale = self._stale.get(symbol)
        unpublished = stale is not None and not stale.recovered and newest(reading.trades) > stale.newest
        if behind or missed or unpublished:
            await self._publisher.history(reading.history)
            stream.published(symbol, reading.trades)
        if behind or missed:
            log.warning("symbol.missed-trades", feed=feed.name, symbol=symbol, stale=behind)
            self._metrics.missed.inc()
        if stale is not None:
            stale.newest = max(stale.newest, newest(reading.trades))
        if not stream.is_live(symbol):
            # Its subscription is already being renewed.
            self._put_off(symbol, _RETRY_SECONDS, "not-live")
        elif behind:
            self._put_off(symbol, _RETRY_SECONDS, "stale")
            self._found_stale(symbol, feed, stream, newest(reading.trades))
        elif newest(reading.trades) < newest(seen):
            # It is older than what the feed has received, so it proves nothing.
            self._put_off(symbol, _RETRY_SECONDS, "older")
        else:
            self._put_off(symbol, 0.0, "agreed")
            self._verified_at[symbol] = self._steady()
            stream.verified(symbol)

    def _differs(self, symbol: str, stream: LiveStream, reading: _Reading) -> bool:
        seen = stream.seen(symbol)
        closed = reading.taken - GRACE - Timeframe.M1.seconds
        return is_behind(seen, reading.trades) or has_missed(seen, reading.trades, closed)

    async def _has_passed(self, feed: Feed, stream: LiveStream, reading: _Reading) -> bool:
        """Wait until the stream is past the moment of the reading and has processed everything received. Returns
        whether it is.
        """
        deadline = reading.received + _PASSED_SECONDS
        await asyncio.sleep(_ON_ITS_WAY_SECONDS)
        while self._steady() < deadline:
            if feed.stream is not stream:
                return False
            if stream.caught_up and stream.processed_until > reading.received:
                return True
            await asyncio.sleep(0.05)
        return False

    def _put_off(self, symbol: str, seconds: float, outcome: str) -> None:
        self._metrics.verifications.labels(outcome).inc()
        self._not_before[symbol] = self._steady() + seconds

    # --- recovery ---

    def _found_stale(self, symbol: str, feed: Feed, stream: LiveStream, known: tuple[int, int]) -> None:
        now = self._steady()
        self._metrics.stale_found.inc()
        stale = self._stale.get(symbol)
        if stale is None or now - stale.at > _FORGIVEN_SECONDS:
            stale = self._stale[symbol] = _Stale(now, known)
        else:
            stale.at, stale.tries, stale.recovered = now, stale.tries + 1, False
        log.warning("subscription.stale", feed=feed.name, symbol=symbol, tries=stale.tries)
        seconds, many = _SILENT_FEED
        if stream.without_updates_for > seconds and len(stream.suspects()) >= many and self._restart(feed):
            return
        if stale.tries == 1:
            stream.resubscribe(symbol)
        else:
            self._move_or_resubscribe(symbol, stale, stream)

    def _restart(self, feed: Feed) -> bool:
        """Restart `feed` unless it was restarted recently; returns whether it is restarted."""
        now = self._steady()
        at, restarts = self._restarted.get(feed.name, (float("-inf"), 0))
        if now - at < RESTART.pause(restarts):
            return False
        self._restarted[feed.name] = (now, 0 if now - at > _FORGIVEN_SECONDS else restarts + 1)
        feed.restart("stale")
        return True

    def _move_or_resubscribe(self, symbol: str, stale: _Stale, stream: LiveStream) -> None:
        now = self._steady()
        if not stale.may_move(now):
            stream.resubscribe(symbol)
            return
        stale.moves += 1
        stale.at = stale.moved_at = now
        log.warning("subscription.moved", symbol=symbol)
        self._move(symbol)

    def _follow_recoveries(self) -> None:
        """Mark a subscription as recovered once it is live; move one that stays stale."""
        now = self._steady()
        streams = {symbol: feed.stream for feed in self._feeds() for symbol in feed.wanted & self._stale.keys()}
        for symbol, stale in self._stale.items():
            stream = streams.get(symbol)
            if stale.recovered or stream is None:
                continue
            if stream.is_live(symbol) and now > stale.at:
                stale.recovered = True
                log.info("subscription.recovered", symbol=symbol, seconds=round(now - stale.at, 1))
            elif now - stale.at > _RECOVERY_SECONDS and stale.may_move(now):
                self._move_or_resubscribe(symbol, stale, stream)
