"""Lets the wall clock of a Python process jump while it runs; Python imports this before anything else.

CHAOS_CLOCK names a file that holds the seconds by which the clock is off, read once a second. Monotonic clocks stay as
they are, as they do when a machine's clock is set.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

_LOOK_SECONDS = 1.0


def _jumping(file: Path, steady: Callable[[], float]) -> Callable[[], int]:
    """A function that gives the seconds by which the clock is off now."""
    seconds, looked_at = 0, float("-inf")

    def offset() -> int:
        nonlocal seconds, looked_at
        now = steady()
        if now >= looked_at + _LOOK_SECONDS:
            seconds, looked_at = int(file.read_text()), now
        return seconds

    return offset


def _install(file: Path) -> None:
    offset = _jumping(file, time.monotonic)
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + offset()
    time.time_ns = lambda: true_time_ns() + offset() * 1_000_000_000


if _file := os.environ.get("CHAOS_CLOCK"):
    _install(Path(_file))
