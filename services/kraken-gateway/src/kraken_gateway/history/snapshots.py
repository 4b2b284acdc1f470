"""Snapshots over short-lived connections: subscribe, take the first batch, unsubscribe, close."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken import protocol
from kraken_gateway.kraken.budget import Urgency
from kraken_gateway.kraken.connection import Connection, ConnectionLost, Kraken, Received
from kraken_gateway.kraken.kraken_time import KrakenTime
from kraken_gateway.kraken.protocol import Row

ANSWER_SECONDS = 5.0
"""Seconds without progress after which the rest of a request counts as unanswered."""

_PONG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The snapshot of one symbol, taken at `taken` and received `at` (unix seconds, Kraken's time).

    No rows: it never traded.
    """

    symbol: str
    rows: tuple[Row, ...]
    taken: float
    at: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """Kraken refuses the symbol."""

    symbol: str
    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A frame that could not be used."""

    frame: bytes
    reason: str
    at: float


Found = Snapshot | Rejected | Broken
Take = Callable[[Found], Awaitable[None]]


async def fetch_snapshots(
    kraken: Kraken,
    symbols: Iterable[str],
    timeframe: Timeframe,
    urgency: Urgency,
    take: Take,
    patience: float | None = None,
) -> None:
    """Give `take` the snapshot of each of `symbols`, or Kraken's refusal, as they come.

    A symbol that gets no answer is left out. ConnectionLost if the connection fails before the end, or if the budget
    does not allow one within `patience` seconds.
    """
    async with kraken.connect(urgency, patience) as connection:
        fetch = _Fetch(connection, timeframe, take)
        await fetch.begin()
        for chunk in protocol.chunks(symbols):
            await fetch.run(chunk)


class _Fetch:
    def __init__(self, connection: Connection, timeframe: Timeframe, take: Take) -> None:
        self._connection = connection
        self._timeframe = timeframe
        self._take = take
        self._time = KrakenTime(connection.time.offset)
        self._steady = asyncio.get_running_loop().time
        self._open: dict[str, bool] = {}
        self._request = 0
        self._pong: int | None = None
        self._last: Received | None = None

    async def begin(self) -> None:
        """Ask for Kraken's time, so that the first snapshot finds it known."""
        await self._connection.send(protocol.ping(self._connection.next_id()))

    async def run(self, symbols: tuple[str, ...]) -> None:
        """Fetch up to one message of symbols."""
        self._open = dict.fromkeys(symbols, False)
        self._request = self._connection.next_id()
        await self._connection.send(protocol.subscribe_candles(symbols, self._timeframe, self._request))
        while self._open:
            before = len(self._open), sum(self._open.values())
            if not await self._next(self._steady() + ANSWER_SECONDS, before):
                break
        await self._conclude()
        await self._connection.send(protocol.unsubscribe_candles(symbols, self._timeframe, self._connection.next_id()))

    async def _next(self, until: float, before: tuple[int, int]) -> bool:
        """Take frames until one of the symbols has moved on; False if none has by `until` (steady seconds)."""
        while (len(self._open), sum(self._open.values())) == before:
            received = await self._connection.receive(until)
            if received is None:
                return False
            await self._handle(received)
            if self._steady() >= until:
                return (len(self._open), sum(self._open.values())) != before
        return True

    async def _conclude(self) -> None:
        """A symbol that was acked and has no snapshot has never traded - if Kraken still answers."""
        if not self._open:
            return
        wanted = self._connection.next_id()
        await self._connection.send(protocol.ping(wanted))
        until = self._steady() + _PONG_SECONDS
        while self._pong != wanted:
            received = await self._connection.receive(until)
            if received is None or self._steady() >= until:
                raise ConnectionLost("silent", "Kraken acked and then said nothing")
            await self._handle(received)
        for symbol in [symbol for symbol, acked in self._open.items() if acked]:
            del self._open[symbol]
            if self._last is not None:
                await self._take(Snapshot(symbol, (), self._now(self._last), self._now(self._last)))

    def _now(self, received: Received) -> float:
        return self._time.at(received.steady, received.wall)

    async def _handle(self, received: Received) -> None:
        self._last = received
        frame = protocol.parse_frame(received.frame)
        match frame:
            case protocol.Pong():
                self._pong = frame.req_id
                self._observe(frame.time, received)
            case protocol.Ack():
                self._observe(frame.time, received)
                if frame.method == "subscribe" and frame.symbol in self._open and frame.channel in ("ohlc", None):
                    self._open[frame.symbol] = True
            case protocol.Refusal():
                self._observe(frame.time, received)
                await self._refuse(frame)
            case protocol.Candles(snapshot=True):
                await self._snapshot(frame, received)
            case protocol.RateExceeded():
                raise ConnectionLost("rate", "Kraken says: exceeded msg rate")
            case protocol.SystemStatus(system="maintenance"):
                raise ConnectionLost("maintenance", "Kraken is in maintenance")
            case protocol.Unreadable():
                await self._take(self._broken(received, frame.reason))
            case _:
                pass

    def _observe(self, stamp: float | None, received: Received) -> None:
        if stamp is not None:
            self._time.observe_reply(stamp, received.steady)

    async def _refuse(self, frame: protocol.Refusal) -> None:
        symbol = frame.symbol
        if symbol is not None and symbol in self._open and frame.error.startswith("Currency pair"):
            del self._open[symbol]
            self._connection.worked()
            await self._take(Rejected(symbol, frame.error))

    async def _snapshot(self, frame: protocol.Candles, received: Received) -> None:
        for bad in frame.bad:
            await self._take(self._broken(received, bad.reason))
        broken = {bad.symbol for bad in frame.bad}
        rows: dict[str, list[Row]] = {}
        for row in frame.rows:
            if row.timeframe is self._timeframe:
                rows.setdefault(row.symbol, []).append(row)
        taken = self._now(received)
        if frame.timestamp is not None:
            taken = min(taken, frame.timestamp)
        if rows:
            self._connection.worked()
        for symbol, its_rows in rows.items():
            if symbol in self._open and symbol not in broken and None not in broken:
                del self._open[symbol]
                await self._take(Snapshot(symbol, tuple(its_rows), taken, self._now(received)))

    def _broken(self, received: Received, reason: str) -> Broken:
        frame = received.frame
        return Broken(frame if isinstance(frame, bytes) else frame.encode(), reason, self._now(received))
