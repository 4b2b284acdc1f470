"""A feed: one live connection slot, and the bus connection that tells of it in order."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ingress_common.bus import Bus, BusError, Connected, LastWill
from ingress_common.logs import get_logger
from ingress_common.model import FeedCondition, FeedState
from ingress_common.payloads import encode_feed_state
from ingress_common.topics import Topics
from kraken_gateway.kraken.budget import Backoff, Urgency
from kraken_gateway.kraken.connection import SILENCE, Connection, ConnectionLost, Kraken
from kraken_gateway.live.quiet import Doubt, Quiet
from kraken_gateway.live.session import Claim, Session
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import BusStalledError, Outlet

OpenBus = Callable[[str, LastWill | None], Bus]
"""Makes a bus connection of its own, given what to add to the client's name, and its last will."""

_STEADY_CONNECTION = 60.0
_AT_LEAST: Mapping[str, float] = {"maintenance": 5.0, "blind": 1.0}
_GOODBYE_SECONDS = 2.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FeedReport:
    """How a feed is, for health, status and metrics.

    `trouble`: why it is down. `doubted`: the symbols whose silence is to be checked; `withheld`: those of them that are
    left out of what it claims.
    """

    name: str
    state: FeedState
    wanted: frozenset[str]
    trouble: str
    watermark: float | None
    longest_silence: float
    doubted: frozenset[str]
    withheld: frozenset[str]

    @property
    def idle(self) -> bool:
        """Whether Kraken refuses, or does not trade, all that it could carry."""
        return self.wanted <= self.state.rejected.keys()


class Feed:
    """Keeps one live connection for `symbols`, whatever happens to it, and tells the bus what can be relied on."""

    def __init__(
        self,
        name: str,
        kraken: Kraken,
        open_bus: OpenBus,
        topics: Topics,
        metrics: GatewayMetrics,
        silence: float = SILENCE,
    ) -> None:
        self.name = name
        self._kraken = kraken
        self._open_bus = open_bus
        self._topics = topics
        self._metrics = metrics
        self._silence = silence
        self._wanted: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._gone: Mapping[str, str] = {}
        self._rejected: dict[str, tuple[str, float]] = {}
        self._quiet = Quiet()
        self._state = FeedState(name, FeedCondition.DOWN, kraken.time.now())
        self._last_since = float("-inf")
        self._session: Session | None = None
        self._announcing = asyncio.Lock()
        self._trouble = "not connected yet"

    def assign(self, symbols: frozenset[str], gone: Mapping[str, str]) -> None:
        """Make `symbols` the ones that this feed carries; the others it carries are not disturbed.

        `gone`: those of them that are not traded at present, and why.
        """
        self._wanted = symbols
        self._gone = {symbol: reason for symbol, reason in gone.items() if symbol in symbols}
        self._quiet.keep(symbols)
        self._changed.set()
        if self._session is not None:
            self._session.want(self._traded(), self._rejected)

    def retry(self, symbols: Collection[str]) -> None:
        """Ask Kraken again for those of `symbols` that it has refused."""
        for symbol in symbols:
            self._rejected.pop(symbol, None)
        self._changed.set()
        if self._session is not None:
            self._session.retry(symbols)

    def _traded(self) -> frozenset[str]:
        return self._wanted - self._gone.keys()

    def report(self) -> FeedReport:
        """How it is now."""
        session = self._session
        silence = session.silence() if session else {}
        return FeedReport(
            self.name,
            self._state,
            self._wanted,
            self._trouble,
            session.watermark if session else None,
            max(silence.values(), default=0.0),
            frozenset(session.doubts() if session else ()),
            session.withheld if session else frozenset(),
        )

    def silence(self) -> Mapping[str, float]:
        """Seconds since the last row of each symbol that it speaks for or withholds."""
        return self._session.silence() if self._session else {}

    def doubts(self) -> Mapping[str, Doubt]:
        """The symbols whose silence is unusual, or that are withheld because it was."""
        return self._session.doubts() if self._session else {}

    def explain(self, doubt: Doubt) -> None:
        """It was checked that the present connection has had everything of a symbol in doubt."""
        if self._session is not None:
            self._session.explain(doubt)

    def seen(self, symbol: str) -> Mapping[int, int]:
        """Trades of the latest minutes of `symbol` on the present connection, by open time (unix seconds)."""
        return self._session.seen(symbol) if self._session else {}

    def restart(self, reason: str) -> None:
        """Give the connection up and make a new one."""
        if self._session is not None:
            self._session.end(reason)

    async def run(self) -> None:
        """Serve until cancelled. BusError never: a broker that is away is waited for."""
        backoff = Backoff()
        while True:
            try:
                async with self._open_bus(self.name, self._will()) as bus:
                    backoff.reset()
                    outlet = Outlet(bus, self._topics, self._metrics, self._kraken.url)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._listen(bus, outlet), name=f"{self.name}.bus")
                        tasks.create_task(self._serve(outlet), name=f"{self.name}.serve")
            except BusError as error:
                log.warning("feed.no-bus", feed=self.name, error=str(error))
                await asyncio.sleep(backoff.pause())

    def _will(self) -> LastWill:
        state = FeedState(self.name, FeedCondition.DOWN, self._kraken.time.now())
        return LastWill(self._topics.feed(self.name), encode_feed_state(state))

    async def _listen(self, bus: Bus, outlet: Outlet) -> None:
        """Say again how it is when the broker was away: it has told our last will meanwhile."""
        async for event in bus.events():
            if isinstance(event, Connected):
                await self._announce(outlet)

    async def _announce(self, outlet: Outlet) -> None:
        async with self._announcing:
            await outlet.feed_state(self._state)

    async def _serve(self, outlet: Outlet) -> None:
        backoff = Backoff(at_once=3)
        try:
            await self._announce(outlet)
            while True:
                await self._until_needed(outlet)
                reason, lasted, krakens = await self._connect(outlet)
                if reason != "released":
                    self._metrics.losses.labels(reason).inc()
                if lasted >= _STEADY_CONNECTION:
                    backoff.reset()
                await self._go_down(outlet)
                # While Kraken does not work at all the pauses are everyone's (`gate`).
                if not krakens:
                    floor = _AT_LEAST.get(reason, 0.0)
                    await asyncio.sleep(backoff.pause(at_least=floor, cap=self._kraken.fair_pause))
        finally:
            await self._say_goodbye(outlet)
            self._kraken.time.forget(self.name)

    async def _until_needed(self, outlet: Outlet) -> None:
        """Wait until there is a symbol to ask for."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            await self._go_down(outlet)
            due = [self._rejected[s][1] if s in self._rejected else 0.0 for s in self._traded()]
            wait = min(due, default=float("inf")) - loop.time()
            if wait <= 0:
                return
            try:
                async with asyncio.timeout(None if wait == float("inf") else wait):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _connect(self, outlet: Outlet) -> tuple[str, float, bool]:
        """Serve one connection; gives the reason of its end, how long it lasted (seconds), and whether Kraken did not
        work.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        worked = False
        try:
            async with self._kraken.connect(Urgency.LIVE) as connection:
                began = loop.time()
                self._metrics.connects.labels("live").inc()
                try:
                    await self._run_session(connection, outlet)
                finally:
                    worked = connection.has_worked
        except ConnectionLost as lost:
            if lost.reason == "rejected":
                log.info("feed.rejected", feed=self.name, symbols=len(self._rejected))
            elif self._state.state is FeedCondition.LIVE or self._trouble != str(lost):
                log.warning("feed.lost", feed=self.name, reason=lost.reason, detail=str(lost))
            self._trouble = str(lost)
            return lost.reason, loop.time() - began, not worked
        except BusStalledError as error:
            log.warning("feed.stalled", feed=self.name, detail=str(error))
            self._trouble = str(error)
            return "stalled", loop.time() - began, False
        return "released", loop.time() - began, False

    async def _run_session(self, connection: Connection, outlet: Outlet) -> None:
        async def announce(claim: Claim) -> None:
            await self._claim(claim, outlet)

        since_after = self._last_since + 0.001
        session = Session(
            self.name, connection, outlet, self._metrics, announce, since_after, self._quiet, self._silence
        )
        session.want(self._traded(), self._rejected)
        self._session = session
        try:
            await session.run()
        finally:
            self._rejected = session.rejected()
            self._session = None

    async def _claim(self, claim: Claim, outlet: Outlet) -> None:
        if self._state.state is FeedCondition.DOWN:
            log.info("feed.live", feed=self.name, symbols=len(claim.symbols), since=claim.since)
        self._trouble = ""
        self._last_since = claim.since
        self._state = FeedState(
            self.name, FeedCondition.LIVE, claim.since, claim.symbols, {**claim.rejected, **self._gone}
        )
        self._metrics.feed_live.labels(self.name).set(1)
        self._metrics.feed_symbols.labels(self.name).set(len(claim.symbols))
        await self._announce(outlet)

    async def _go_down(self, outlet: Outlet) -> None:
        rejected = {symbol: reason for symbol, (reason, _) in self._rejected.items() if symbol in self._wanted}
        rejected |= self._gone
        if self._state.state is FeedCondition.DOWN and self._state.rejected == rejected:
            return
        self._metrics.feed_live.labels(self.name).set(0)
        self._metrics.feed_symbols.labels(self.name).set(0)
        self._state = FeedState(self.name, FeedCondition.DOWN, self._kraken.time.now(), (), rejected)
        await self._announce(outlet)

    async def _say_goodbye(self, outlet: Outlet) -> None:
        """A clean stop says down itself; the last will is for the other ends."""
        self._state = FeedState(self.name, FeedCondition.DOWN, self._kraken.time.now())
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await (await outlet.feed_state(self._state))
        except TimeoutError:
            log.warning("feed.goodbye-unheard", feed=self.name)


def rejected_of(reports: Collection[FeedReport]) -> dict[str, str]:
    """All refused symbols with Kraken's reason."""
    return {symbol: reason for report in reports for symbol, reason in report.state.rejected.items()}
