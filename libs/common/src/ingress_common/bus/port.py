"""The bus as the services see it: a small port, with MQTT 5 and an in-memory broker behind it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


class BusError(Exception):
    """The broker cannot be used: it refuses, or cannot be reached when the service starts. The message names it."""


class BusClosedError(Exception):
    """A call on a bus that has been closed, or a delivery that a close cut off."""


@dataclass(frozen=True, slots=True)
class LastWill:
    """What the broker publishes (QoS 1, retained) when the connection dies without a goodbye."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """A message from the broker.

    It stays with the broker until `ack()` is called: a crash before that brings it again. `ack` may be called from the
    loop at any later time, once or more, but must be called in the end, whatever the QoS: the broker hears of it only
    once all earlier messages are acknowledged too. After a reconnect an old `ack` does nothing, because the broker
    sends the message again.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    ack: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection was made, or made again.

    `session_kept` is false when the broker had no session for us: then messages may have been missed since the last
    event.
    """

    session_kept: bool


Event = Message | Connected


class Bus(Protocol):
    """One client's connection to the broker. It is opened and closed as an async context manager.

    Opening connects once, with a few tries, and raises BusError where that fails. After that it reconnects by itself,
    with backoff and without end; subscriptions and unacknowledged publications survive that.
    """

    async def __aenter__(self) -> Self:
        """Connect; BusError if the broker refuses or cannot be reached."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye (the last will is not sent) and release everything."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the broker is there now."""
        ...

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:
        """Subscribe with QoS 1 and wait until the broker has confirmed; kept over reconnects. Retained messages arrive
        for new filters.

        `$share/<group>/<filter>` shares the messages of a filter among the members of a group. `no_local`: not our own
        messages.
        """
        ...

    async def unsubscribe(self, *filters: str) -> None:
        """End subscriptions; unknown filters are ignored."""
        ...

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Awaitable[None]:
        """Hand a message to the bus, in order; waits while the bounded outbound window is full.

        The awaitable that comes back is done when the broker has the message (QoS 1), or when it has been sent (QoS 0).
        It need not be awaited. A QoS 0 message given while disconnected is dropped and counted.
        """
        ...

    def events(self) -> AsyncIterator[Event]:
        """Everything that arrives, in order, with `Connected` where a connection was made. One consumer.

        The broker sends at most a bounded number of unacknowledged QoS 1 messages; QoS 0 beyond the bound are dropped,
        oldest first, and counted.
        """
        ...
