"""Which pairs Kraken trades: REST's list at the start, and from then on what its `instrument` channel tells."""

import asyncio
from collections.abc import Callable, Mapping

from ingress_common.logs import get_logger
from kraken_gateway.kraken import protocol
from kraken_gateway.kraken.budget import Backoff, Urgency
from kraken_gateway.kraken.connection import SILENCE, Connection, ConnectionLost, Kraken, Received
from kraken_gateway.kraken.kraken_time import KrakenTime
from kraken_gateway.kraken.rest import KrakenRest, RestError, UnknownPairError
from kraken_gateway.metrics import GatewayMetrics

_SOURCE = "instruments"
_REST_SECONDS = 5.0
_LIST_SECONDS = 15.0
_PING_SECONDS = 20.0
_STEADY_CONNECTION = 60.0

log = get_logger(__name__)


class Instruments:
    """Follows the list of pairs; `changed` is told the whole list, with each pair's status, whenever it has changed.

    The first one is REST's. The connection that follows it is opened `list_after` seconds later, so that a gateway that
    does not live long does without; at once if REST has no list.
    """

    def __init__(
        self,
        kraken: Kraken,
        rest: KrakenRest,
        metrics: GatewayMetrics,
        changed: Callable[[Mapping[str, str]], None],
        list_after: float,
    ) -> None:
        self._kraken = kraken
        self._rest = rest
        self._list_after = list_after
        self._metrics = metrics
        self._changed = changed
        self._pairs: Mapping[str, str] = {}
        self._listed = False
        self._trouble = "Kraken's list of pairs is not here yet"

    @property
    def trouble(self) -> str:
        """Why the list is not followed at present; empty if it is."""
        return self._trouble

    async def run(self) -> None:
        """Follow until cancelled."""
        if await self._told_by_rest():
            await asyncio.sleep(self._list_after)
        backoff = Backoff(at_once=1)
        loop = asyncio.get_running_loop()
        while True:
            # Without a list the symbols of a wildcard are not known; with one it can wait for others.
            urgency = Urgency.SHORT if self._pairs else Urgency.LIVE
            began, worked = loop.time(), False
            try:
                async with self._kraken.connect(urgency) as connection:
                    self._metrics.connects.labels(_SOURCE).inc()
                    try:
                        await self._follow(connection)
                    finally:
                        worked = connection.has_worked
            except ConnectionLost as lost:
                if self._trouble != str(lost):
                    log.warning("instruments.lost", reason=lost.reason, detail=str(lost))
                self._trouble = str(lost)
            if loop.time() - began >= _STEADY_CONNECTION:
                backoff.reset()
            if worked:
                await asyncio.sleep(backoff.pause(cap=self._kraken.fair_pause))

    async def _told_by_rest(self) -> bool:
        try:
            async with asyncio.timeout(_REST_SECONDS):
                pairs = await self._rest.pairs()
        except (TimeoutError, RestError, UnknownPairError) as error:
            detail = str(error) or f"no answer within {_REST_SECONDS:.0f} s"
            log.warning("instruments.not-by-rest", detail=detail)
            return False
        if not pairs:
            return False
        self._pairs = {symbol: pair.status for symbol, pair in pairs.items()}
        self._trouble = ""
        self._changed(self._pairs)
        return True

    async def _follow(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        time = KrakenTime(connection.time.offset)
        began = loop.time()
        self._listed = False
        await connection.send(protocol.subscribe_instruments(connection.next_id()))
        next_ping = loop.time()
        while True:
            if loop.time() >= next_ping:
                await connection.send(protocol.ping(connection.next_id()))
                next_ping = loop.time() + _PING_SECONDS
            received = await connection.receive(min(next_ping, connection.last_arrival + SILENCE))
            if received is not None:
                self._take(received, connection, time)
            if loop.time() - connection.last_arrival >= SILENCE:
                raise ConnectionLost("silent", f"no frame for {SILENCE:.0f} s")
            if not self._listed and loop.time() - began >= _LIST_SECONDS:
                url = self._kraken.url
                raise ConnectionLost("unanswered", f"{url} did not list its pairs within {_LIST_SECONDS:.0f} s")

    def _take(self, received: Received, connection: Connection, time: KrakenTime) -> None:
        frame = protocol.parse_frame(received.frame)
        self._metrics.frames.labels(type(frame).__name__.lower()).inc()
        match frame:
            case protocol.Instruments():
                self._take_pairs(frame, connection)
            case protocol.Pong() if frame.time is not None:
                # Kraken answers: should it not list its pairs, that is no trouble of the feeds.
                connection.worked()
                time.observe_reply(frame.time, received.steady)
                connection.time.learn(_SOURCE, time.offset)
            case protocol.Refusal():
                raise ConnectionLost("refused", f"{self._kraken.url} does not list its pairs: {frame.error}")
            case protocol.RateExceeded():
                raise ConnectionLost("rate", "Kraken says: exceeded msg rate")
            case protocol.Unreadable() if self._listed:
                # It may have told of a change: a new list does.
                raise ConnectionLost("unreadable", f"a change may be lost: {frame.reason}")
            case _:
                pass

    def _take_pairs(self, frame: protocol.Instruments, connection: Connection) -> None:
        if frame.snapshot and not frame.pairs:
            log.warning("instruments.empty")
            return
        # No recording of an update exists: it is taken as the pairs that have changed, in the form of the list.
        pairs = frame.pairs if frame.snapshot else {**self._pairs, **frame.pairs}
        if frame.snapshot:
            connection.worked()
            self._listed, self._trouble = True, ""
        if pairs != self._pairs:
            self._pairs = pairs
            self._changed(pairs)
