"""The program of a live connection: subscribe, publish what is received, publish watermarks."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from ingress_common.logs import get_logger
from ingress_common.model import Source, Watermark
from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken import protocol
from kraken_gateway.kraken.connection import Connection, ConnectionLost, Received
from kraken_gateway.kraken.protocol import IntervalRow
from kraken_gateway.live.coverage import Coverage, CoverageTracker, without
from kraken_gateway.live.inactivity import Inactivity
from kraken_gateway.live.stale import SeenTrades
from kraken_gateway.live.subscriptions import Subscribe, Subscriptions
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher, snapshot_history

_M1 = Timeframe.M1.minutes
_MINUTE = Timeframe.M1.seconds
_MOST_MINUTES = 60

log = get_logger(__name__)


class LiveStream:
    """One live connection, from the first subscribe to its end. `run` ends with ConnectionLost, never by itself.

    `announce` publishes a changed coverage, on the same bus as the updates. `since_after`: no coverage may begin before
    that (unix seconds).

    At a minute's end suspect symbols are excluded: left out of the coverage before the watermark passes the end, so
    that no minute counts as empty whose updates may not have been received. They return with a new snapshot once they
    are verified.
    """

    def __init__(
        self,
        feed: str,
        connection: Connection,
        publisher: Publisher,
        metrics: GatewayMetrics,
        announce: Callable[[Coverage], Awaitable[None]],
        since_after: float,
        inactivity: Inactivity,
    ) -> None:
        self._feed = feed
        self._connection = connection
        self._publisher = publisher
        self._metrics = metrics
        self._announce = announce
        self._inactivity = inactivity
        self._steady = asyncio.get_running_loop().time
        self._subscriptions = Subscriptions()
        self._tracker = CoverageTracker(since_after)
        self._seen = SeenTrades()
        self._excluded: set[str] = set()
        self._trades: dict[int, dict[str, int]] = {}  # by minute and symbol: the most that an update has stated
        self._updates: dict[str, tuple[int, int]] = {}  # since the last watermark: minute and trades of the last one
        self._covered_version = -1
        self._processed = self._updated = self._steady()
        self._transit = 0.0
        self._ending: str | None = None
        self._begun: float | None = None
        inactivity.begin()

    # --- seen from outside ---

    @property
    def watermark(self) -> float | None:
        """The last watermark published (unix seconds), None before the first."""
        return self._tracker.watermark if self._tracker.watermark > float("-inf") else None

    @property
    def lag(self) -> float:
        """Age in seconds of the oldest frame that is not yet published, from when Kraken sent it."""
        return self._connection.lag + self._transit

    @property
    def backlog(self) -> int:
        """Frames received and not yet published."""
        return self._connection.backlog

    @property
    def caught_up(self) -> bool:
        """Whether everything received has been published."""
        return self._connection.caught_up

    @property
    def processed_until(self) -> float:
        """When the last frame that is completely published was received (steady seconds)."""
        return self._processed

    @property
    def without_updates_for(self) -> float:
        """Seconds from the last update of any symbol to the last processed frame."""
        return self._processed - self._updated

    @property
    def excluded(self) -> frozenset[str]:
        """The symbols that are left out of the coverage until they are verified."""
        return frozenset(self._excluded)

    def want(self, symbols: Collection[str], rejected: Mapping[str, tuple[str, float]]) -> None:
        """Carry `symbols` from now on."""
        self._subscriptions.want(symbols, rejected, self._steady())
        self._excluded &= set(symbols)
        self._covered_version = -1
        self._connection.wake()

    def rejected(self) -> dict[str, tuple[str, float]]:
        """Kraken's reason for each rejected symbol, and when to retry it (steady seconds)."""
        return self._subscriptions.rejected()

    def end(self, reason: str) -> None:
        """End the connection."""
        self._ending = reason
        self._connection.wake()

    def retry(self, symbols: Collection[str]) -> None:
        """Resubscribe those of `symbols` that Kraken has rejected."""
        self._subscriptions.retry(symbols, self._steady())

    def inactive_for(self) -> dict[str, float]:
        """Seconds since the last update of each symbol that is covered or excluded."""
        return {symbol: self._inactivity.since(symbol, self._processed) for symbol in self._followed()}

    def suspects(self) -> dict[str, float]:
        """How unusual the inactivity is (1 and more) of each suspect symbol, and of the excluded ones.

        Measured up to the last frame that was processed: neither a backlog nor a silent connection makes single symbols
        suspect.
        """
        found = {}
        for symbol in self._followed():
            unusual = self._inactivity.likelihood(symbol, self._processed)
            if unusual >= 1 or symbol in self._excluded:
                found[symbol] = unusual
        return found

    def unusual(self, symbol: str) -> float:
        """How unusual the inactivity of `symbol` is."""
        return self._inactivity.likelihood(symbol, self._processed)

    def is_live(self, symbol: str) -> bool:
        """Whether `symbol` is subscribed and has its snapshot."""
        return self._subscriptions.is_live(symbol)

    def seen(self, symbol: str) -> Mapping[int, int]:
        """Trades of the latest minutes of `symbol`, by open time (unix seconds)."""
        return self._seen.of(symbol)

    def published(self, symbol: str, trades: Mapping[int, int]) -> None:
        """Note that minutes of `symbol` were published from a reading, with these trade counts by open time."""
        for minute, count in trades.items():
            self._seen.note(symbol, minute, count)

    def verified(self, symbol: str) -> None:
        """Note that by a reading all updates of `symbol` were received."""
        self._inactivity.verified(symbol, self._processed)
        if symbol in self._excluded:
            self._excluded.discard(symbol)
            # Coverage begins with a snapshot, for subscribers that arrived meanwhile.
            self.resubscribe(symbol)

    def resubscribe(self, symbol: str) -> None:
        """End the subscription of `symbol` and make a new one; the other symbols are not touched."""
        self._subscriptions.resubscribe(symbol, self._steady())
        self._excluded.discard(symbol)
        self._connection.wake()

    def _followed(self) -> list[str]:
        coverage = self._tracker.coverage
        return [*(coverage.symbols if coverage else ()), *self._excluded]

    # --- the connection's life ---

    async def run(self) -> None:
        """Subscribe, publish what is received, publish watermarks."""
        connection = self._connection
        while True:
            await self._send_due()
            await connection.wait(self._wake_at())
            if self._ending:
                raise ConnectionLost(self._ending, f"ended: {self._ending}")
            for received in connection.receive():
                if received.interrupted and connection.has_worked:
                    raise ConnectionLost("interrupted", "frames of some seconds are missing")
                await self._take(received)
            await self._publish_coverage()

    async def _send_due(self) -> None:
        now = self._steady()
        if now < self._connection.next_send or not self._connection.may_subscribe():
            return
        if self._subscriptions.all_rejected():
            raise ConnectionLost("rejected", "Kraken rejects every symbol of this feed")
        request = self._subscriptions.next_request(now)
        if request is None:
            return
        req_id = self._connection.next_id()
        # Before sending, so that a response always finds its request.
        self._subscriptions.sent(request, req_id, now)
        params = protocol.candles(request.symbols, Timeframe.M1)
        if isinstance(request, Subscribe):
            if self._begun is None:
                self._begun = self._connection.time.at(now)
            await self._connection.subscribe(params, req_id)
        else:
            await self._connection.unsubscribe(params, req_id)

    def _wake_at(self) -> float:
        now = self._steady()
        due = self._subscriptions.next_due() if self._connection.may_subscribe() else now + 0.25
        return max(due, self._connection.next_send)

    # --- frames ---

    async def _take(self, received: Received) -> None:
        frame = received.frame
        match frame:
            case protocol.OhlcFrame():
                await self._take_candles(frame, received)
            case protocol.Heartbeat():
                self._transit = 0.0
            case protocol.Ack():
                if frame.symbol is not None and frame.channel in ("ohlc", None):
                    self._subscriptions.on_ack(frame.symbol, frame.method, self._steady())
            case protocol.Refusal():
                self._take_refusal(frame)
            case protocol.RateExceeded():
                self._subscriptions.on_rate_exceeded(self._steady())
            case protocol.Unreadable():
                await self._publisher.dead_letter(received.payload, frame.reason, received.at)
                if frame.may_be_data:
                    raise ConnectionLost("unreadable", f"candles may be lost: {frame.reason}")
            case _:
                pass
        self._processed = received.steady
        self._tracker.processed(received, in_order=self._connection.in_order)

    async def _take_candles(self, frame: protocol.OhlcFrame, received: Received) -> None:
        for bad in frame.bad:
            await self._publisher.dead_letter(received.payload, bad.reason, received.at)
            if not bad.lost:
                continue
            if bad.symbol is None:
                raise ConnectionLost("unreadable", f"candles of an unknown symbol are lost: {bad.reason}")
            self._subscriptions.on_broken(bad.symbol, self._steady())
        rows = frame.rows
        if not all(map(self._is_ours, rows)):
            for row in rows:
                await self._refuse_stray(row, received)
            rows = tuple(filter(self._is_ours, rows))
        if frame.snapshot:
            await self._publish_snapshots(frame, rows, received)
            return
        for row in rows:
            candle = row.candle(Source.WS, closed=False, at=received.at)
            if self._seen.note(row.symbol, candle.open_time, candle.trades):
                self._inactivity.updated(row.symbol, received.steady)
            await self._publisher.tick(candle)
            minute = self._trades.setdefault(candle.open_time, {})
            minute[row.symbol] = max(candle.trades, minute.get(row.symbol, 0))
            self._updates[row.symbol] = (candle.open_time, minute[row.symbol])
            if len(self._trades) > _MOST_MINUTES:
                del self._trades[min(self._trades)]
            self._subscriptions.on_update(row.symbol, received.steady)
        self._updated = received.steady
        if frame.timestamp is not None:
            self._transit = max(0.0, received.at - frame.timestamp)
        self._metrics.ticks.inc(len(rows))

    def _is_ours(self, row: IntervalRow) -> bool:
        return row.interval == _M1 and self._subscriptions.carries(row.symbol)

    async def _refuse_stray(self, row: IntervalRow, received: Received) -> None:
        if self._is_ours(row):
            return
        if row.interval == _M1 and self._subscriptions.has_left(row.symbol):
            self._metrics.stray_rows.inc()
            return
        reason = f"expected 1m rows of subscribed symbols, got {row.timeframe.value} of {row.symbol}"
        await self._publisher.dead_letter(received.payload, reason, received.at)

    async def _publish_snapshots(
        self, frame: protocol.OhlcFrame, rows: Sequence[IntervalRow], received: Received
    ) -> None:
        broken = {bad.symbol for bad in frame.bad if bad.lost}
        # A snapshot holds the state of the time at which it was made, not received.
        taken = received.at if frame.timestamp is None else min(received.at, frame.timestamp)
        by_symbol: dict[str, list[IntervalRow]] = {}
        for row in rows:
            by_symbol.setdefault(row.symbol, []).append(row)
        for symbol, its_rows in by_symbol.items():
            news = [self._seen.note(symbol, row.open_time, row.trades) for row in its_rows]
            if any(news):
                # A snapshot without news does not end the inactivity.
                self._inactivity.updated(symbol, received.steady)
            if symbol in broken:
                continue
            self._connection.worked()
            history = snapshot_history(symbol, Timeframe.M1, its_rows, taken, received.at)
            await self._publisher.history(history)
            self._subscriptions.on_snapshot(symbol, history.covers.start)

    def _take_refusal(self, frame: protocol.Refusal) -> None:
        rejected = self._subscriptions.on_refusal(frame.req_id, frame.symbol, frame.error, self._steady())
        if rejected:
            self._connection.worked()
        for symbol in rejected:
            log.warning("symbol.rejected", feed=self._feed, symbol=symbol, reason=frame.error)
        if not rejected:
            log.info("kraken.refusal", feed=self._feed, symbol=frame.symbol, error=frame.error)

    # --- coverage ---

    async def _publish_coverage(self) -> None:
        """Publish the coverage, and up to when it reaches."""
        await self._update_coverage()
        reach = self._tracker.advance(self._steady(), caught_up=self._connection.caught_up)
        if reach is None:
            return
        if reach.ends_minute and self._exclude_suspects():
            await self._update_coverage()
        over = [minute for minute in self._trades if reach.ends_minute and minute + _MINUTE <= reach.watermark]
        trades = {minute: self._trades.pop(minute) for minute in over}
        for symbol, (minute, count) in self._updates.items():
            trades.setdefault(minute, {})[symbol] = count
        self._updates.clear()
        await self._publisher.watermark(Watermark(self._feed, reach.watermark, reach.at), trades)
        await self._publisher.dead_letter_refused()

    def _exclude_suspects(self) -> bool:
        """Exclude the suspect symbols; returns whether there are new ones."""
        suspects = self.suspects()
        new = suspects.keys() - self._excluded
        for symbol in sorted(new):
            log.info("symbol.excluded", feed=self._feed, symbol=symbol, unusual=round(suspects[symbol], 1))
        self._excluded |= new
        self._covered_version = -1
        return bool(new)

    async def _update_coverage(self) -> None:
        version = self._subscriptions.version
        if version == self._covered_version or self._begun is None:
            return
        live = without(self._subscriptions.live(), self._excluded)
        rejected = {symbol: reason for symbol, (reason, _) in self._subscriptions.rejected().items()}
        now = self._steady()
        coverage = self._tracker.cover(live, rejected, self._begun, now)
        if coverage is not None:
            self._covered_version = version
            await self._announce(coverage)
        elif self._tracker.covers(live, rejected):
            self._covered_version = version
