"""When forming candles are published: those that changed, at a bounded rate."""

from zlib import crc32

from aggregator.core import Engine
from ingress_common.model import Candle

TURN_SECONDS = 0.05
TURNS = 20
"""Turns of `FormingCandles` until the same symbols are due again: a second."""


class FormingCandles:
    """The forming candles of `engine` that changed, turn by turn.

    A changed 1m candle is returned in each turn, higher timeframes in one turn of TURNS. So a symbol publishes at most
    20 candles a second of 1m and one of each higher timeframe, however often it trades, and the symbols share the
    turns evenly. The raw topics have every update.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = 0

    def turn(self) -> list[Candle]:
        """The forming candles to publish now."""
        engine = self._engine
        minutes = engine.forming_minutes()
        self._turn = (self._turn + 1) % TURNS
        due = [symbol for symbol in engine.changed if crc32(symbol.encode()) % TURNS == self._turn]
        return minutes + engine.forming(due)
