"""The clock port: a function that returns unix seconds, passed in wherever time matters."""

from collections.abc import Callable

from kraken_simulator.text import NANOS

Clock = Callable[[], float]
"""Returns the present as unix seconds."""


def nanos(seconds: float) -> int:
    """Return unix seconds as nanoseconds (of microsecond exactness, as floats have no more)."""
    return round(seconds * 1_000_000) * (NANOS // 1_000_000)
