"""An in-memory broker and bus for tests: MQTT's behaviour without a network."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ingress_common.bus.link import LinkError, LinkHandler, Opened
from ingress_common.bus.port import NO_PROPERTIES, LastWill
from ingress_common.bus.session import MAXIMUM_PAYLOAD, BusSession
from ingress_common.metrics import BusMetrics


@dataclass(frozen=True, slots=True)
class _Stored:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Mapping[str, str]


@dataclass(slots=True)
class _ClientState:
    """The broker's session of one client, connected or not."""

    expiry: int
    receive_maximum: int
    filters: dict[str, bool] = field(default_factory=dict)
    queued: deque[_Stored] = field(default_factory=deque)
    unacknowledged: OrderedDict[int, _Stored] = field(default_factory=OrderedDict)
    link: "MemoryLink | None" = None
    last_token: int = 0


class MemoryBroker:
    """Retained messages, sessions, shared subscriptions and last wills, in memory. One event loop."""

    def __init__(self) -> None:
        self._clients: dict[str, _ClientState] = {}
        self._retained: dict[str, _Stored] = {}
        self._turns: dict[str, int] = {}
        self._refused: set[str] = set()
        self._stopped = False
        self.refuses: Callable[[str], bool] = lambda _topic: False
        """Whether messages on a topic are refused, because of who sends them."""
        self.drops: Callable[[str, str], bool] = lambda _client_id, _topic: False
        """Whether messages on a topic are silently not delivered to a client."""

    @property
    def retained(self) -> dict[str, bytes]:
        """The retained payloads by topic."""
        return {topic: stored.payload for topic, stored in self._retained.items()}

    def stop(self) -> None:
        """Cut every connection and refuse new ones; sessions and retained messages stay, as on a broker with a disk."""
        self._stopped = True
        links = [state.link for state in self._clients.values() if state.link is not None]
        self._clients = {name: state for name, state in self._clients.items() if state.expiry}
        for state in self._clients.values():
            state.link = None
        for link in links:
            link.cut("the broker stopped")

    def start(self) -> None:
        """Resume accepting connections."""
        self._stopped = False

    def refuse(self, client_id: str) -> None:
        """Refuse new connections of one client."""
        self._refused.add(client_id)

    def accept(self, client_id: str) -> None:
        """Resume accepting connections of this client."""
        self._refused.discard(client_id)

    def connect(self, link: "MemoryLink", client_id: str, expiry: int, receive_maximum: int) -> bool:
        """Attach `link` as `client_id`, ending an earlier connection of that name; True if its session was kept."""
        if self._stopped or client_id in self._refused:
            raise LinkError("the broker does not accept the connection")
        old = self._clients.get(client_id)
        if old is not None and old.link is not None:
            old.link.cut("another client took the session over")
            self.disconnect(client_id, old.link, will=old.link.will)
        state = self._clients.get(client_id)
        kept = state is not None and expiry > 0
        if state is None or not kept:
            state = self._clients[client_id] = _ClientState(expiry, receive_maximum)
        state.link, state.expiry, state.receive_maximum = link, expiry, receive_maximum
        return kept

    def forget(self, client_id: str) -> None:
        """Discard the session of `client_id`, which is not connected."""
        self._clients.pop(client_id, None)

    def resume(self, client_id: str) -> None:
        """Redeliver unacknowledged messages, then deliver queued ones."""
        state = self._clients[client_id]
        state.queued.extendleft(reversed(state.unacknowledged.values()))
        state.unacknowledged.clear()
        self._deliver(state)

    def disconnect(self, client_id: str, link: "MemoryLink", will: LastWill | None) -> None:
        """`link` has ended; publish its `will` unless it disconnected cleanly."""
        state = self._clients.get(client_id)
        if state is None or state.link is not link:
            return
        state.link = None
        if state.expiry == 0:
            del self._clients[client_id]
        if will is not None:
            self.publish(client_id, will.topic, will.payload, qos=1, retain=True)

    def subscribe(self, client_id: str, filters: list[str], *, no_local: bool) -> None:
        """Add `filters`; retained messages go out for those that are new."""
        state = self._clients[client_id]
        for topic_filter in filters:
            new = topic_filter not in state.filters
            state.filters[topic_filter] = no_local
            if new and not topic_filter.startswith("$share/"):
                for stored in self._retained.values():
                    if _matches(topic_filter, stored.topic):
                        self._enqueue(state, stored)

    def unsubscribe(self, client_id: str, filters: list[str]) -> None:
        """Remove `filters`."""
        for topic_filter in filters:
            self._clients[client_id].filters.pop(topic_filter, None)

    def acknowledge(self, client_id: str, token: int) -> None:
        """The client has acknowledged the message."""
        state = self._clients[client_id]
        state.unacknowledged.pop(token, None)
        self._deliver(state)

    def publish(
        self,
        sender: str,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        properties: Mapping[str, str] = NO_PROPERTIES,
    ) -> None:
        """Deliver a message to all subscribers."""
        stored = _Stored(topic, payload, qos, retain=False, properties=properties)
        if retain and payload:
            self._retained[topic] = replace(stored, retain=True)
        elif retain:
            self._retained.pop(topic, None)
        groups: dict[str, list[_ClientState]] = {}
        for client_id, state in self._clients.items():
            matching = False
            for topic_filter, no_local in state.filters.items():
                if topic_filter.startswith("$share/"):
                    if _matches(topic_filter.split("/", 2)[2], topic):
                        groups.setdefault(topic_filter, []).append(state)
                elif self.drops(client_id, topic):
                    continue
                elif _matches(topic_filter, topic) and not (no_local and client_id == sender):
                    matching = True
            if matching:
                self._enqueue(state, stored)
        for group, members in groups.items():
            present = [member for member in members if member.link is not None] or members
            turn = self._turns[group] = self._turns.get(group, -1) + 1
            self._enqueue(present[turn % len(present)], stored)

    def _enqueue(self, state: _ClientState, stored: _Stored) -> None:
        if stored.qos or state.link is not None:
            state.queued.append(stored)
            self._deliver(state)

    def _deliver(self, state: _ClientState) -> None:
        while state.queued and state.link is not None:
            stored = state.queued[0]
            if stored.qos and len(state.unacknowledged) >= state.receive_maximum:
                return
            state.queued.popleft()
            state.last_token += 1
            if stored.qos:
                state.unacknowledged[state.last_token] = stored
            state.link.deliver(stored, state.last_token)


class MemoryLink:
    """One connection to a `MemoryBroker`. Messages arrive in a later turn of the event loop."""

    def __init__(
        self,
        broker: MemoryBroker,
        handler: LinkHandler,
        client_id: str,
        will: LastWill | None,
        expiry: int,
        receive_maximum: int,
    ) -> None:
        self.will = will
        self._broker = broker
        self._handler = handler
        self._client_id = client_id
        self._expiry = expiry
        self._receive_maximum = receive_maximum
        self._alive = False
        self._token = 0

    async def open(self, timeout: float, *, clean_start: bool = False) -> None:  # noqa: ASYNC109 - the port's; nothing takes time here
        """Connect."""
        await asyncio.sleep(0)
        if clean_start:
            self._broker.forget(self._client_id)
        kept = self._broker.connect(self, self._client_id, self._expiry, self._receive_maximum)
        self._alive = True
        self._handler.opened(Opened(kept, window=65535))
        self._broker.resume(self._client_id)

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Mapping[str, str] | None
    ) -> int:
        """Send a message."""
        token = self._next()
        sent = _Stored(topic, payload, qos, retain, NO_PROPERTIES if properties is None else dict(properties))
        self._later(self._publish_now, sent, token)
        return token

    def subscribe(self, filters: list[str], *, no_local: bool) -> int:
        """Subscribe."""
        token = self._next()
        self._later(self._subscribe_now, filters, no_local, token)
        return token

    def unsubscribe(self, filters: list[str]) -> int:
        """Unsubscribe."""
        token = self._next()
        self._later(self._unsubscribe_now, filters, token)
        return token

    def acknowledge(self, token: int) -> None:
        """Acknowledge a message."""
        self._later(self._broker.acknowledge, self._client_id, token)

    def pause_reading(self) -> None:
        """Do nothing: the receive maximum limits what the broker sends."""

    def resume_reading(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Disconnect cleanly, after everything sent before."""
        # Two turns: one for the sent messages, one for the broker's responses.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._end(None)

    def abort(self) -> None:
        """End without a DISCONNECT."""
        self._end(self.will)

    def cut(self, reason: str) -> None:
        """Break the connection now; messages in flight are lost."""
        self._alive = False
        self._handler.lost(reason, blamed=False)

    def deliver(self, stored: _Stored, token: int) -> None:
        """Deliver a message to the client."""
        self._later(self._arrived_now, stored, token)

    def _publish_now(self, sent: _Stored, token: int) -> None:
        if sent.qos and self._broker.refuses(sent.topic):
            self._later(self._handler.published, token, "Not authorized")
            return
        self._broker.publish(
            self._client_id, sent.topic, sent.payload, qos=sent.qos, retain=sent.retain, properties=sent.properties
        )
        self._later(self._handler.published, token, None)

    def _subscribe_now(self, filters: list[str], no_local: bool, token: int) -> None:
        self._later(self._handler.confirmed, token, [None] * len(filters))
        self._broker.subscribe(self._client_id, filters, no_local=no_local)

    def _unsubscribe_now(self, filters: list[str], token: int) -> None:
        self._broker.unsubscribe(self._client_id, filters)
        self._later(self._handler.confirmed, token, [None] * len(filters))

    def _arrived_now(self, stored: _Stored, token: int) -> None:
        self._handler.arrived(
            stored.topic,
            stored.payload,
            stored.qos,
            retain=stored.retain,
            token=token,
            properties=stored.properties,
        )

    def _next(self) -> int:
        self._token += 1
        return self._token

    def _later(self, call: object, *arguments: object) -> None:
        asyncio.get_running_loop().call_soon(self._if_alive, call, arguments)

    def _if_alive(self, call: object, arguments: tuple[object, ...]) -> None:
        if self._alive and callable(call):
            call(*arguments)

    def _end(self, will: LastWill | None) -> None:
        if self._alive:
            self._alive = False
            self._broker.disconnect(self._client_id, self, will)


class MemoryBus(BusSession):
    """A client of a `MemoryBroker` with the arguments of `MqttBus`."""

    def __init__(
        self,
        broker: MemoryBroker,
        *,
        client_id: str,
        will: LastWill | None = None,
        session_expiry: int = 0,
        inbound_limit: int = 500,
        outbound_limit: int = 1000,
        metrics: BusMetrics | None = None,
        payload_limit: int = MAXIMUM_PAYLOAD,
    ) -> None:
        self._link: MemoryLink | None = None
        self._broker = broker
        self._client_id = client_id

        def make_link(handler: LinkHandler) -> MemoryLink:
            self._link = MemoryLink(broker, handler, client_id, will, session_expiry, inbound_limit)
            return self._link

        super().__init__(
            "memory",
            make_link,
            inbound_limit=inbound_limit,
            outbound_limit=outbound_limit,
            metrics=metrics,
            payload_limit=payload_limit,
        )

    def drop(self, *, reconnect: bool = True) -> None:
        """Break the connection without a DISCONNECT. Without `reconnect` the client stays offline until `resume()`."""
        if not reconnect:
            self._broker.refuse(self._client_id)
        if self._link is not None:
            self._link.abort()
            self._link.cut("dropped by the test")

    def resume(self) -> None:
        """Reconnect a client that was dropped without reconnect."""
        self._broker.accept(self._client_id)


def _matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT filter matches a topic; wildcards do not match a first level that begins with $."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or level not in ("+", levels[position]):
            return False
    return len(wanted) == len(levels)
