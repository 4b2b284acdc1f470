"""A feed: live connections, one after the other, for a shard of the symbols, and the bus connection that publishes
their messages in order.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ingress_common.backoff import Backoff
from ingress_common.bus import Bus, BusError, Connected, LastWill
from ingress_common.logs import get_logger
from ingress_common.model import FeedCondition, FeedState
from ingress_common.payloads import encode_feed_state
from ingress_common.topics import Topics
from kraken_gateway.kraken.connection import INACTIVITY, ConnectionLost, Kraken
from kraken_gateway.kraken.limits import LEAST_PAUSE, ConnectionBackoff
from kraken_gateway.live.coverage import Coverage
from kraken_gateway.live.inactivity import Inactivity
from kraken_gateway.live.stream import LiveStream
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher

OpenBus = Callable[[str, LastWill | None], Bus]
"""Makes a separate bus connection, given a suffix of the client's name and a last will."""

_REPEAT_SECONDS = 10.0
_STEADY_CONNECTION = 60.0
_PUBLISH_DOWN_SECONDS = 2.0
_BUS_BACKOFF = Backoff(1.0, 60.0, jitter=(0.5, 1.0))

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FeedReport:
    """The state of a feed, for health, status and metrics.

    `problem`: why it is down. `suspect`: symbols whose inactivity is to be verified; `excluded`: symbols excluded from
    the coverage. `backlog`: frames received and not yet published, of which the oldest has waited for `lag` seconds.
    `refused`: why the broker refuses its messages; empty if it accepts them. `gone`: symbols that are not traded at
    present, with the reason; the state shows those that it covered.
    """

    name: str
    state: FeedState
    wanted: frozenset[str]
    problem: str
    watermark: float | None
    longest_inactivity: float
    suspect: frozenset[str]
    excluded: frozenset[str]
    backlog: int
    lag: float
    refused: str = ""
    gone: Mapping[str, str] = field(default_factory=dict)

    @property
    def rejected(self) -> Mapping[str, str]:
        """The symbols that Kraken rejects or does not trade, with the reason."""
        return {**self.state.rejected, **self.gone}

    @property
    def live(self) -> bool:
        """Whether it delivers data and the broker accepts them."""
        return self.state.state is FeedCondition.LIVE and not self.refused

    @property
    def idle(self) -> bool:
        """Whether Kraken rejects or does not trade all of its symbols."""
        return self.wanted <= self.rejected.keys()


class Feed:
    """Keeps one live connection for its symbols, replaces it when it ends, and publishes its updates."""

    def __init__(
        self,
        name: str,
        kraken: Kraken,
        open_bus: OpenBus,
        topics: Topics,
        metrics: GatewayMetrics,
        inactivity: float = INACTIVITY,
    ) -> None:
        self.name = name
        self._kraken = kraken
        self._open_bus = open_bus
        self._topics = topics
        self._metrics = metrics
        self._connection_inactivity = inactivity
        self._wanted: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._gone: Mapping[str, str] = {}
        self._rejected: dict[str, tuple[str, float]] = {}
        self._inactivity = Inactivity()
        self._state = FeedState(name, FeedCondition.DOWN, kraken.clock.now())
        self._last_since = float("-inf")
        self._stream: LiveStream | None = None
        self._announcing = asyncio.Lock()
        self._problem = "not connected yet"
        self._bus: Bus | None = None

    @property
    def stream(self) -> LiveStream | None:
        """The program on the present connection; None without one."""
        return self._stream

    @property
    def wanted(self) -> frozenset[str]:
        """The symbols that it is to carry."""
        return self._wanted

    def assign(self, symbols: frozenset[str], gone: Mapping[str, str]) -> None:
        """Carry `symbols` from now on; symbols that stay are not touched.

        `gone`: those that are not traded at present, with the reason.
        """
        self._wanted = symbols
        self._gone = {symbol: reason for symbol, reason in gone.items() if symbol in symbols}
        self._inactivity.keep(symbols)
        self._changed.set()
        if self._stream is not None:
            self._stream.want(self._traded(), self._rejected)

    def retry(self, symbols: Collection[str]) -> None:
        """Resubscribe those of `symbols` that Kraken has rejected."""
        for symbol in symbols:
            self._rejected.pop(symbol, None)
        self._changed.set()
        if self._stream is not None:
            self._stream.retry(symbols)

    def restart(self, reason: str) -> None:
        """End the connection and make a new one."""
        if self._stream is not None:
            self._stream.end(reason)

    def report(self) -> FeedReport:
        """Its present state."""
        stream = self._stream
        suspects = stream.suspects() if stream else {}
        refused = self._bus.problem if self._bus is not None else ""
        return FeedReport(
            name=self.name,
            state=self._state,
            wanted=self._wanted,
            problem=self._problem or refused,
            watermark=stream.watermark if stream else None,
            longest_inactivity=max(stream.inactive_for().values(), default=0.0) if stream else 0.0,
            suspect=frozenset(suspects),
            excluded=stream.excluded if stream else frozenset(),
            backlog=stream.backlog if stream else 0,
            lag=stream.lag if stream else 0.0,
            refused=refused,
            gone=self._gone,
        )

    async def run(self) -> None:
        """Run until cancelled. Never raises BusError: it waits for a broker that is away."""
        attempt = 0
        while True:
            try:
                async with self._open_bus(self.name, self._will()) as bus:
                    attempt = 0
                    self._bus = bus
                    publisher = Publisher(bus, self._topics, self._metrics, self._kraken.url)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._listen(bus, publisher), name=f"{self.name}.bus")
                        tasks.create_task(self._repeat(publisher), name=f"{self.name}.repeat")
                        tasks.create_task(self._serve(publisher), name=f"{self.name}.serve")
            except BusError as error:
                log.warning("feed.broker-unavailable", feed=self.name, error=str(error))
                await asyncio.sleep(_BUS_BACKOFF.pause(attempt))
                attempt += 1

    def _traded(self) -> frozenset[str]:
        return self._wanted - self._gone.keys()

    def _will(self) -> LastWill:
        state = FeedState(self.name, FeedCondition.DOWN, self._kraken.clock.now())
        return LastWill(self._topics.feed(self.name), encode_feed_state(state))

    async def _listen(self, bus: Bus, publisher: Publisher) -> None:
        """Republish the state after a reconnect: the broker has published the last will meanwhile."""
        async for event in bus.events():
            if isinstance(event, Connected):
                await self._announce(publisher)

    async def _repeat(self, publisher: Publisher) -> None:
        """Republish the state regularly: a broker that restarts may not deliver it to a session that it kept."""
        while True:
            await asyncio.sleep(_REPEAT_SECONDS)
            await self._announce(publisher)

    async def _announce(self, publisher: Publisher) -> None:
        async with self._announcing:
            await publisher.feed_state(self._state)

    async def _serve(self, publisher: Publisher) -> None:
        backoff = ConnectionBackoff(at_once=3)
        loop = asyncio.get_running_loop()
        try:
            await self._announce(publisher)
            while True:
                await self._until_needed(publisher)
                began = loop.time()
                lost, worked = await self._connect(publisher)
                self._metrics.losses.labels(lost.reason).inc()
                if loop.time() - began >= _STEADY_CONNECTION:
                    backoff.reset()
                await self._go_down(publisher)
                # While Kraken does not work at all, the circuit breaker sets the pauses.
                if worked:
                    floor = LEAST_PAUSE.get(lost.reason, 0.0)
                    await asyncio.sleep(backoff.pause(at_least=floor, cap=self._kraken.limiter.fair_pause))
        finally:
            await self._publish_down(publisher)
            self._kraken.clock.forget(f"live {self.name}")

    async def _until_needed(self, publisher: Publisher) -> None:
        """Wait until there is a symbol to subscribe."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            await self._go_down(publisher)
            due = [self._rejected[s][1] if s in self._rejected else 0.0 for s in self._traded()]
            wait = min(due, default=float("inf")) - loop.time()
            if wait <= 0:
                return
            try:
                async with asyncio.timeout(None if wait == float("inf") else wait):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _connect(self, publisher: Publisher) -> tuple[ConnectionLost, bool]:
        """Run one connection to its end; returns why it ended, and whether it had worked."""
        worked = False
        try:
            async with self._kraken.connect(f"live {self.name}", self._connection_inactivity) as connection:

                async def announce(coverage: Coverage) -> None:
                    await self._cover(coverage, publisher)

                since_after = self._last_since + 0.001
                stream = LiveStream(
                    self.name, connection, publisher, self._metrics, announce, since_after, self._inactivity
                )
                stream.want(self._traded(), self._rejected)
                self._stream = stream
                try:
                    await stream.run()
                finally:
                    worked = connection.has_worked
                    self._rejected = stream.rejected()
                    self._stream = None
        except ConnectionLost as lost:
            if lost.reason == "rejected":
                log.info("feed.rejected", feed=self.name, symbols=len(self._rejected))
            elif self._state.state is FeedCondition.LIVE or self._problem != str(lost):
                log.warning("feed.lost", feed=self.name, reason=lost.reason, detail=str(lost))
            self._problem = str(lost)
            return lost, worked
        raise AssertionError("expected a live stream to end with ConnectionLost only")

    async def _cover(self, coverage: Coverage, publisher: Publisher) -> None:
        if self._state.state is FeedCondition.DOWN:
            log.info("feed.live", feed=self.name, symbols=len(coverage.symbols), since=coverage.since)
        self._problem = ""
        self._last_since = coverage.since
        rejected = {**coverage.rejected, **self._gone}
        self._state = FeedState(self.name, FeedCondition.LIVE, coverage.since, coverage.symbols, rejected)
        self._metrics.feed_live.labels(self.name).set(1)
        self._metrics.feed_symbols.labels(self.name).set(len(coverage.symbols))
        await self._announce(publisher)

    async def _go_down(self, publisher: Publisher) -> None:
        rejected = {symbol: reason for symbol, (reason, _) in self._rejected.items() if symbol in self._wanted}
        rejected |= self._gone
        if self._state.state is FeedCondition.DOWN and self._state.rejected == rejected:
            return
        self._metrics.feed_live.labels(self.name).set(0)
        self._metrics.feed_symbols.labels(self.name).set(0)
        self._state = FeedState(self.name, FeedCondition.DOWN, self._kraken.clock.now(), (), rejected)
        await self._announce(publisher)

    async def _publish_down(self, publisher: Publisher) -> None:
        """A clean stop publishes the state down itself; the last will serves every other end."""
        self._state = FeedState(self.name, FeedCondition.DOWN, self._kraken.clock.now())
        try:
            async with asyncio.timeout(_PUBLISH_DOWN_SECONDS):
                await (await publisher.feed_state(self._state))
        except (TimeoutError, BusError) as error:
            log.warning("feed.disconnect-failed", feed=self.name, error=str(error))


def rejected_of(reports: Collection[FeedReport]) -> dict[str, str]:
    """All rejected symbols with Kraken's reason."""
    return {symbol: reason for report in reports for symbol, reason in report.rejected.items()}
