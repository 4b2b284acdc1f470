"""Standing snapshot connections, one for each timeframe. A snapshot is: subscribe, receive the first batch,
unsubscribe. It needs no connection attempt.
"""

import asyncio
from dataclasses import dataclass

from ingress_common.logs import get_logger
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from kraken_gateway.kraken import protocol
from kraken_gateway.kraken.connection import Connection, ConnectionLost, Kraken, Received
from kraken_gateway.kraken.limits import LEAST_PAUSE, ConnectionBackoff
from kraken_gateway.kraken.protocol import IntervalRow
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher

RESPONSE_SECONDS = 5.0
"""Seconds without any response on the connection after which symbols without a snapshot are resubscribed."""

LONGEST_SECONDS = 30.0
"""Seconds after which a symbol without a snapshot is resubscribed, although others get responses."""

MOST_SUBSCRIBED = 300
"""Maximum number of symbols subscribed on one connection at a time; clients report that it works (`kraken-protocol.md`,
limits).
"""

_EMPTY_TRIES = 2
_IDLE_SECONDS = 1.0
_REOPEN_SECONDS = 15.0
_STEADY_CONNECTION = 60.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The snapshot of one symbol, taken at `taken` and received `at` (unix seconds, Kraken's time).

    No rows: it never traded.
    """

    symbol: str
    rows: tuple[IntervalRow, ...]
    taken: float
    at: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """Kraken rejects the symbol."""

    symbol: str
    reason: str


Reading = Snapshot | Rejected


@dataclass(slots=True)
class _Open:
    """A subscription that waits for its snapshot since `sent_at` (steady seconds)."""

    reading: asyncio.Future[Reading]
    sent_at: float
    acked: bool = False


class SnapshotConnection:
    """Reads snapshots of one timeframe. `traded`: the symbols of which any snapshot had rows, for all timeframes.

    Failures are retried with backoff, without end. A symbol that is acknowledged twice without a snapshot never traded,
    if no other timeframe has rows of it; otherwise this connection is stale and is replaced.
    """

    def __init__(
        self, kraken: Kraken, timeframe: Timeframe, publisher: Publisher, metrics: GatewayMetrics, traded: set[str]
    ) -> None:
        self._kraken = kraken
        self._timeframe = timeframe
        self._publisher = publisher
        self._metrics = metrics
        self._traded = traded
        self._steady = asyncio.get_running_loop().time
        self._waiting: dict[str, asyncio.Future[Reading]] = {}
        self._demand = asyncio.Event()
        self._connection: Connection | None = None
        self._open: dict[str, _Open] = {}
        self._to_end: dict[str, None] = {}
        self._ending: dict[str, float] = {}
        self._empty: dict[str, int] = {}
        self._progressed = float("-inf")

    def read(self, symbol: str, *, urgent: bool = False) -> asyncio.Future[Reading]:
        """The snapshot of `symbol`, taken after this call. An `urgent` one precedes all that wait."""
        reading = self._waiting.get(symbol)
        if reading is None or reading.done():
            reading = self._waiting[symbol] = asyncio.get_running_loop().create_future()
        if urgent:
            self._waiting = {symbol: reading, **self._waiting}
        self._demand.set()
        if self._connection is not None:
            self._connection.wake()
        return reading

    async def run(self) -> None:
        """Read until cancelled."""
        backoff = ConnectionBackoff(at_once=1)
        while True:
            await self._until_needed()
            began, worked, floor = self._steady(), False, 0.0
            try:
                async with self._kraken.connect(f"snapshots {self._timeframe.value}") as connection:
                    self._connection = connection
                    try:
                        await self._serve(connection)
                    finally:
                        self._connection, worked = None, connection.has_worked
            except ConnectionLost as lost:
                self._metrics.losses.labels(lost.reason).inc()
                log.info("snapshots.lost", timeframe=self._timeframe.value, reason=lost.reason, detail=str(lost))
                floor = LEAST_PAUSE.get(lost.reason, 0.0)
            self._take_back()
            if self._steady() - began >= _STEADY_CONNECTION:
                backoff.reset()
            if worked:
                await asyncio.sleep(backoff.pause(at_least=floor, cap=self._kraken.limiter.fair_pause))

    def _take_back(self) -> None:
        """Put the symbols without a snapshot back, before all others."""
        unread = {symbol: entry.reading for symbol, entry in self._open.items() if not entry.reading.done()}
        self._metrics.snapshot_retries.inc(len(unread))
        self._waiting = {**unread, **self._waiting}
        self._open.clear()
        self._to_end.clear()
        self._ending.clear()

    async def _until_needed(self) -> None:
        """Wait until there is something to read, or for a while: a short-lived gateway makes no connection."""
        if not self._waiting:
            self._demand.clear()
        try:
            async with asyncio.timeout(_REOPEN_SECONDS):
                await self._demand.wait()
        except TimeoutError:
            return

    # --- the program of the connection ---

    async def _serve(self, connection: Connection) -> None:
        while True:
            await self._send_due(connection)
            await connection.wait(self._wake_at(connection))
            for received in connection.receive():
                await self._take(received, connection)
            self._expire(connection)

    def _wake_at(self, connection: Connection) -> float:
        next_look = self._steady() + (0.01 if self._waiting or self._to_end else _IDLE_SECONDS)
        return max(connection.next_send, next_look)

    async def _send_due(self, connection: Connection) -> None:
        if self._steady() < connection.next_send or not connection.may_subscribe():
            return
        subscribed = self._open.keys() | self._to_end.keys() | self._ending.keys()
        room = min(protocol.CHUNK, MOST_SUBSCRIBED - len(subscribed))
        wanted = [s for s in self._waiting if s not in subscribed][: max(0, room)]
        if self._to_end and (len(self._to_end) >= protocol.CHUNK or not wanted):
            symbols = tuple(self._to_end)[: protocol.CHUNK]
            for symbol in symbols:
                del self._to_end[symbol]
                self._ending[symbol] = self._steady()
            await connection.unsubscribe(protocol.candles(symbols, self._timeframe), connection.next_id())
        elif wanted:
            now = self._steady()
            for symbol in wanted:
                reading = self._waiting.pop(symbol)
                if not reading.cancelled():
                    self._open[symbol] = _Open(reading, now)
            requested = [symbol for symbol in wanted if symbol in self._open]
            if requested:
                await connection.subscribe(protocol.candles(requested, self._timeframe), connection.next_id())

    async def _take(self, received: Received, connection: Connection) -> None:
        frame = received.frame
        match frame:
            case protocol.OhlcFrame():
                await self._take_candles(frame, received, connection)
            case protocol.Pong():
                connection.worked()
            case protocol.Ack() if frame.symbol is not None:
                if frame.method == "unsubscribe":
                    self._ending.pop(frame.symbol, None)
                elif entry := self._open.get(frame.symbol):
                    entry.acked, self._progressed = True, received.steady
            case protocol.Refusal() if frame.symbol is not None:
                self._refused(frame.symbol, frame)
            case protocol.Unreadable():
                await self._publisher.dead_letter(received.payload, frame.reason, received.at)
            case _:
                pass

    async def _take_candles(self, frame: protocol.OhlcFrame, received: Received, connection: Connection) -> None:
        for bad in frame.bad:
            await self._publisher.dead_letter(received.payload, bad.reason, received.at)
        if not frame.snapshot:
            return
        broken = {bad.symbol for bad in frame.bad}
        rows: dict[str, list[IntervalRow]] = {}
        for row in frame.rows:
            if row.interval == self._timeframe.minutes:
                rows.setdefault(row.symbol, []).append(row)
        taken = received.at if frame.timestamp is None else min(received.at, frame.timestamp)
        for symbol, its_rows in rows.items():
            connection.worked()
            self._progressed = received.steady
            self._traded.add(symbol)
            self._empty.pop(symbol, None)
            if symbol not in broken and None not in broken:
                self._complete(symbol, Snapshot(symbol, tuple(its_rows), taken, received.at))

    def _refused(self, symbol: str, refusal: protocol.Refusal) -> None:
        if refusal.method == "unsubscribe":
            self._ending.pop(symbol, None)
        elif refusal.error.startswith("Currency pair"):
            if entry := self._open.pop(symbol, None):
                _resolve(entry.reading, Rejected(symbol, refusal.error))
        elif entry := self._open.get(symbol):
            # It may still be subscribed: unsubscribe, and retry.
            self._retry(symbol, entry)

    def _complete(self, symbol: str, reading: Reading) -> None:
        entry = self._open.pop(symbol, None)
        if entry is not None:
            self._to_end[symbol] = None
            _resolve(entry.reading, reading)

    def _retry(self, symbol: str, entry: _Open) -> None:
        del self._open[symbol]
        self._to_end[symbol] = None
        self._waiting.setdefault(symbol, entry.reading)
        self._metrics.snapshot_retries.inc()

    def _expire(self, connection: Connection) -> None:
        """Retry symbols without a snapshot. A symbol that was acknowledged without one never traded, or this connection
        is stale.
        """
        if not connection.caught_up:
            return
        now = self._steady()
        for symbol in [symbol for symbol, since in self._ending.items() if now - since > RESPONSE_SECONDS]:
            del self._ending[symbol]
        limit = RESPONSE_SECONDS if now - self._progressed > RESPONSE_SECONDS else LONGEST_SECONDS
        overdue = [symbol for symbol, entry in self._open.items() if now - entry.sent_at > limit]
        for symbol in overdue:
            entry = self._open[symbol]
            tries = self._empty[symbol] = self._empty.get(symbol, 0) + entry.acked
            if tries < _EMPTY_TRIES:
                self._retry(symbol, entry)
            elif symbol in self._traded:
                self._empty.pop(symbol)
                raise ConnectionLost("stale", f"Kraken acks {symbol}, which has traded, and sends no snapshot of it")
            else:
                self._empty.pop(symbol)
                taken = connection.time.at(connection.last_arrival)
                self._complete(symbol, Snapshot(symbol, (), taken, taken))


class Snapshots:
    """The standing connections of all timeframes."""

    def __init__(self, kraken: Kraken, publisher: Publisher, metrics: GatewayMetrics) -> None:
        traded: set[str] = set()
        self._connections = {
            timeframe: SnapshotConnection(kraken, timeframe, publisher, metrics, traded) for timeframe in TIMEFRAMES
        }

    def of(self, timeframe: Timeframe) -> SnapshotConnection:
        """The connection that reads `timeframe`."""
        return self._connections[timeframe]

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for timeframe, connection in self._connections.items():
                tasks.create_task(connection.run(), name=f"snapshots.{timeframe.value}")


def _resolve(reading: asyncio.Future[Reading], result: Reading) -> None:
    if not reading.done():
        reading.set_result(result)
