"""One connection to the broker and the messages in flight on it."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from ingress_common.bus.event_queue import EventQueue
from ingress_common.bus.link import Link, LinkHandler, Opened
from ingress_common.bus.port import Message
from ingress_common.bus.publication import Publication

_BRIEF_SECONDS = 1.0


class LostError(Exception):
    """The connection ended before the broker's response."""


class ConnectionOwner(Protocol):
    """The owner of a connection, called when it opens, when it ends and when the broker responds to a publication."""

    def connected_by(self, connection: "BrokerConnection", *, session_kept: bool) -> None:
        """The broker has accepted `connection`."""
        ...

    def disconnected(self, connection: "BrokerConnection", *, blamed: bool) -> None:
        """`connection` has ended. `blamed`: a message that was sent on it is the cause."""
        ...

    def confirmed_by(self, publication: Publication, error: str | None, *, blamed: bool) -> None:
        """The broker has accepted `publication`, or refused it with the reason `error`, which may blame it alone."""
        ...


class BrokerConnection:
    """Handles one link: puts arriving messages into `inbox` and keeps sent ones until the broker confirms them.

    Ignores calls of a link that has ended.
    """

    def __init__(
        self, owner: ConnectionOwner, inbox: EventQueue, payload_limit: int, make_link: Callable[[LinkHandler], Link]
    ) -> None:
        self._owner = owner
        self._inbox = inbox
        self._payload_limit = payload_limit
        self.link = make_link(self)
        self.alive = False
        self.window = 0
        self.maximum_packet = 0
        self.in_flight: dict[int, Publication] = {}
        self.unconfirmed = 0
        self._responses: dict[int, asyncio.Future[list[str | None]]] = {}
        # Tokens of unacknowledged messages, in order; `_acknowledged` is the number of the first one.
        self._unacknowledged: deque[int] = deque()
        self._arrived = 0
        self._acknowledged = 0
        self._ready: set[int] = set()
        self._paused = False
        self._opened_at = 0.0
        self.session_kept = False
        """Whether the broker resumed the session of an earlier connection."""
        self.over = asyncio.Event()
        self.brief = True
        """Whether the ended connection was open for less than a second."""
        self.reason = ""

    # Called by the link

    def opened(self, opened: Opened) -> None:
        """Store the broker's limits and report the connection to the owner."""
        self.alive = True
        self._opened_at = asyncio.get_running_loop().time()
        self.session_kept = opened.session_kept
        self.window, self.maximum_packet = opened.window, opened.maximum_packet
        self._owner.connected_by(self, session_kept=opened.session_kept)

    def arrived(
        self, topic: str, payload: bytes, qos: int, *, retain: bool, token: int, properties: Mapping[str, str]
    ) -> None:
        """Queue a message. A payload above the limit is cut to one byte more than the limit."""
        if not self.alive:
            return
        if len(payload) > self._payload_limit:
            payload = payload[: self._payload_limit + 1]
        if qos:
            ack: Callable[[], None] = partial(self._acknowledge, self._arrived)
            self._arrived += 1
            self._unacknowledged.append(token)
            self._inbox.put(Message(topic, payload, 1, retain, ack, properties))
            if self._inbox.is_full:
                self._pause()
        else:
            self._inbox.put(Message(topic, payload, 0, retain, _nothing_to_acknowledge, properties))

    def published(self, token: int, error: str | None, *, blamed: bool = False) -> None:
        """Report the broker's response to a publication to the owner."""
        publication = self.in_flight.pop(token, None)
        if publication is not None:
            self.unconfirmed -= publication.qos
            self._owner.confirmed_by(publication, error, blamed=blamed)

    def confirmed(self, token: int, errors: list[str | None]) -> None:
        """Complete the subscribe or unsubscribe that the broker has responded to."""
        response = self._responses.pop(token, None)
        if response is not None and not response.done():
            response.set_result(errors)

    def lost(self, reason: str, *, blamed: bool) -> None:
        """End the connection: the owner takes the messages in flight; pending subscribes raise LostError."""
        if self.over.is_set():
            return
        self.reason = reason
        self.brief = asyncio.get_running_loop().time() - self._opened_at < _BRIEF_SECONDS
        self.over.set()
        if self.alive:
            self.alive = False
            self._owner.disconnected(self, blamed=blamed)
        for response in self._responses.values():
            if not response.done():
                response.set_exception(LostError(reason))
        self._responses.clear()

    # Called by the session

    def send(self, publication: Publication) -> bool:
        """Send a message. Returns False if the connection ended meanwhile. ValueError if it cannot be sent at all."""
        self._resume()
        token = self.link.publish(
            publication.topic,
            publication.payload,
            qos=publication.qos,
            retain=publication.retain,
            properties=publication.properties,
        )
        if self.alive:
            self.in_flight[token] = publication
            self.unconfirmed += publication.qos
        return self.alive

    def subscribe(self, filters: list[str], *, no_local: bool) -> asyncio.Future[list[str | None]]:
        """Subscribe. The future gives an error or None for each filter, or raises LostError."""
        return self._response_to(self.link.subscribe(filters, no_local=no_local))

    def unsubscribe(self, filters: list[str]) -> asyncio.Future[list[str | None]]:
        """Unsubscribe. The future gives an error or None for each filter, or raises LostError."""
        return self._response_to(self.link.unsubscribe(filters))

    def _pause(self) -> None:
        """Stop reading until the inbox has room, unless the consumer may be waiting for an outstanding response: of a
        publication, or, before it takes its first event, of a subscription.

        Mosquitto responds to a subscription after everything that it kept for the session, up to 100,000 messages.
        """
        if not self._paused and not self.unconfirmed and (self._inbox.is_consumed or not self._responses):
            self._paused = True
            self._inbox.on_room = self._resume
            self.link.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if self.alive:
                self.link.resume_reading()

    def _response_to(self, token: int) -> asyncio.Future[list[str | None]]:
        self._resume()
        response: asyncio.Future[list[str | None]] = asyncio.get_running_loop().create_future()
        if self.alive:
            self._responses[token] = response
        else:
            response.set_exception(LostError(self.reason))
        return response

    def _acknowledge(self, number: int) -> None:
        """Acknowledge in the order of arrival, as MQTT requires (MQTT-4.6.0-2); else rumqttd ends the connection.

        `number` counts arrivals. Tokens are reused, so a second call must not acknowledge a later message.
        """
        if not self.alive or number < self._acknowledged:
            return
        self._ready.add(number)
        while self._acknowledged in self._ready:
            self._ready.remove(self._acknowledged)
            self._acknowledged += 1
            self.link.acknowledge(self._unacknowledged.popleft())


def _nothing_to_acknowledge() -> None:
    """Do nothing: QoS 0 messages are not acknowledged."""
