"""The interface of WebSocket connections to the exchange, and the ways in which they end."""

from collections.abc import Collection
from enum import Enum
from typing import Protocol

from kraken_simulator.feeds import Topic


class Ending(Enum):
    """The way in which a connection ends."""

    CLIENT = "the client closed it"
    EOF = "TCP end without a close frame"
    RESET = "TCP reset"
    PROXY_RESTART = "close 1001"
    POLICY = "close 1008"
    IDLE = "no subscription for too long"
    SLOW = "the client does not read"
    SHUTDOWN = "the simulator stops"


class Listener(Protocol):
    """A WebSocket connection, as the exchange uses it."""

    number: int
    hung: bool

    @property
    def topics(self) -> Collection[Topic]:
        """Its subscriptions."""

    @property
    def instruments(self) -> frozenset[str]:
        """The asset classes of its instrument subscription; empty without one."""

    def follows(self, symbol: str) -> bool:
        """Return whether it is subscribed to a symbol on any channel."""

    def send_data(self, text: str) -> None:
        """Send a data frame (not a response)."""

    def end(self, how: Ending) -> None:
        """End the connection."""


def connection_id(seed: int, number: int) -> int:
    """Return the id of a connection: unsigned 64 bits; every second one exceeds a signed integer (fact 7)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9) & (2**63 - 1)
    return mixed | (number % 2) << 63
