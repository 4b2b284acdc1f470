"""One live connection: from the first subscribe to the moment it is lost.

What it claims about its symbols is decided here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from ingress_common.logs import get_logger
from ingress_common.model import GRACE, Watermark
from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken import protocol
from kraken_gateway.kraken.connection import SILENCE, Connection, ConnectionLost, Received
from kraken_gateway.kraken.kraken_time import KrakenTime
from kraken_gateway.kraken.protocol import Row
from kraken_gateway.live.quiet import Doubt, Quiet
from kraken_gateway.live.subscriptions import Subscribe, Subscriptions
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import Outlet, snapshot_history

_STATUS_SECONDS = 2.0
_PING_SECONDS = 20.0
_IDLE_PING_SECONDS = 5.0
_UNANSWERED_SECONDS = 30.0
_WATERMARK_SECONDS = 0.75
_HEARTBEAT_SECONDS = 1.0
_STALL = _HEARTBEAT_SECONDS + GRACE
_AFTER_STALL = 0.5
_STAMP_SLACK = 1.0
_GROWTH_SECONDS = 0.25
_MINUTES_SEEN = 20

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a live feed speaks for: `symbols`, from `since` (unix seconds, Kraken's time) on; whom Kraken refuses."""

    since: float
    symbols: tuple[str, ...]
    rejected: Mapping[str, str]


class Session:
    """The state machine of one live connection. `run` ends with ConnectionLost (or BusStalledError), never by itself.

    `announce` publishes a changed claim, on the same bus as the ticks. `since_after`: no claim may begin before that
    (unix seconds). `quiet`: what is known of its symbols' habits.

    At a minute's end a symbol that is in doubt is withheld: left out of the claim before the watermark passes the end,
    so that nobody takes a minute for empty which may only not have been heard. It comes back with a new snapshot when
    the doubt is over.
    """

    def __init__(
        self,
        feed: str,
        connection: Connection,
        outlet: Outlet,
        metrics: GatewayMetrics,
        announce: Callable[[Claim], Awaitable[None]],
        since_after: float,
        quiet: Quiet,
        silence: float = SILENCE,
    ) -> None:
        self._feed = feed
        self._connection = connection
        self._outlet = outlet
        self._metrics = metrics
        self._announce = announce
        self._since_after = since_after
        self._silence = silence
        self._quiet = quiet
        self._steady = asyncio.get_running_loop().time
        self._time = KrakenTime(connection.time.offset)
        self._subscriptions = Subscriptions()
        self._system: str | None = None
        self._begun: tuple[float, float] | None = None
        self._next_ping = self._steady()
        self._claim: Claim | None = None
        self._claimed_at = float("-inf")
        self._heard: Received | None = None
        self._heard_stamp: tuple[float, Received] | None = None
        self._hold_until = 0.0
        self._last_arrival = self._steady()
        self._watermark = float("-inf")
        self._watermark_at = float("-inf")
        self._stamped = float("-inf")
        self._ending: str | None = None
        self._seen: dict[str, dict[int, int]] = {}
        self._withheld: set[str] = set()
        quiet.begin()

    # --- seen from outside ---

    @property
    def live(self) -> bool:
        """Whether it speaks for any symbol."""
        return self._claim is not None

    @property
    def watermark(self) -> float | None:
        """The last watermark published (unix seconds), None before the first."""
        return self._watermark if self._watermark > float("-inf") else None

    @property
    def in_maintenance(self) -> bool:
        """Whether Kraken's engine is in maintenance, so that nothing is subscribed."""
        return self._system == "maintenance"

    def want(self, symbols: Collection[str], rejected: Mapping[str, tuple[str, float]]) -> None:
        """Make `symbols` the ones wanted."""
        self._subscriptions.want(symbols, rejected, self._steady())
        self._withheld &= set(symbols)

    def rejected(self) -> dict[str, tuple[str, float]]:
        """Kraken's reason for each refused symbol, and when to try again (steady seconds)."""
        return self._subscriptions.rejected()

    def end(self, reason: str) -> None:
        """Have the connection given up at the next frame."""
        self._ending = reason

    def retry(self, symbols: Collection[str]) -> None:
        """Ask again for those of `symbols` that were refused."""
        self._subscriptions.retry(symbols, self._steady())

    def silence(self) -> dict[str, float]:
        """Seconds since the last row of each symbol that is spoken for or withheld."""
        now = self._steady()
        return {symbol: self._quiet.silence(symbol, now) for symbol in self._spoken_for()}

    @property
    def withheld(self) -> frozenset[str]:
        """The symbols that are left out because of a doubt."""
        return frozenset(self._withheld)

    def doubts(self) -> dict[str, Doubt]:
        """The symbols that are in doubt, and those that are withheld until it was checked that nothing was missed."""
        found = {}
        for symbol in self._spoken_for():
            # Of what did not come while nothing at all came no single symbol is to blame.
            doubt = self._quiet.doubt(symbol, self._last_arrival)
            if doubt is None and symbol in self._withheld:
                silence = self._quiet.silence(symbol, self._last_arrival)
                doubt = Doubt(symbol, self._last_arrival - silence, silence)
            if doubt is not None:
                found[symbol] = doubt
        return found

    def explain(self, doubt: Doubt) -> None:
        """It was checked that the connection has had everything of a symbol in doubt."""
        self._quiet.explained(doubt)
        if doubt.symbol in self._withheld:
            self._withheld.discard(doubt.symbol)
            # A claim begins with a snapshot, whoever has come to listen meanwhile.
            self._subscriptions.renew(doubt.symbol, self._steady())

    def _spoken_for(self) -> list[str]:
        return [*(self._claim.symbols if self._claim else ()), *self._withheld]

    def seen(self, symbol: str) -> Mapping[int, int]:
        """Trades of the latest minutes of `symbol`, by open time (unix seconds)."""
        return self._seen.get(symbol, {})

    # --- the connection's life ---

    async def run(self) -> None:
        """Subscribe, publish what comes, claim what is sure."""
        while True:
            await self._send_due()
            received = await self._connection.receive(self._wake_at())
            if self._ending:
                raise ConnectionLost(self._ending, f"given up: {self._ending}")
            if received is not None:
                await self._take(received)
            self._check_life()
            if await self._connection.drained():
                await self._settle()

    def _may_subscribe(self, now: float) -> bool:
        if self.in_maintenance:
            return False
        return self._system is not None or now >= self._connection.opened + _STATUS_SECONDS

    async def _send_due(self) -> None:
        now = self._steady()
        if now < self._connection.next_send:
            return
        if now >= self._next_ping:
            await self._connection.send(protocol.ping(self._connection.next_id()))
            idle = not self._subscriptions.any_acked()
            self._next_ping = now + (_IDLE_PING_SECONDS if idle else _PING_SECONDS)
            return
        if not self._may_subscribe(now):
            return
        if self._subscriptions.all_rejected():
            raise ConnectionLost("rejected", "Kraken rejects every symbol of this feed")
        request = self._subscriptions.next_request(now)
        if request is None:
            return
        req_id = self._connection.next_id()
        if isinstance(request, Subscribe):
            if self._begun is None:
                self._begun = (self._steady(), self._connection.time.wall())
            text = protocol.subscribe_candles(request.symbols, Timeframe.M1, req_id)
        else:
            text = protocol.unsubscribe_candles(request.symbols, Timeframe.M1, req_id)
        # Before the send, so that an answer never finds its question missing.
        self._subscriptions.sent(request, req_id, now)
        await self._connection.send(text)

    def _wake_at(self) -> float:
        now = self._steady()
        wishes = [self._next_ping]
        if self._may_subscribe(now):
            wishes.append(self._subscriptions.next_due())
        elif self._system is None:
            wishes.append(self._connection.opened + _STATUS_SECONDS)
        send = max(min(wishes), self._connection.next_send)
        hold = self._hold_until if self._hold_until > now else float("inf")
        return min(send, hold, self._connection.last_arrival + self._silence)

    def _check_life(self) -> None:
        now = self._steady()
        if now - self._connection.last_arrival >= self._silence:
            raise ConnectionLost("silent", f"no frame for {self._silence:.0f} s")
        if self._begun and now - self._begun[0] > _UNANSWERED_SECONDS and not self._subscriptions.any_acked():
            raise ConnectionLost("unanswered", f"no subscription was answered within {_UNANSWERED_SECONDS:.0f} s")

    # --- frames ---

    async def _take(self, received: Received) -> None:
        if received.steady - self._last_arrival > _STALL:
            # A heartbeat does not say when it was made. One that took longer than the grace would speak for what is
            # still behind it: what was held up comes in a burst, and the rest of it is waited for.
            self._hold_until = received.steady + _AFTER_STALL
        self._last_arrival = received.steady
        frame = protocol.parse_frame(received.frame)
        self._metrics.frames.labels(type(frame).__name__.lower()).inc()
        stamp: float | None = None
        match frame:
            case protocol.Candles():
                stamp = frame.timestamp
                await self._take_candles(frame, received)
            case protocol.Pong():
                self._observe(frame.time, received)
            case protocol.Ack():
                self._observe(frame.time, received)
                if frame.symbol is not None and frame.channel in ("ohlc", None):
                    self._subscriptions.on_ack(frame.symbol, frame.method, self._steady())
            case protocol.Refusal():
                self._observe(frame.time, received)
                self._take_refusal(frame)
            case protocol.RateExceeded():
                log.warning("kraken.rate-exceeded", feed=self._feed)
                self._connection.slow_down()
                self._subscriptions.on_ignored(self._steady())
            case protocol.SystemStatus():
                self._take_system(frame.system)
            case protocol.Unreadable():
                await self._dead_letter(received, frame.reason)
                if frame.may_be_data:
                    raise ConnectionLost("unreadable", f"candles may be lost: {frame.reason}")
            case _:
                pass
        self._hear(received, stamp)

    def _observe(self, stamp: float | None, received: Received) -> None:
        if stamp is None:
            return
        self._time.observe_reply(stamp, received.steady)
        self._connection.time.learn(self._feed, self._time.offset)
        self._metrics.skew.labels(self._feed).set(self._time.skew(received.steady, received.wall))

    def _at(self, received: Received) -> float:
        """When it was received, in Kraken's time (unix seconds)."""
        return self._time.at(received.steady, received.wall)

    def _hear(self, received: Received, stamp: float | None) -> None:
        if stamp is None:
            self._heard = received
        elif self._heard_stamp is None or stamp >= self._heard_stamp[0]:
            self._heard_stamp = (stamp, received)

    def _heard_until(self) -> tuple[float, float] | None:
        """Up to when all that Kraken sent is here, and when we knew (unix seconds, Kraken's time); None without
        news.
        """
        known: list[tuple[float, float]] = []
        if self._heard is not None:
            known.append((self._at(self._heard), self._at(self._heard)))
        if self._heard_stamp is not None:
            # A frame that was long on its way does not speak for the time that it took.
            stamp, received = self._heard_stamp
            known.append((min(self._at(received), stamp + _STAMP_SLACK), self._at(received)))
        return max(known, default=None)

    async def _take_candles(self, frame: protocol.Candles, received: Received) -> None:
        if frame.timestamp is not None and not frame.snapshot:
            self._time.observe_frame(frame.timestamp, received.steady)
            self._connection.time.learn(self._feed, self._time.offset)
        now = self._steady()
        for bad in frame.bad:
            await self._dead_letter(received, bad.reason)
            if not bad.lost:
                continue
            if bad.symbol is None:
                raise ConnectionLost("unreadable", f"candles of an unknown symbol are lost: {bad.reason}")
            self._subscriptions.on_broken(bad.symbol, now)
        broken = {bad.symbol for bad in frame.bad if bad.lost}
        rows: dict[str, list[Row]] = {}
        for row in frame.rows:
            if row.timeframe is not Timeframe.M1:
                await self._dead_letter(received, f"expected rows of 1m, got {row.timeframe.value}")
            elif self._subscriptions.carries(row.symbol):
                rows.setdefault(row.symbol, []).append(row)
            elif self._subscriptions.has_left(row.symbol):
                self._metrics.stray_rows.inc()
            else:
                await self._dead_letter(received, f"expected rows of subscribed symbols, got {row.symbol}")
        for symbol, its_rows in rows.items():
            self._note(symbol, its_rows, now)
            if not frame.snapshot:
                for row in its_rows:
                    await self._outlet.tick(row, self._at(received))
                self._subscriptions.on_update(symbol, now)
            elif symbol not in broken:
                await self._publish_snapshot(symbol, its_rows, frame, received)

    async def _publish_snapshot(
        self, symbol: str, rows: list[Row], frame: protocol.Candles, received: Received
    ) -> None:
        self._connection.worked()
        taken = self._at(received)
        if frame.timestamp is not None:
            # It speaks for the moment that it was made, not for that of its arrival.
            taken = min(taken, frame.timestamp)
        history = snapshot_history(symbol, Timeframe.M1, rows, taken, self._at(received))
        await self._outlet.history(history)
        self._subscriptions.on_snapshot(symbol, history.covers.start, self._steady())

    def _note(self, symbol: str, rows: list[Row], now: float) -> None:
        seen = self._seen.setdefault(symbol, {})
        known = max(seen.items(), default=(0, 0))
        for row in rows:
            seen[row.open_time] = max(row.trades, seen.get(row.open_time, 0))
        while len(seen) > _MINUTES_SEEN:
            del seen[min(seen)]
        if max(seen.items(), default=(0, 0)) > known:
            # A snapshot that tells nothing new ends no silence.
            self._quiet.heard(symbol, now)

    def _take_refusal(self, frame: protocol.Refusal) -> None:
        rejected = self._subscriptions.on_refusal(frame.req_id, frame.symbol, frame.error, self._steady())
        if rejected:
            self._connection.worked()
        for symbol in rejected:
            log.warning("symbol.rejected", feed=self._feed, symbol=symbol, reason=frame.error)
        if not rejected:
            log.info("kraken.refusal", feed=self._feed, symbol=frame.symbol, error=frame.error)

    def _take_system(self, system: str) -> None:
        if system != self._system:
            log.info("kraken.system", feed=self._feed, system=system)
        self._system = system
        if system == "maintenance" and self._begun is not None:
            raise ConnectionLost("maintenance", "Kraken is in maintenance")

    async def _dead_letter(self, received: Received, reason: str) -> None:
        payload = received.frame if isinstance(received.frame, bytes) else received.frame.encode()
        log.debug("frame.rejected", feed=self._feed, reason=reason)
        await self._outlet.dead_letter(payload, reason, self._at(received))

    # --- claims ---

    async def _settle(self) -> None:
        """Everything that has arrived is on the bus: publish what can be claimed now."""
        await self._settle_claim()
        heard = self._heard_until()
        if self._claim is None or heard is None or self._steady() < self._hold_until:
            return
        self._heard = self._heard_stamp = None
        instant, at = heard
        watermark = instant - GRACE
        before = max(self._watermark, self._claim.since)
        if watermark <= before:
            return
        now = self._steady()
        minute_over = Timeframe.M1.floor(watermark) > Timeframe.M1.floor(before)
        if minute_over or now - self._watermark_at >= _WATERMARK_SECONDS:
            if minute_over and self._withhold():
                await self._settle_claim()
            self._watermark, self._watermark_at = watermark, now
            # What Kraken's time is measured to be may shrink a little; what is stamped must not.
            self._stamped = max(self._stamped, at)
            await self._outlet.watermark(Watermark(self._feed, watermark, self._stamped))

    def _withhold(self) -> bool:
        """Withhold the symbols that are in doubt; whether there are new ones."""
        doubts = self.doubts()
        new = set(doubts) - self._withheld
        for symbol in sorted(new):
            log.info("symbol.withheld", feed=self._feed, symbol=symbol, silence=round(doubts[symbol].silence, 1))
        self._withheld |= new
        return bool(new)

    async def _settle_claim(self) -> None:
        ready = {s: oldest for s, oldest in self._subscriptions.ready().items() if s not in self._withheld}
        rejected = {symbol: reason for symbol, (reason, _) in self._subscriptions.rejected().items()}
        old = self._claim
        if old is None:
            if not ready or self._begun is None:
                return
            since = max(self._time.at(*self._begun), self._since_after)
            if all(oldest > since for oldest in ready.values()):
                since = min(ready.values())
        else:
            since = old.since
        # A symbol whose snapshot begins later than the claim may join once the claim can begin later without a hole in
        # between.
        joining = {
            symbol: oldest
            for symbol, oldest in ready.items()
            if oldest <= since
            or (old is not None and oldest <= self._watermark)
            or (old is not None and symbol in old.symbols)
        }
        since = max(since, *joining.values(), since)
        claim = Claim(since, tuple(sorted(joining)), rejected)
        if claim == old:
            return
        now = self._steady()
        grows = old is not None and set(old.symbols) <= set(claim.symbols)
        if grows and now - self._claimed_at < _GROWTH_SECONDS:
            # At the start symbols join one by one, each state being longer than the last.
            return
        self._claim, self._claimed_at = claim, now
        await self._announce(claim)
