"""A feed: one live connection slot, and the bus connection that tells of it in order."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ingress_common.bus import Bus, BusError, Connected, LastWill
from ingress_common.logs import get_logger
from ingress_common.model import FeedCondition, FeedState
from ingress_common.payloads import encode_feed_state
from ingress_common.topics import Topics
from kraken_gateway.budget import Backoff, Urgency
from kraken_gateway.connection import Connection, ConnectionLost, Kraken
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import BusStalledError, Outlet
from kraken_gateway.session import SILENCE, Claim, Session

OpenBus = Callable[[str, LastWill | None], Bus]
"""Makes a bus connection of its own, given what to add to the client's name, and its last will."""

_STEADY_CONNECTION = 60.0
_AT_LEAST: Mapping[str, float] = {"maintenance": 5.0, "too-many-connects": 30.0, "blind": 1.0}
_GOODBYE_SECONDS = 2.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FeedReport:
    """How a feed is, for health, status and metrics. `trouble`: why it is down."""

    name: str
    state: FeedState
    wanted: frozenset[str]
    trouble: str
    watermark: float | None
    longest_silence: float


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
        self._rejected: dict[str, tuple[str, float]] = {}
        self._state = FeedState(name, FeedCondition.DOWN, kraken.clock())
        self._last_since = float("-inf")
        self._session: Session | None = None
        self._announcing = asyncio.Lock()
        self._trouble = "not connected yet"

    def assign(self, symbols: frozenset[str]) -> None:
        """Make `symbols` the ones that this feed carries; the others it carries are not disturbed."""
        self._wanted = symbols
        self._changed.set()
        if self._session is not None:
            self._session.want(symbols, self._rejected)

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
        )

    @property
    def skew(self) -> float | None:
        """Seconds that our clock is ahead of Kraken's, as the present connection measures it; None without one."""
        return self._session.skew if self._session else None

    def silence(self) -> Mapping[str, float]:
        """Seconds since the last row of each symbol that it speaks for."""
        return self._session.silence() if self._session else {}

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
        state = FeedState(self.name, FeedCondition.DOWN, self._kraken.clock())
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
                await self._until_needed()
                reason, lasted = await self._connect(outlet)
                if reason != "released":
                    self._metrics.losses.labels(reason).inc()
                if lasted >= _STEADY_CONNECTION:
                    backoff.reset()
                await self._go_down(outlet)
                floor = _AT_LEAST.get(reason, 0.0)
                pause = backoff.pause(at_least=floor, cap=self._kraken.fair_pause)
                if floor:
                    await asyncio.sleep(pause)
                else:
                    await self._kraken.pause(pause)
        finally:
            await self._say_goodbye(outlet)

    async def _until_needed(self) -> None:
        """Wait until there is a symbol to ask for."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            due = [self._rejected[s][1] if s in self._rejected else 0.0 for s in self._wanted]
            wait = min(due, default=float("inf")) - loop.time()
            if wait <= 0:
                return
            try:
                async with asyncio.timeout(None if wait == float("inf") else wait):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _connect(self, outlet: Outlet) -> tuple[str, float]:
        """Serve one connection; gives the reason of its end and how long it lasted (seconds)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with self._kraken.connect(Urgency.LIVE) as connection:
                began = loop.time()
                self._metrics.connects.labels("live").inc()
                await self._run_session(connection, outlet)
        except ConnectionLost as lost:
            if lost.reason == "rejected":
                log.info("feed.rejected", feed=self.name, symbols=len(self._rejected))
            elif self._state.state is FeedCondition.LIVE or self._trouble != str(lost):
                log.warning("feed.lost", feed=self.name, reason=lost.reason, detail=str(lost))
            self._trouble = str(lost)
            return lost.reason, loop.time() - began
        except BusStalledError as error:
            log.warning("feed.stalled", feed=self.name, detail=str(error))
            self._trouble = str(error)
            return "stalled", loop.time() - began
        return "released", loop.time() - began

    async def _run_session(self, connection: Connection, outlet: Outlet) -> None:
        async def announce(claim: Claim) -> None:
            await self._claim(claim, outlet)

        session = Session(
            self.name, connection, outlet, self._metrics, announce, self._last_since + 0.001, self._silence
        )
        session.want(self._wanted, self._rejected)
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
        self._state = FeedState(self.name, FeedCondition.LIVE, claim.since, claim.symbols, claim.rejected)
        self._metrics.feed_live.labels(self.name).set(1)
        self._metrics.feed_symbols.labels(self.name).set(len(claim.symbols))
        await self._announce(outlet)

    async def _go_down(self, outlet: Outlet) -> None:
        rejected = {symbol: reason for symbol, (reason, _) in self._rejected.items() if symbol in self._wanted}
        if self._state.state is FeedCondition.DOWN and self._state.rejected == rejected:
            return
        self._metrics.feed_live.labels(self.name).set(0)
        self._metrics.feed_symbols.labels(self.name).set(0)
        self._state = FeedState(self.name, FeedCondition.DOWN, self._kraken.clock(), (), rejected)
        await self._announce(outlet)

    async def _say_goodbye(self, outlet: Outlet) -> None:
        """A clean stop says down itself; the last will is for the other ends."""
        self._state = FeedState(self.name, FeedCondition.DOWN, self._kraken.clock())
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await (await outlet.feed_state(self._state))
        except TimeoutError:
            log.warning("feed.goodbye-unheard", feed=self.name)


def rejected_of(reports: Collection[FeedReport]) -> dict[str, str]:
    """All refused symbols with Kraken's reason."""
    return {symbol: reason for report in reports for symbol, reason in report.state.rejected.items()}
