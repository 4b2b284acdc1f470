"""The pairs that Kraken trades: REST's list at the start, then the `instrument` channel."""

import asyncio
from collections.abc import Callable, Mapping

from ingress_common.logs import get_logger
from kraken_gateway.kraken import protocol
from kraken_gateway.kraken.connection import Connection, ConnectionLost, Kraken, Received
from kraken_gateway.kraken.limits import LEAST_PAUSE, ConnectionBackoff
from kraken_gateway.kraken.rest import KrakenRest, RestError, UnknownPairError
from kraken_gateway.metrics import GatewayMetrics

_REST_SECONDS = 10.0
_REST_RETRY_SECONDS = 10.0
_BURST_SECONDS = 1.0
_LIST_SECONDS = 15.0
_STEADY_CONNECTION = 60.0

log = get_logger(__name__)


class Instruments:
    """Follows the list of pairs. `changed` receives the whole list, with each pair's status, after each change.

    The first list is REST's, because that needs no connection; it is refreshed with every change.
    """

    def __init__(
        self,
        kraken: Kraken,
        rest: KrakenRest,
        metrics: GatewayMetrics,
        changed: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._kraken = kraken
        self._rest = rest
        self._metrics = metrics
        self._changed = changed
        self._pairs: Mapping[str, str] = {}
        self._listed = False
        self._changed_at_rest = asyncio.Event()
        self._problem = "Kraken's list of pairs has not been received yet"

    @property
    def problem(self) -> str:
        """Why the list cannot be followed at present; empty if it can."""
        return self._problem

    def refresh(self) -> None:
        """Refresh REST's list."""
        self._rest.pairs_changed()
        self._changed_at_rest.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._read_rest()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_connected(), name="instruments.connection")
            tasks.create_task(self._keep_rest_read(), name="instruments.rest")

    async def _keep_rest_read(self) -> None:
        while True:
            await self._changed_at_rest.wait()
            self._changed_at_rest.clear()
            # Changes arrive in bursts, and REST has them a little later.
            await asyncio.sleep(_BURST_SECONDS)
            try:
                await self._rest.pairs()
            except (RestError, UnknownPairError) as error:
                log.warning("instruments.no-rest", detail=str(error))
                await asyncio.sleep(_REST_RETRY_SECONDS)
                self._changed_at_rest.set()

    async def _keep_connected(self) -> None:
        backoff = ConnectionBackoff(at_once=1)
        loop = asyncio.get_running_loop()
        while True:
            began, worked, floor = loop.time(), False, 0.0
            try:
                async with self._kraken.connect("instruments") as connection:
                    try:
                        await self._follow(connection)
                    finally:
                        worked = connection.has_worked
            except ConnectionLost as lost:
                self._metrics.losses.labels(lost.reason).inc()
                if self._problem != str(lost):
                    log.warning("instruments.lost", reason=lost.reason, detail=str(lost))
                self._problem = str(lost)
                floor = LEAST_PAUSE.get(lost.reason, 0.0)
            if loop.time() - began >= _STEADY_CONNECTION:
                backoff.reset()
            if worked:
                await asyncio.sleep(backoff.pause(at_least=floor, cap=self._kraken.limiter.fair_pause))

    async def _read_rest(self) -> None:
        try:
            async with asyncio.timeout(_REST_SECONDS):
                pairs = await self._rest.pairs()
        except (TimeoutError, RestError, UnknownPairError) as error:
            log.warning("instruments.no-rest", detail=str(error) or f"no response within {_REST_SECONDS:.0f} s")
            return
        if pairs:
            self._pairs = {symbol: pair.status for symbol, pair in pairs.items()}
            self._problem = ""
            self._changed(self._pairs)

    async def _follow(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LIST_SECONDS
        self._listed = False
        await connection.subscribe(protocol.instruments(), connection.next_id())
        while True:
            await connection.wait(float("inf") if self._listed else deadline)
            for received in connection.receive():
                self._take(received, connection)
            if not self._listed and loop.time() >= deadline:
                url = self._kraken.url
                raise ConnectionLost("unanswered", f"{url} did not list its pairs within {_LIST_SECONDS:.0f} s")

    def _take(self, received: Received, connection: Connection) -> None:
        match received.frame:
            case protocol.InstrumentFrame() as frame:
                self._take_pairs(frame, connection)
            case protocol.Pong():
                # Kraken responds. If it does not list its pairs, the feeds are not affected.
                connection.worked()
            case protocol.Refusal() as frame:
                raise ConnectionLost("refused", f"{self._kraken.url} does not list its pairs: {frame.error}")
            case protocol.RateExceeded():
                raise ConnectionLost("rate", "Kraken responded: exceeded msg rate")
            case protocol.Unreadable() as frame if self._listed:
                # It may have been a change: a new list contains it.
                raise ConnectionLost("unreadable", f"a change may be lost: {frame.reason}")
            case _:
                pass

    def _take_pairs(self, frame: protocol.InstrumentFrame, connection: Connection) -> None:
        if frame.snapshot and not frame.pairs:
            log.warning("instruments.empty")
            return
        # No recording of an update exists: an update is assumed to list the changed pairs in the same form.
        pairs = frame.pairs if frame.snapshot else {**self._pairs, **frame.pairs}
        # REST has the details of any change, such as the price decimals.
        self.refresh()
        if frame.snapshot:
            connection.worked()
            self._listed, self._problem = True, ""
        if pairs != self._pairs:
            self._pairs = pairs
            self._changed(pairs)
