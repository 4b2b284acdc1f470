"""One connection to a broker, as the session sees it; paho and the in-memory broker are behind it."""

from dataclasses import dataclass
from typing import Protocol


class LinkError(Exception):
    """A connection could not be opened. `permanent`: the broker refuses us, trying again at once is of no use."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Opened:
    """What the broker granted: whether it kept our session, and its limits on what we send."""

    session_kept: bool
    window: int
    """How many QoS 1 messages may be unconfirmed at a time."""
    maximum_packet: int | None = None
    """The largest packet in bytes, None for no limit."""


class LinkHandler(Protocol):
    """Who is told what happens on a link; all calls come on the event loop, in the order of the wire."""

    def opened(self, opened: Opened) -> None:
        """The broker has accepted us; called before anything else, and before `Link.open` returns."""
        ...

    def arrived(self, topic: str, payload: bytes, qos: int, *, retain: bool, token: int) -> None:
        """A message came; `token` is what acknowledges it."""
        ...

    def published(self, token: int, error: str | None) -> None:
        """The broker has the message (QoS 1) or it was sent (QoS 0), or `error` says why the broker refused it."""
        ...

    def confirmed(self, token: int, errors: list[str | None]) -> None:
        """A subscribe or unsubscribe was answered, with an error or None for each filter."""
        ...

    def lost(self, reason: str, *, blamed: bool) -> None:
        """The connection is over; nothing follows. `blamed`: something that we sent, or the answer to it, ended it."""
        ...


class Link(Protocol):
    """One connection, from opening to its end; never opened twice. Tokens mean something only on their own link."""

    async def open(self, timeout: float) -> None:  # noqa: ASYNC109 - paho's thread needs it too
        """Connect within `timeout` seconds; LinkError if that fails."""
        ...

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Send a message, answered by `published`."""
        ...

    def subscribe(self, filters: list[str], *, no_local: bool) -> int:
        """Subscribe with QoS 1, answered by `confirmed`."""
        ...

    def unsubscribe(self, filters: list[str]) -> int:
        """Unsubscribe, answered by `confirmed`."""
        ...

    def acknowledge(self, token: int) -> None:
        """Acknowledge a QoS 1 message."""
        ...

    async def close(self) -> None:
        """Say goodbye and release everything; `lost` is not called."""
        ...

    def abort(self) -> None:
        """End the connection without a goodbye; `lost` is not called."""
        ...
