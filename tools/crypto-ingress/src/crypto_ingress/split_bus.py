"""Connections to the embedded broker: two for a bus that receives and publishes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from ingress_common.bus import Bus, Event, LastWill
from ingress_common.bus.session import MAXIMUM_PAYLOAD
from ingress_common.connector import INBOUND_LIMIT, Connector


class SplitBus:
    """Receives over one connection and publishes over another.

    rumqttd confirms nothing to a client with 100 unacknowledged messages. On a single connection, a service that
    acknowledges a message only after its own publications are confirmed would wait forever.
    """

    def __init__(self, inbound: Bus, outbound: Bus) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open both connections."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._outbound)
            await stack.enter_async_context(self._inbound)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both connections."""
        await self._stack.aclose()

    @property
    def connected(self) -> bool:
        """Whether both connections are up."""
        return self._inbound.connected and self._outbound.connected

    @property
    def problem(self) -> str:
        """Why one of the connections does not carry everything; empty if both do."""
        return self._inbound.problem or self._outbound.problem

    @property
    def maximum_packet(self) -> int | None:
        """The broker's maximum packet size in bytes."""
        return self._outbound.maximum_packet

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:
        """Subscribe on the inbound connection.

        Our own messages arrive whatever `no_local`, because they leave on the other connection.
        """
        await self._inbound.subscribe(*filters, no_local=no_local)

    async def unsubscribe(self, *filters: str) -> None:
        """Unsubscribe on the inbound connection."""
        await self._inbound.unsubscribe(*filters)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> Awaitable[None]:
        """Publish on the outbound connection."""
        return await self._outbound.publish(topic, payload, qos=qos, retain=retain, properties=properties)

    def events(self) -> AsyncIterator[Event]:
        """The events of the inbound connection."""
        return self._inbound.events()


class EmbeddedConnector(Connector):
    """Opens connections to the embedded broker. No other process uses it, so no name is claimed."""

    embedded = True

    def open(
        self,
        client_id: str,
        *,
        will: LastWill | None = None,
        session_expiry: int = 0,
        inbound_limit: int = INBOUND_LIMIT,
        payload_limit: int = MAXIMUM_PAYLOAD,
        before: Callable[[], Awaitable[None]] | None = None,  # noqa: ARG002
        publishes: bool = True,
    ) -> Bus:
        """One connection, or two if the service publishes on it too and acknowledges messages only after that."""
        if not publishes:
            return super().open(
                client_id,
                will=will,
                session_expiry=session_expiry,
                inbound_limit=inbound_limit,
                payload_limit=payload_limit,
            )
        inbound = super().open(f"{client_id}-in", session_expiry=session_expiry, inbound_limit=inbound_limit)
        return SplitBus(inbound, super().open(f"{client_id}-out", will=will))
