"""The bus on top of links: reconnecting, keeping order, bounds, subscriptions and acknowledgements."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from ingress_common.bus.inbox import Inbox
from ingress_common.bus.link import Link, LinkError, LinkHandler, Opened
from ingress_common.bus.port import BusClosedError, BusError, Event, Message
from ingress_common.logs import get_logger
from ingress_common.metrics import BusMetrics, Connection

_OPEN_SECONDS = 10.0
_ATTEMPT_SECONDS = 5.0
_BACKOFF_FIRST = 0.2
_BACKOFF_LAST = 5.0
_STABLE_SECONDS = 1.0
# How often a message is first among the unconfirmed ones of a brief connection before they go out one at a time, and
# alone on one before it is given up.
_LOSSES_TOGETHER = 2
_LOSSES_ALONE = 3
_FILTERS_PER_PACKET = 200

MAXIMUM_PAYLOAD = 4 * 1024 * 1024
"""Bytes of a message, unless a bus is told to take less."""

log = get_logger(__name__)


class _LostError(Exception):
    """The connection went away before the broker answered."""


class _Publication:
    __slots__ = ("done", "losses", "payload", "qos", "retain", "topic")

    def __init__(self, topic: str, payload: bytes, qos: int, retain: bool, done: asyncio.Future[None]) -> None:  # noqa: FBT001
        self.topic, self.payload, self.qos, self.retain, self.done = topic, payload, qos, retain, done
        self.losses = 0

    def packet_size(self) -> int:
        """The size of its MQTT 5 packet in bytes, at most: header, length, topic, identifier, no properties."""
        return 1 + 4 + 2 + len(self.topic.encode()) + 2 + 1 + len(self.payload)

    def finish(self, error: Exception | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class _Ack:
    """Acknowledges one message on the connection that brought it, once: identifiers are used again."""

    __slots__ = ("_connection", "_token")

    def __init__(self, connection: "_Connection", token: int) -> None:
        self._connection: _Connection | None = connection
        self._token = token

    def __call__(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.alive:
            connection.acknowledge(self._token)


class _Events:
    """The inbox as an iterator."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._inbox.get()
        if event is None:
            raise StopAsyncIteration
        return event


def _nothing_to_acknowledge() -> None:
    """QoS 0 messages are not acknowledged."""


class _Connection:
    """One link and what is under way on it. Calls of a link that is over are ignored."""

    def __init__(self, session: "Session", make_link: Callable[[LinkHandler], Link]) -> None:
        self._session = session
        self.link = make_link(self)
        self.alive = False
        self.window = 0
        self.maximum_packet: int | None = None
        self.in_flight: dict[int, _Publication] = {}
        self.unconfirmed = 0
        self.unacknowledged: deque[int] = deque()
        self.ready: set[int] = set()
        self.answers: dict[int, asyncio.Future[list[str | None]]] = {}
        self.over = asyncio.Event()
        self.since = 0.0
        self.reason = ""

    def opened(self, opened: Opened) -> None:
        self.alive = True
        self.since = asyncio.get_running_loop().time()
        self.window, self.maximum_packet = opened.window, opened.maximum_packet
        self._session.established(self, session_kept=opened.session_kept)

    def arrived(self, topic: str, payload: bytes, qos: int, *, retain: bool, token: int) -> None:
        if self.alive:
            if qos:
                self.unacknowledged.append(token)
            if len(payload) > self._session.payload_limit:
                payload = payload[: self._session.payload_limit + 1]
            ack = _Ack(self, token) if qos else _nothing_to_acknowledge
            self._session.inbox.put(Message(topic, payload, min(qos, 1), retain, ack))

    def acknowledge(self, token: int) -> None:
        """Acknowledge in the order of arrival, as MQTT asks (MQTT-4.6.0-2); rumqttd ends a connection that does not."""
        self.ready.add(token)
        while self.unacknowledged and self.unacknowledged[0] in self.ready:
            first = self.unacknowledged.popleft()
            self.ready.remove(first)
            self.link.acknowledge(first)

    def published(self, token: int, error: str | None) -> None:
        publication = self.in_flight.pop(token, None)
        if publication is not None:
            self.unconfirmed -= publication.qos
            self._session.settled(publication, error)

    def confirmed(self, token: int, errors: list[str | None]) -> None:
        answer = self.answers.pop(token, None)
        if answer is not None and not answer.done():
            answer.set_result(errors)

    def lost(self, reason: str, *, blamed: bool) -> None:
        if not self.over.is_set():
            self.reason = reason
            self.over.set()
            if self.alive:
                self._session.gone(self, blamed=blamed)

    def send(self, publication: _Publication) -> None:
        self.unconfirmed += publication.qos
        token = self.link.publish(
            publication.topic, publication.payload, qos=publication.qos, retain=publication.retain
        )
        self.in_flight[token] = publication

    async def subscribe(self, filters: list[str], *, no_local: bool) -> list[str | None]:
        return await self._answer(self.link.subscribe(filters, no_local=no_local))

    async def unsubscribe(self, filters: list[str]) -> None:
        await self._answer(self.link.unsubscribe(filters))

    async def _answer(self, token: int) -> list[str | None]:
        answer: asyncio.Future[list[str | None]] = asyncio.get_running_loop().create_future()
        self.answers[token] = answer
        return await answer


class Session:
    """The `Bus` port over links that `make_link` makes. `name` is the broker's, without its password, for messages.

    `inbound_limit` and `outbound_limit` in messages. `payload_limit` in bytes: of what is longer, one byte more than
    that arrives.
    """

    def __init__(
        self,
        name: str,
        make_link: Callable[[LinkHandler], Link],
        *,
        inbound_limit: int,
        outbound_limit: int,
        metrics: BusMetrics | None = None,
        payload_limit: int = MAXIMUM_PAYLOAD,
    ) -> None:
        if not (1 <= inbound_limit <= 65535 and 1 <= outbound_limit <= 65535):
            raise ValueError(
                f"expected limits from 1 to 65535, got {inbound_limit} inbound and {outbound_limit} outbound"
            )
        self._name = name
        self._make_link = make_link
        self.payload_limit = payload_limit
        self._metrics = metrics or BusMetrics(CollectorRegistry(), "")
        self.inbox = Inbox(inbound_limit, self._metrics)
        self._slots = asyncio.Semaphore(outbound_limit)
        self._waiting: deque[_Publication] = deque()
        self._suspects = 0
        self._subscriptions: dict[str, bool] = {}
        self._connection: _Connection | None = None
        self._up = asyncio.Event()
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None
        self._watched = Connection(
            lambda: self.connected, self.inbox.__len__, inbound_limit, self._outbound, outbound_limit
        )

    # The port

    async def __aenter__(self) -> Self:
        """Connect; BusError if the broker refuses or cannot be reached within about 10 s."""
        connection = await self._first_connection()
        self._metrics.opened(self._watched)
        self._keeper = asyncio.create_task(self._keep(connection), name="bus.keep-connected")
        self._keeper.add_done_callback(self._keeper_done)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye and release everything; what is not confirmed by then fails with BusClosedError."""
        self._closed = True
        self._metrics.closed(self._watched)
        try:
            if self._keeper is not None:
                self._keeper.cancel()
                await asyncio.wait([self._keeper])
            if self._connection is not None:
                await self._connection.link.close()
        finally:
            if self._connection is not None:
                self._connection.link.abort()
                self._connection.lost("closed", blamed=False)
            while self._waiting:
                self._release(
                    self._waiting.popleft(), BusClosedError("the bus was closed before the broker had the message")
                )
            self._up.set()
            self.inbox.close()

    @property
    def connected(self) -> bool:
        """Whether the broker is there now."""
        return self._connection is not None

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:
        """Subscribe with QoS 1; BusError if the broker refuses a filter."""
        if no_local and any(f.startswith("$share/") for f in filters):
            raise ValueError("expected no_local only without a shared subscription, which MQTT 5 forbids")
        for chunk in _chunks(filters):
            errors = await self._until_answered(lambda c, chunk=chunk: c.subscribe(chunk, no_local=no_local))  # type: ignore[misc]
            for topic_filter, error in zip(chunk, errors or [], strict=False):
                if error is not None:
                    raise BusError(f"the MQTT broker at {self._name} refused to subscribe {topic_filter}: {error}")
                self._subscriptions[topic_filter] = no_local

    async def unsubscribe(self, *filters: str) -> None:
        """End subscriptions; unknown filters are ignored."""
        known = [f for f in filters if self._subscriptions.pop(f, None) is not None]
        for chunk in _chunks(known):
            await self._until_answered(lambda c, chunk=chunk: c.unsubscribe(chunk))  # type: ignore[misc]

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Awaitable[None]:
        """Hand a message over, in order. ValueError for a topic with wildcards or a QoS other than 0 and 1."""
        if not topic or "+" in topic or "#" in topic or "\0" in topic or len(topic.encode()) > 65535:
            raise ValueError(f"expected a topic without wildcards, got {topic!r}")
        if qos not in (0, 1):
            raise ValueError(f"expected QoS 0 or 1, got {qos}")
        if qos or self.connected:
            await self._slots.acquire()
            if self._closed:
                self._slots.release()
        if self._closed:
            raise BusClosedError(f"expected an open bus, the one to {self._name} has been closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The caller need not await it: a failure is counted, and is not to be reported as forgotten.
        done.add_done_callback(lambda f: f.cancelled() or f.exception())
        publication = _Publication(topic, payload, qos, retain, done)
        if not qos and not self.connected:
            return self._drop_offline(publication)
        self._waiting.append(publication)
        self._pump()
        return done

    def events(self) -> AsyncIterator[Event]:
        """Everything that arrives, until the bus is closed. Cancelling a wait for the next event loses nothing."""
        return _Events(self.inbox)

    # Called by connections

    def established(self, connection: _Connection, *, session_kept: bool) -> None:
        """`connection` works: restore the subscriptions, go on sending."""
        self._connection = connection
        self._metrics.connect(session_kept=session_kept)
        self.inbox.connected(session_kept=session_kept)
        for no_local in (False, True):
            for chunk in _chunks([f for f, own in self._subscriptions.items() if own is no_local]):
                token = connection.link.subscribe(chunk, no_local=no_local)
                answer: asyncio.Future[list[str | None]] = asyncio.get_running_loop().create_future()
                answer.add_done_callback(lambda f, chunk=chunk: self._restored(chunk, f))  # type: ignore[misc]
                connection.answers[token] = answer
        self._up.set()
        self._pump()

    def gone(self, connection: _Connection, *, blamed: bool) -> None:
        """`connection` is over: what was unconfirmed waits, in order, to be sent again.

        A message that the broker cannot stand would end every connection and block all that follow. So where one of
        ours may be the cause, they go out one at a time until the culprit is alone; that one fails, the rest goes on.
        """
        connection.alive = False
        if self._connection is not connection:
            return
        self._connection = None
        self._up.clear()
        self._look_for_culprit(connection, blamed=blamed)
        again = [*connection.in_flight.values(), *self._waiting]
        connection.in_flight.clear()
        self._waiting.clear()
        self._waiting.extend(publication for publication in again if publication.qos)
        for publication in again:
            if not publication.qos:
                self._metrics.dropped("offline")
                self._release(publication)
        for answer in connection.answers.values():
            if not answer.done():
                answer.set_exception(_LostError(connection.reason))
        connection.answers.clear()

    def _look_for_culprit(self, connection: _Connection, *, blamed: bool) -> None:
        unconfirmed = [publication for publication in connection.in_flight.values() if publication.qos]
        brief = asyncio.get_running_loop().time() - connection.since < _STABLE_SECONDS
        if not unconfirmed or not (blamed or brief):
            return
        first = unconfirmed[0]
        first.losses += 1
        if len(unconfirmed) == 1 and (blamed or first.losses >= _LOSSES_ALONE):
            connection.in_flight = {t: p for t, p in connection.in_flight.items() if p is not first}
            self._suspects = max(self._suspects - 1, 0)
            self._refused(first, connection.reason)
        elif not self._suspects and (blamed or first.losses >= _LOSSES_TOGETHER):
            self._suspects = len(unconfirmed)
            first.losses = 0

    def settled(self, publication: _Publication, error: str | None) -> None:
        """The broker has answered for `publication`."""
        self._suspects = max(self._suspects - publication.qos, 0)
        if error is None:
            self._metrics.published.inc()
            self._release(publication)
        else:
            self._refused(publication, error)
        self._pump()

    # Inside

    def _pump(self) -> None:
        """Send what waits, in order, as far as the broker's window allows."""
        connection = self._connection
        while self._waiting and connection is not None and connection.alive:
            publication = self._waiting[0]
            if publication.qos and connection.unconfirmed >= (1 if self._suspects else connection.window):
                return
            self._waiting.popleft()
            if connection.maximum_packet is not None and publication.packet_size() > connection.maximum_packet:
                size = f"{len(publication.payload)} bytes of payload"
                self._refused(publication, f"{size} exceed its maximum packet of {connection.maximum_packet} bytes")
            else:
                connection.send(publication)

    def _refused(self, publication: _Publication, error: str) -> None:
        self._metrics.publish_failures.inc()
        log.warning("bus.publish-refused", topic=publication.topic, reason=error)
        self._release(
            publication, BusError(f"the MQTT broker at {self._name} refused a message on {publication.topic}: {error}")
        )

    def _release(self, publication: _Publication, error: Exception | None = None) -> None:
        self._slots.release()
        publication.finish(error)

    def _drop_offline(self, publication: _Publication) -> Awaitable[None]:
        self._metrics.dropped("offline")
        publication.finish()
        return publication.done

    def _outbound(self) -> int:
        return len(self._waiting) + (len(self._connection.in_flight) if self._connection else 0)

    def _restored(self, filters: list[str], answer: asyncio.Future[list[str | None]]) -> None:
        if answer.cancelled() or answer.exception():
            return
        for topic_filter, error in zip(filters, answer.result(), strict=False):
            if error is not None:
                log.error("bus.subscription-refused", filter=topic_filter, reason=error)

    async def _until_answered(
        self, ask: Callable[[_Connection], Awaitable[list[str | None] | None]]
    ) -> list[str | None] | None:
        """Ask the broker, again after each reconnect until it answers."""
        while True:
            await self._up.wait()
            connection = self._connection
            if self._closed or connection is None:
                raise BusClosedError(f"expected an open bus, the one to {self._name} has been closed")
            try:
                return await ask(connection)
            except _LostError:
                if self._closed:
                    raise BusClosedError(f"the bus to {self._name} was closed") from None

    async def _first_connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _OPEN_SECONDS
        attempt = 0
        while True:
            try:
                return await self._connect(min(_ATTEMPT_SECONDS, max(deadline - loop.time(), 0.5)))
            except LinkError as error:
                delay = _backoff(attempt)
                if error.permanent:
                    raise BusError(f"the MQTT broker at {self._name} refuses the connection: {error}") from None
                if loop.time() + delay >= deadline:
                    raise BusError(f"cannot reach an MQTT broker at {self._name}: {error}") from None
                attempt += 1
                await asyncio.sleep(delay)

    async def _connect(self, timeout: float) -> _Connection:  # noqa: ASYNC109 - the link needs it too, to end its own thread
        connection = _Connection(self, self._make_link)
        try:
            await connection.link.open(timeout)
        except LinkError:
            self._metrics.connect_failures.inc()
            raise
        return connection

    async def _keep(self, connection: _Connection) -> None:
        """Reconnect whenever the connection is over, with backoff and without end."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            log.info("bus.connected", broker=self._name)
            await connection.over.wait()
            log.warning("bus.connection-lost", broker=self._name, reason=connection.reason)
            # A broker that accepts and ends connections at once is not hammered either.
            attempt = 0 if loop.time() - connection.since >= _STABLE_SECONDS else attempt + 1
            connection = await self._reconnect(attempt)

    async def _reconnect(self, attempt: int) -> _Connection:
        while True:
            await asyncio.sleep(_backoff(attempt))
            try:
                return await self._connect(_ATTEMPT_SECONDS)
            except LinkError as error:
                attempt += 1
                log.debug("bus.reconnect-failed", broker=self._name, attempt=attempt, reason=str(error))

    def _keeper_done(self, keeper: asyncio.Task[None]) -> None:
        # A defect in the keeper must not leave a bus that waits for ever.
        if not keeper.cancelled() and (failure := keeper.exception()):
            self.inbox.close(failure)


def _backoff(attempt: int) -> float:
    """Seconds to wait before attempt number `attempt` + 1: exponential, with full jitter."""
    return random.uniform(0, min(_BACKOFF_LAST, _BACKOFF_FIRST * 2 ** min(attempt, 16)))  # noqa: S311 - jitter


def _chunks(filters: tuple[str, ...] | list[str]) -> list[list[str]]:
    return [list(filters[i : i + _FILTERS_PER_PACKET]) for i in range(0, len(filters), _FILTERS_PER_PACKET)]
