"""The faults of the simulator, by seconds from the first judged minute on."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """A fault that starts `after` seconds."""

    after: float
    kind: str
    seconds: float
    more: tuple[tuple[str, Any], ...] = ()
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """The faults, and how many whole minutes are judged."""

    minutes: int
    steps: tuple[Step, ...]


SYMBOLS = ("BTC/USD", "SOL/USD", "XRP/GBP", "DOGE/USD", "ADA/EUR")
"""A busy pair, one that trades every minute, and three with minutes without trades."""

FULL = Script(
    10,
    (
        Step(35, "eof", 1, meaning="every connection ends in the middle of a minute"),
        Step(
            95,
            "silent",
            50,
            (("new_connections", False),),
            "open connections receive nothing more, not even heartbeats",
        ),
        Step(165, "late_frame", 80, meaning="a minute's last frame arrives 2 s after its end, after the next minute's"),
        Step(260, "close_1001", 1, meaning="every connection is closed by the proxy"),
        Step(320, "outage", 75, meaning="connections dropped, everything refused for 75 s, trading goes on"),
        Step(425, "duplicate", 30, meaning="every frame comes twice"),
        Step(475, "half_open", 45, meaning="sockets stay open and deliver nothing"),
    ),
)
SHORT = Script(
    3,
    (
        Step(25, "eof", 1, meaning="every connection ends in the middle of a minute"),
        Step(75, "outage", 20, meaning="connections dropped, everything refused for 20 s, trading goes on"),
        Step(130, "duplicate", 20, meaning="every frame comes twice"),
    ),
)
