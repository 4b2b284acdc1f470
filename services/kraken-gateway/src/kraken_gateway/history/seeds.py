"""Seed requests: the snapshots of all seven timeframes, in few connections however many ask; from REST where these have
to be spared.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

from ingress_common.logs import get_logger
from ingress_common.timeframes import Timeframe
from kraken_gateway.history.requests import HistoryRequests
from kraken_gateway.history.snapshots import Broken, Found, Rejected, Snapshot, fetch_snapshots
from kraken_gateway.history.tickets import Ticket, TicketOffice
from kraken_gateway.kraken.budget import Backoff, Urgency
from kraken_gateway.kraken.connection import OVER_BUDGET, ConnectionLost, Kraken
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import BusStalledError, Outlet, snapshot_history

_GATHER_SECONDS = 0.3
_ROUND = 1000
_EMPTY_TRIES = 2
_LONGEST_PAUSE = 10.0
_REST_SECONDS = 15.0
_RESERVE = 1 / 3

MANY = 100
"""Symbols beyond which a seed uses the last connections too: seven calls for each, four at a time, take REST more than
half a minute. As many are given to REST before it is looked again.
"""
_PAUSES = {"maintenance": 5.0, "too-many-connects": 30.0, "rate": 5.0}

log = get_logger(__name__)


class Seeds:
    """Answers seed requests for the symbols that `owns` says are ours. What fails is tried again, with backoff and
    without end.

    Snapshots come over connections while a third of those that short-lived ones may use is left. That third is for
    seeds of many symbols; few are answered from REST then, and also while the WebSocket does not work and REST does.

    What is pending is bounded by the symbols there are: a symbol that is asked for again while it waits is answered
    once.
    """

    def __init__(
        self,
        kraken: Kraken,
        history: HistoryRequests,
        outlet: Outlet,
        metrics: GatewayMetrics,
        owns: Callable[[str], bool],
    ) -> None:
        self._kraken = kraken
        self._history = history
        self._outlet = outlet
        self._metrics = metrics
        self._owns = owns
        self._office = TicketOffice()
        self._pending: dict[Timeframe, dict[str, list[Ticket]]] = {timeframe: {} for timeframe in Timeframe}
        self._wake: dict[Timeframe, asyncio.Event] = {timeframe: asyncio.Event() for timeframe in Timeframe}
        self._empty: dict[tuple[Timeframe, str], int] = {}
        self._traded: set[str] = set()

    @property
    def pending(self) -> int:
        """Snapshots asked for and not yet answered."""
        return sum(len(waiting) for waiting in self._pending.values())

    def request(self, symbols: Iterable[str], ack: Callable[[], None]) -> None:
        """Take a request; `ack` is called when its answers are with the broker."""
        ours = [symbol for symbol in dict.fromkeys(symbols) if self._owns(symbol)]
        if not ours:
            ack()
            return
        ticket = self._office.issue(len(ours) * len(Timeframe), ack)
        for timeframe, waiting in self._pending.items():
            for symbol in ours:
                waiting.setdefault(symbol, []).append(ticket)
            self._wake[timeframe].set()

    async def run(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for timeframe in Timeframe:
                tasks.create_task(self._work(timeframe), name=f"seeds.{timeframe.value}")

    async def _work(self, timeframe: Timeframe) -> None:
        backoff = Backoff()
        waiting = self._pending[timeframe]
        while True:
            await self._wake[timeframe].wait()
            # Requests come in swarms when many instances start: one connection serves them all.
            await asyncio.sleep(_GATHER_SECONDS)
            for symbol in [symbol for symbol in waiting if not self._owns(symbol)]:
                _done(self._answered(timeframe, symbol))
            batch = list(islice(waiting.items(), _ROUND))
            if batch and self._spares_connections(len(batch)):
                batch = batch[:MANY]
                await self._rest_round(timeframe, [symbol for symbol, _ in batch])
                reason = None
            else:
                reason = await self._round(timeframe, [symbol for symbol, _ in batch]) if batch else None
            if not waiting:
                self._wake[timeframe].clear()
            if reason == OVER_BUDGET:
                # Others were faster. There is no need to wait, as there is REST.
                continue
            # Who has asked again after the answer is another one.
            if all(waiting.get(symbol) is not tickets for symbol, tickets in batch):
                backoff.reset()
            else:
                self._metrics.seed_retries.inc()
                if self._spares_connections(len(waiting)):
                    # The pauses are for connections.
                    continue
                floor = _PAUSES.get(reason or "", 0.0)
                pause = backoff.pause(at_least=floor, cap=_LONGEST_PAUSE)
                if floor:
                    await asyncio.sleep(pause)
                else:
                    await self._kraken.pause(pause)

    def _spares_connections(self, symbols: int) -> bool:
        """Whether so many symbols are to be answered from REST."""
        if not self._kraken.works:
            return not self._history.trouble
        budget = self._kraken.budget
        reserve = 1 if symbols > MANY else max(1, int(budget.allowed(Urgency.SHORT) * _RESERVE))
        return budget.left(Urgency.SHORT) < reserve

    async def _rest_round(self, timeframe: Timeframe, batch: list[str]) -> None:
        """What REST tells of `batch` within some seconds; what it does not stays to be answered."""
        told = {self._history.latest(symbol, timeframe): symbol for symbol in batch}
        rest = set(told)
        under_way: list[tuple[list[Ticket], Awaitable[None] | None]] = []
        deadline = asyncio.get_running_loop().time() + _REST_SECONDS
        try:
            while rest and (left := deadline - asyncio.get_running_loop().time()) > 0:
                answered, rest = await asyncio.wait(rest, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for future in answered:
                    under_way.append((self._answered(timeframe, told[future]), future.result()))
                    self._metrics.rest_seeds.inc()
        finally:
            for future in rest:
                self._history.withdraw(told[future], timeframe)
        for tickets, delivered in under_way:
            if delivered is not None:
                await delivered
            _done(tickets)

    async def _round(self, timeframe: Timeframe, batch: list[str]) -> str | None:
        """One connection's worth; gives the reason if it failed."""
        under_way: list[tuple[list[Ticket], Awaitable[None]]] = []

        async def take(found: Found) -> None:
            match found:
                case Snapshot():
                    if self._believable(timeframe, found):
                        history = snapshot_history(found.symbol, timeframe, found.rows, found.taken, found.at)
                        delivered = await self._outlet.history(history)
                        # At once: whoever asks from now on has not heard it.
                        under_way.append((self._answered(timeframe, found.symbol), delivered))
                case Rejected(symbol=symbol):
                    log.warning("seed.rejected", symbol=symbol, timeframe=timeframe.value, reason=found.reason)
                    self._metrics.unanswerable.inc()
                    _done(self._answered(timeframe, symbol))
                case Broken():
                    await self._outlet.dead_letter(found.frame, found.reason, found.at)

        reason: str | None = None
        try:
            await fetch_snapshots(self._kraken, batch, timeframe, Urgency.SHORT, take, patience=0)
        except ConnectionLost as lost:
            reason = lost.reason
            log.info("seeds.failed", timeframe=timeframe.value, reason=lost.reason, detail=str(lost))
        except BusStalledError as error:
            reason = "stalled"
            log.warning("seeds.stalled", timeframe=timeframe.value, detail=str(error))
        if reason != OVER_BUDGET:
            self._metrics.connects.labels("seed").inc()
        for tickets, delivered in under_way:
            await delivered
            _done(tickets)
        return reason

    def _believable(self, timeframe: Timeframe, found: Snapshot) -> bool:
        """Whether no rows may mean that the symbol never traded: not if any timeframe has some, and not at the first
        sight.
        """
        key = (timeframe, found.symbol)
        if found.rows:
            self._traded.add(found.symbol)
            self._empty.pop(key, None)
            return True
        self._empty[key] = self._empty.get(key, 0) + 1
        return found.symbol not in self._traded and self._empty[key] >= _EMPTY_TRIES

    def _answered(self, timeframe: Timeframe, symbol: str) -> list[Ticket]:
        """Nobody waits for `symbol` any more; those who did."""
        self._empty.pop((timeframe, symbol), None)
        return self._pending[timeframe].pop(symbol, [])


def _done(tickets: Iterable[Ticket]) -> None:
    for ticket in tickets:
        ticket.done()
