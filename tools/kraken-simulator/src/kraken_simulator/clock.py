"""The clock port: a function that returns unix seconds, passed in wherever time matters."""

from collections.abc import Callable

from kraken_simulator.text import NANOS

Clock = Callable[[], float]
"""Returns the current time in unix seconds."""


def nanos(seconds: float) -> int:
    """Return unix seconds as nanoseconds, rounded to microseconds, the precision of floats."""
    return round(seconds * 1_000_000) * (NANOS // 1_000_000)
