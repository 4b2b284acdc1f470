"""The bus session: one client's order, limits, subscriptions and acknowledgements over successive links."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from ingress_common.backoff import FULL_JITTER, Backoff
from ingress_common.bus.connection import BrokerConnection, LostError
from ingress_common.bus.event_queue import EventQueue
from ingress_common.bus.link import Link, LinkError, LinkHandler
from ingress_common.bus.port import BusClosedError, BusError, Event
from ingress_common.bus.publication import Publication
from ingress_common.bus.refusals import Refusals
from ingress_common.logs import get_logger
from ingress_common.metrics import BusGauges, BusMetrics

_OPEN_SECONDS = 10.0
_ATTEMPT_SECONDS = 5.0
_BACKOFF = Backoff(0.2, 5.0, FULL_JITTER)
_RESUBSCRIBE_SECONDS = 0.2
_RETRY_LOOK_SECONDS = 2.0
_FILTERS_PER_PACKET = 200
_SHOWN = 5
_BRIEF_LIMIT = 30
"""Brief connections in a row after which the session itself is suspected; with the backoff this takes over a minute."""

MAXIMUM_PAYLOAD = 4 * 1024 * 1024
"""Default for the maximum size in bytes of a message."""

log = get_logger(__name__)


class BusSession:
    """The `Bus` port over the links that `make_link` creates. `name`: the broker's URL without password, for log lines.

    `inbound_limit` and `outbound_limit` in messages. `payload_limit` in bytes; a longer payload arrives cut to one byte
    more.
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
        self._payload_limit = payload_limit
        self._metrics = metrics or BusMetrics(CollectorRegistry(), "")
        self.inbox = EventQueue(inbound_limit, self._metrics)
        self._slots = asyncio.Semaphore(outbound_limit)
        self._waiting: deque[Publication] = deque()
        self._suspects = 0
        self._subscriptions: dict[str, bool] = {}
        self._refused_filters: set[str] = set()
        self._refusals = Refusals(time.monotonic)
        self._connection: BrokerConnection | None = None
        self._away_for = ""  # why the last attempt to connect failed
        self._up = asyncio.Event()
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None
        self._retrier: asyncio.Task[None] | None = None
        self._gauges = BusGauges(
            lambda: self.connected, self.inbox.__len__, inbound_limit, self._outbound, outbound_limit
        )

    # The port

    async def __aenter__(self) -> Self:
        """Connect; BusError if the broker refuses or cannot be reached within about 10 s."""
        connection = await self._first_connection()
        self._metrics.opened(self._gauges)
        self._keeper = asyncio.create_task(self._keep(connection), name="bus.keep-connected")
        self._keeper.add_done_callback(self._keeper_done)
        self._retrier = asyncio.create_task(self._retry_refused(), name="bus.retry-refused")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect cleanly and release all resources; what is not confirmed by then fails with BusClosedError."""
        self._closed = True
        self._metrics.closed(self._gauges)
        try:
            if tasks := [task for task in (self._keeper, self._retrier) if task is not None]:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
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
        """Whether the broker is connected and has granted every subscription."""
        return self._connection is not None and not self._refused_filters

    @property
    def problem(self) -> str:
        """Why the bus does not carry everything at present; empty if it does."""
        if self._connection is None:
            return f"not connected: {self._away_for}" if self._away_for else "not connected"
        if self._refused_filters:
            return f"the broker refuses to subscribe {', '.join(sorted(self._refused_filters)[:_SHOWN])}"
        return self._refusals.problem

    @property
    def maximum_packet(self) -> int | None:
        """The broker's maximum packet size in bytes; None while disconnected."""
        return self._connection.maximum_packet if self._connection is not None else None

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:
        """Subscribe with QoS 1. BusError if the broker refuses a filter."""
        if no_local and any(f.startswith("$share/") for f in filters):
            raise ValueError("expected no_local only without a shared subscription, which MQTT 5 forbids")
        for chunk in _chunks(filters):
            errors = await self._until_confirmed(lambda c, chunk=chunk: c.subscribe(chunk, no_local=no_local))  # type: ignore[misc]
            for topic_filter, error in zip(chunk, errors, strict=False):
                if error is not None:
                    raise BusError(f"the MQTT broker at {self._name} refused to subscribe {topic_filter}: {error}")
                self._subscriptions[topic_filter] = no_local

    async def unsubscribe(self, *filters: str) -> None:
        """End subscriptions; unknown filters are ignored."""
        known = [f for f in filters if self._subscriptions.pop(f, None) is not None]
        for chunk in _chunks(known):
            await self._until_confirmed(lambda c, chunk=chunk: c.unsubscribe(chunk))  # type: ignore[misc]

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> Awaitable[None]:
        """Publish a message, in order. ValueError for a topic with wildcards or a QoS other than 0 and 1."""
        publication = Publication(topic, payload, qos, retain=retain, properties=properties)
        self._check_open()
        if qos and self._refusals:
            self._refusals.superseded(topic)
        if not qos and self._connection is None:
            self._metrics.dropped("offline")
            publication.complete()
            return publication
        await self._slots.acquire()
        if self._closed:
            self._slots.release()
        self._check_open()
        self._waiting.append(publication)
        self._send_waiting()
        return publication

    def events(self) -> AsyncIterator[Event]:
        """All events until the bus is closed. Cancelling a wait for the next event loses nothing."""
        return self.inbox

    # Called by connections

    def connected_by(self, connection: BrokerConnection, *, session_kept: bool) -> None:
        """`connection` has opened: restore the subscriptions and resume sending."""
        self._connection, self._away_for = connection, ""
        self._metrics.connect(session_kept=session_kept)
        self.inbox.connected(session_kept=session_kept)
        for no_local in (False, True):
            for chunk in _chunks([f for f, own in self._subscriptions.items() if own is no_local]):
                self._restore(connection, chunk, no_local=no_local)
        self._up.set()
        self._send_waiting()

    def disconnected(self, connection: BrokerConnection, *, blamed: bool) -> None:
        """`connection` has ended: queue the unconfirmed messages, in order, for resending."""
        if self._connection is not connection:
            return
        self._connection = None
        self._refused_filters.clear()
        self._refusals.forget()
        self._up.clear()
        self._isolate_culprit(connection, blamed=blamed)
        unconfirmed = [*connection.in_flight.values(), *self._waiting]
        connection.in_flight.clear()
        self._waiting = deque(publication for publication in unconfirmed if publication.qos)
        for publication in unconfirmed:
            if not publication.qos:
                self._metrics.dropped("offline")
                self._release(publication)

    def _isolate_culprit(self, connection: BrokerConnection, *, blamed: bool) -> None:
        """Find a message that makes the broker end the connection, so that it does not block all later ones.

        After a brief connection, or if the reason blames a message, send the unconfirmed messages one at a time. A
        message that is blamed while it is the only one in flight fails; after any other end it is resent.
        """
        if not blamed and not connection.brief:
            return
        unconfirmed = [token for token, publication in connection.in_flight.items() if publication.qos]
        if blamed and len(unconfirmed) == 1:
            self._suspects = max(self._suspects - 1, 0)
            self._refused(connection.in_flight.pop(unconfirmed[0]), connection.reason, blamed=True)
        elif unconfirmed:
            self._suspects = max(self._suspects, len(unconfirmed))

    def confirmed_by(self, publication: Publication, error: str | None, *, blamed: bool) -> None:
        """The broker has confirmed or refused `publication`."""
        if self._suspects:
            self._suspects -= publication.qos
        if error is None:
            self._metrics.published.inc()
            if publication.qos:
                self._refusals.accepted(publication.topic)
            self._release(publication)
        else:
            self._refused(publication, error, blamed=blamed)
        if self._waiting:
            self._send_waiting()

    # Inside

    def _restore(self, connection: BrokerConnection, filters: list[str], *, no_local: bool, attempt: int = 0) -> None:
        """Restore subscriptions after a reconnect; retry refused ones with backoff while `connection` lasts."""
        filters = [f for f in filters if f in self._subscriptions]
        if filters and self._connection is connection:
            response = connection.subscribe(filters, no_local=no_local)
            response.add_done_callback(partial(self._restored, connection, filters, no_local, attempt))

    def _restored(
        self,
        connection: BrokerConnection,
        filters: list[str],
        no_local: bool,  # noqa: FBT001 - bound by partial
        attempt: int,
        response: asyncio.Future[list[str | None]],
    ) -> None:
        if response.cancelled() or response.exception() or self._connection is not connection:
            return
        refused = {f: error for f, error in zip(filters, response.result(), strict=False) if error is not None}
        self._refused_filters = (self._refused_filters - set(filters)) | refused.keys()
        if not refused:
            return
        for topic_filter, error in refused.items():
            log.error("bus.subscription-refused", broker=self._name, filter=topic_filter, reason=error)
        retry = partial(self._restore, connection, list(refused), no_local=no_local, attempt=attempt + 1)
        asyncio.get_running_loop().call_later(_RESUBSCRIBE_SECONDS + _BACKOFF.pause(attempt), retry)

    def _send_waiting(self) -> None:
        """Send queued messages, in order, as far as the broker's window allows."""
        connection = self._connection
        while self._waiting and connection is not None and connection.alive:
            publication = self._waiting[0]
            if publication.qos and connection.unconfirmed >= (1 if self._suspects else connection.window):
                return
            if publication.size > connection.maximum_packet:
                size = f"{len(publication.payload)} bytes of payload"
                error = f"{size} exceed its maximum packet of {connection.maximum_packet} bytes"
                self._refused(self._waiting.popleft(), error, blamed=True)
            elif connection.send(publication):
                self._waiting.popleft()

    def _refused(self, publication: Publication, error: str, *, blamed: bool) -> None:
        self._metrics.publish_failures.inc()
        self._refusals.refused(publication, error, blamed=blamed)
        self._release(
            publication, BusError(f"the MQTT broker at {self._name} refused a message on {publication.topic}: {error}")
        )

    async def _retry_refused(self) -> None:
        """Publish refused messages again, but not as retained: a later one may be retained by now, of another client
        too.
        """
        while True:
            await asyncio.sleep(_RETRY_LOOK_SECONDS)
            for refused in self._refusals.due():
                if self._refusals.keeps(refused):
                    await self.publish(refused.topic, refused.payload, properties=refused.properties)

    def _release(self, publication: Publication, error: Exception | None = None) -> None:
        self._slots.release()
        publication.complete(error)

    def _check_open(self) -> None:
        if self._closed:
            raise BusClosedError(f"expected an open bus, the one to {self._name} has been closed")

    def _outbound(self) -> int:
        return len(self._waiting) + (len(self._connection.in_flight) if self._connection else 0)

    async def _until_confirmed(
        self, send: Callable[[BrokerConnection], Awaitable[list[str | None]]]
    ) -> list[str | None]:
        """Send a request to the broker and resend it after each reconnect until the broker responds."""
        while True:
            await self._up.wait()
            connection = self._connection
            self._check_open()
            if connection is not None:
                with suppress(LostError):
                    return await send(connection)

    async def _first_connection(self) -> BrokerConnection:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _OPEN_SECONDS
        attempt = 0
        while True:
            try:
                return await self._connect(min(_ATTEMPT_SECONDS, max(deadline - loop.time(), 0.5)))
            except LinkError as error:
                delay = _BACKOFF.pause(attempt)
                if error.permanent:
                    raise BusError(f"the MQTT broker at {self._name} refuses the connection: {error}") from None
                if loop.time() + delay >= deadline:
                    raise BusError(f"cannot reach an MQTT broker at {self._name}: {error}") from None
                attempt += 1
                await asyncio.sleep(delay)

    async def _connect(self, timeout: float, *, clean_start: bool = False) -> BrokerConnection:  # noqa: ASYNC109 - the link needs it too, to end its own thread
        connection = BrokerConnection(self, self.inbox, self._payload_limit, self._make_link)
        try:
            await connection.link.open(timeout, clean_start=clean_start)
        except LinkError:
            self._metrics.connect_failures.inc()
            raise
        return connection

    async def _keep(self, connection: BrokerConnection) -> None:
        """Reconnect after each lost connection, with backoff and without a last attempt."""
        attempt = 0
        while True:
            log.info("bus.connected", broker=self._name)
            await connection.over.wait()
            log.warning("bus.connection-lost", broker=self._name, reason=connection.reason)
            # A broker that accepts and at once ends connections also gets the backoff.
            attempt = attempt + 1 if connection.brief else 0
            # Only once until a connection lasts: if the clean start does not help, the session was not the cause.
            hopeless = attempt == _BRIEF_LIMIT and connection.session_kept
            if hopeless:
                log.error("bus.session-discarded", broker=self._name, connections=attempt, reason=connection.reason)
            connection = await self._reconnect(attempt, clean_start=hopeless)

    async def _reconnect(self, attempt: int, *, clean_start: bool) -> BrokerConnection:
        while True:
            await asyncio.sleep(_BACKOFF.pause(attempt))
            try:
                return await self._connect(_ATTEMPT_SECONDS, clean_start=clean_start)
            except LinkError as error:
                attempt += 1
                # A line for each new reason: an expired certificate or a changed password is not seen otherwise.
                news = str(error) != self._away_for
                self._away_for = str(error)
                write = log.warning if news else log.debug
                write("bus.reconnect-failed", broker=self._name, attempt=attempt, reason=self._away_for)

    def _keeper_done(self, keeper: asyncio.Task[None]) -> None:
        # An unexpected error in the keeper must reach the consumer instead of leaving it waiting.
        if not keeper.cancelled() and (failure := keeper.exception()):
            self.inbox.close(failure)


def _chunks(filters: tuple[str, ...] | list[str]) -> list[list[str]]:
    return [list(filters[i : i + _FILTERS_PER_PACKET]) for i in range(0, len(filters), _FILTERS_PER_PACKET)]
