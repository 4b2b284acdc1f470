"""How long each symbol is usually quiet on a connection, and which silence is unusual.

Pure; times are steady seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SHORTEST = 5.0
"""Seconds of silence that are never unusual."""

_UNLIKELY = 9.2
"""Mean gaps after which trades that come by chance have a probability of 1e-4 (e ** -9.2) not to have come."""

_BURST = 0.5
"""Seconds in which rows count once: an order that fills in many parts says nothing about when the next one comes."""

_LEARNED = 20
_MEMORY = 64


@dataclass(frozen=True, slots=True)
class Doubt:
    """An unusual silence of `symbol`: its last row came at `since` (steady seconds), `silence` seconds ago."""

    symbol: str
    since: float
    silence: float


@dataclass(slots=True)
class _Habit:
    gap: float = 0.0
    gaps: int = 0
    counted: float | None = None
    last: float = 0.0
    look_after: float = 0.0


class Quiet:
    """What is learned from the rows of each symbol. It outlives connections: `begin` a new one with each."""

    def __init__(self) -> None:
        self._habits: dict[str, _Habit] = {}

    def begin(self) -> None:
        """A new connection: the time without one was no silence."""
        for habit in self._habits.values():
            habit.counted, habit.look_after = None, 0.0

    def keep(self, symbols: Iterable[str]) -> None:
        """Forget every symbol but `symbols`."""
        kept = set(symbols)
        self._habits = {symbol: habit for symbol, habit in self._habits.items() if symbol in kept}

    def heard(self, symbol: str, now: float) -> None:
        """A row of `symbol` that tells something new has come."""
        habit = self._habits.setdefault(symbol, _Habit())
        if habit.counted is not None and now - habit.counted >= _BURST:
            self._learn(habit, now - habit.counted)
            habit.counted = now
        elif habit.counted is None:
            habit.counted = now
        habit.last, habit.look_after = now, 0.0

    def usual(self, symbol: str) -> float | None:
        """Seconds of silence beyond which it is unusual for `symbol`; None while too little is known of it."""
        habit = self._habits.get(symbol)
        return None if habit is None else _usual(habit)

    def silence(self, symbol: str, now: float) -> float:
        """Seconds since the last row of `symbol` on this connection; 0 if none has come yet."""
        habit = self._habits.get(symbol)
        return 0.0 if habit is None or habit.counted is None else max(0.0, now - habit.last)

    def doubt(self, symbol: str, now: float) -> Doubt | None:
        """The doubt about `symbol`, if its silence is unusual and not explained yet."""
        habit = self._habits.get(symbol)
        if habit is None or habit.counted is None:
            return None
        usual, silence = _usual(habit), now - habit.last
        if usual is None or silence < max(usual, habit.look_after):
            return None
        return Doubt(symbol, habit.last, silence)

    def explained(self, doubt: Doubt) -> None:
        """It was checked that nothing had traded in the silence of `doubt`: it is unusual again when it has doubled."""
        habit = self._habits.get(doubt.symbol)
        if habit is not None and habit.counted is not None and habit.last == doubt.since:
            habit.look_after = max(habit.look_after, 2 * doubt.silence)

    def _learn(self, habit: _Habit, gap: float) -> None:
        usual = _usual(habit)
        if usual is not None:
            # A silence that nobody has explained may have been a blind connection's, which is no habit.
            gap = min(gap, max(usual, habit.look_after))
        habit.gaps = min(habit.gaps + 1, _MEMORY)
        habit.gap += (gap - habit.gap) / habit.gaps


def _usual(habit: _Habit) -> float | None:
    # No gap that is counted is shorter than a burst; what is left to chance is the rest of it.
    return max(SHORTEST, _BURST + _UNLIKELY * (habit.gap - _BURST)) if habit.gaps >= _LEARNED else None
