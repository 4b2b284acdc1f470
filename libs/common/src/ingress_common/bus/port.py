"""The bus port: the interface that services use."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

import msgspec

NO_PROPERTIES: Mapping[str, str] = MappingProxyType({})
"""The properties of a message without any."""


class BusError(Exception):
    """The broker refuses a request or cannot be reached at the start. The text names the broker and the reason."""


class BusClosedError(Exception):
    """A call on a closed bus, or a publication that the close interrupted."""


@dataclass(frozen=True, slots=True)
class LastWill:
    """The message that the broker publishes (QoS 1, retained) when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes


class Message(msgspec.Struct, frozen=True):
    """A message from the broker.

    The broker keeps it until `ack()` is called and redelivers it after a crash. Call `ack` on the event loop for every
    message, at any time and whatever its QoS: acknowledgements reach the broker in order of arrival, so an absent one
    blocks all later ones. A second call does nothing, nor does a call after a reconnect, which redelivers the message.

    `properties`: the MQTT 5 user properties; of a repeated name, the last value.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    ack: Callable[[], None]
    properties: Mapping[str, str] = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection was made or remade.

    `session_kept`: false if the broker had no session for us; then messages since the previous event may be lost.
    """

    session_kept: bool


Event = Message | Connected


class Bus(Protocol):
    """One client of the broker, opened and closed as an async context manager.

    Entering connects, with a few retries, or raises BusError. Later the client reconnects by itself, with backoff and
    without a last attempt; subscriptions and unconfirmed publications survive a reconnect.
    """

    async def __aenter__(self) -> Self:
        """Connect; BusError if the broker refuses or cannot be reached."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect cleanly, without the last will, and release all resources."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the broker is connected."""
        ...

    @property
    def problem(self) -> str:
        """Why the bus does not carry everything at present: no connection, or a refused subscription or message; empty
        if it does.
        """
        ...

    @property
    def maximum_packet(self) -> int | None:
        """The broker's maximum packet size in bytes; None if it has no limit or is disconnected."""
        ...

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:
        """Subscribe with QoS 1 and wait for the broker's confirmation. Reconnects restore the subscription.

        Retained messages arrive for new filters. `$share/<group>/<filter>` shares the messages of a filter among the
        members of a group. `no_local`: exclude our own messages.
        """
        ...

    async def unsubscribe(self, *filters: str) -> None:
        """End subscriptions; unknown filters are ignored."""
        ...

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> Awaitable[None]:
        """Publish a message, in order; waits while the outbound window is full.

        Returns an awaitable that is done when the broker has confirmed the message (QoS 1) or it has been sent (QoS 0);
        awaiting it is optional and possible several times. It raises BusError if the broker refuses the message. If
        that is not because of the message itself, the last one of each topic is published again every 8 s until the
        broker accepts it, so that `problem` lasts as long as the refusal. While disconnected, a QoS 0 message is
        dropped and counted. `properties` become MQTT 5 user properties.
        """
        ...

    def events(self) -> AsyncIterator[Event]:
        """All messages in order, with a `Connected` event for each connection. For one consumer.

        The broker sends a limited number of unacknowledged QoS 1 messages. QoS 0 messages beyond the inbound limit are
        dropped, oldest first, and counted.
        """
        ...
