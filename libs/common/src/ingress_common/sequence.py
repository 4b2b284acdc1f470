"""Sequence numbers: MQTT user properties number the closed candles of each symbol consecutively.

A subscriber to all candles of a symbol detects from a gap in the numbers that the broker has dropped messages. Brokers
drop silently: the publisher gets a success code and the subscriber gets nothing.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

RUN = "run"
"""User property: a random id for the time that one publisher owns the symbol. Its numbers start at 1."""

NUMBER = "seq"
"""User property: the sequence number within the run."""

REQUEST = "request"
"""User property of a republish request: its id. The last republished candle of each symbol carries the same id."""

_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Numbered:
    """The run and the sequence number of a closed candle."""

    run: str
    number: int


class Numbering:
    """Numbers the closed candles of each symbol."""

    def __init__(self) -> None:
        self._last: dict[str, Numbered] = {}

    def next(self, symbol: str) -> dict[str, str]:
        """The user properties for the next closed candle of `symbol`."""
        last = self._last.get(symbol)
        numbered = Numbered(last.run, last.number + 1) if last else Numbered(secrets.token_hex(4), 1)
        self._last[symbol] = numbered
        return {RUN: numbered.run, NUMBER: str(numbered.number)}

    def forget(self, symbols: Iterable[str]) -> None:
        """Drop `symbols` that another instance now owns. If they return, a new run starts."""
        for symbol in symbols:
            self._last.pop(symbol, None)


def numbered(properties: Mapping[str, str]) -> Numbered | None:
    """The sequence number in `properties`; None if there is none or it is malformed."""
    run, number = properties.get(RUN), properties.get(NUMBER)
    if not run or not number or len(run) > _NAME_LENGTH or len(number) > _NAME_LENGTH:
        return None
    return Numbered(run, int(number)) if number.isascii() and number.isdecimal() else None


def request_of(properties: Mapping[str, str]) -> str | None:
    """The id of the republish request in `properties`; None if there is none."""
    name = properties.get(REQUEST)
    return name if name and len(name) <= _NAME_LENGTH else None
