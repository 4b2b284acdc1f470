"""A message on its way to the broker."""

import asyncio
from collections.abc import Generator, Mapping

_LONGEST_TEXT = 65_535
"""Maximum bytes of a topic and of a property's name or value: MQTT encodes their length in two bytes."""


class Publication:
    """One published message. Await it to wait until the broker has it.

    ValueError if MQTT cannot send it. A future is created only for a pending await, because most publications are never
    awaited or already done.
    """

    __slots__ = ("_error", "_waiters", "done", "payload", "properties", "qos", "retain", "size", "topic")

    def __init__(
        self, topic: str, payload: bytes, qos: int, *, retain: bool, properties: Mapping[str, str] | None
    ) -> None:
        if not topic or "+" in topic or "#" in topic or "\0" in topic:
            raise ValueError(f"expected a topic without wildcards, got {topic!r}")
        if qos not in (0, 1):
            raise ValueError(f"expected QoS 0 or 1, got {qos}")
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        # Header, length, packet identifier and the properties' length take 11 bytes at most.
        self.size = 11 + _size(topic) + len(payload)
        """Maximum size in bytes of its MQTT 5 packet."""
        if properties:
            self.size += sum(1 + _size(name) + _size(value) for name, value in properties.items())
        self.done = False
        self._error: Exception | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    def complete(self, error: Exception | None = None) -> None:
        """Complete the publication: the broker has it, or `error` is why it was refused."""
        self.done = True
        self._error = error
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        self._waiters = None

    def __await__(self) -> Generator[object, None, None]:
        if not self.done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            yield from waiter
        if self._error is not None:
            raise self._error


def _size(text: str) -> int:
    """Bytes of `text` in a packet, including the length prefix."""
    size = len(text) if text.isascii() else len(text.encode())
    if size > _LONGEST_TEXT:
        raise ValueError(f"expected at most {_LONGEST_TEXT} bytes in a topic or property, got {size}")
    return 2 + size
