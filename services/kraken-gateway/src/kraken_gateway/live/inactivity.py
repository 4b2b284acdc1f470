"""How long each symbol is usually without an update, and whether its inactivity is unusual, which makes it suspect.

Pure; times are steady seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SHORTEST = 4.5
"""Seconds of inactivity that are never unusual."""

_UNLIKELY = 7.0
"""Suspicion threshold in mean intervals between trades: random trades pause this long with a probability of e**-7,
about 1e-3.
"""

_BURST = 0.5
"""Seconds in which updates count once: the parts of one order do not show how often the symbol trades."""

_LEARNED = 20
_MEMORY = 64


@dataclass(slots=True)
class _Habit:
    gap: float = 0.0
    gaps: int = 0
    counted: float | None = None
    last: float = 0.0
    verified_until: float = 0.0


class Inactivity:
    """The usual inactivity of each symbol, learned from its updates. It outlives connections: `begin` starts one."""

    def __init__(self) -> None:
        self._habits: dict[str, _Habit] = {}

    def begin(self) -> None:
        """Start a new connection: the time without one is no inactivity."""
        for habit in self._habits.values():
            habit.counted, habit.verified_until = None, 0.0

    def keep(self, symbols: Iterable[str]) -> None:
        """Forget every symbol but `symbols`."""
        kept = set(symbols)
        self._habits = {symbol: habit for symbol, habit in self._habits.items() if symbol in kept}

    def updated(self, symbol: str, now: float) -> None:
        """Note an update of `symbol` that has new trades."""
        habit = self._habits.get(symbol)
        if habit is None:
            habit = self._habits[symbol] = _Habit()
        if habit.counted is None:
            habit.counted = now
        elif now - habit.counted >= _BURST:
            _learn(habit, now - habit.counted)
            habit.counted = now
        habit.last, habit.verified_until = now, 0.0

    def since(self, symbol: str, now: float) -> float:
        """Seconds since the last update of `symbol` on this connection; 0 if there was none yet."""
        habit = self._habits.get(symbol)
        return 0.0 if habit is None or habit.counted is None else max(0.0, now - habit.last)

    def likelihood(self, symbol: str, now: float) -> float:
        """How unusual the inactivity of `symbol` is: 1 and more makes it suspect, 0 is not unusual at all."""
        habit = self._habits.get(symbol)
        if habit is None or habit.counted is None or habit.gaps < _LEARNED:
            return 0.0
        return (now - habit.last) / max(_usual(habit), habit.verified_until)

    def verified(self, symbol: str, now: float) -> None:
        """Note that by a reading nothing has traded. The inactivity becomes unusual when it has doubled."""
        habit = self._habits.get(symbol)
        if habit is not None and habit.counted is not None:
            habit.verified_until = max(habit.verified_until, 2 * (now - habit.last))


def _learn(habit: _Habit, gap: float) -> None:
    if habit.gaps >= _LEARNED:
        # Inactivity that was not verified may be due to a stale subscription: do not learn from it.
        gap = min(gap, max(_usual(habit), habit.verified_until))
    habit.gaps = min(habit.gaps + 1, _MEMORY)
    habit.gap += (gap - habit.gap) / habit.gaps


def _usual(habit: _Habit) -> float:
    # No counted pause is shorter than a burst; only the rest of it is random.
    return max(SHORTEST, _BURST + _UNLIKELY * (habit.gap - _BURST))
