"""How often Kraken may be called: one budget of connection attempts for everything, and the pauses between tries."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

WINDOW = 600.0
"""Seconds over which Kraken counts connection attempts."""

LIMIT = 140
"""Attempts per WINDOW for all gateways of one address; Kraken bans for ten minutes at about 150 (`kraken-protocol.md`,
limits).
"""

_SHORTEST_PAUSE = 5.0
_STEP_SECONDS = 5.0
_LONGEST_FLOOR = 30.0


class Urgency(Enum):
    """What share of the budget a connection may use: short-lived ones leave room for live ones."""

    LIVE = 1.0
    SHORT = 0.7
    CHECK = 0.4


@dataclass(frozen=True, slots=True)
class Thrift:
    """How sparing a gateway is with connections: its `limit` in any WINDOW together with others of its address, and for
    how long it does with REST's list of pairs before it opens a connection to follow it (seconds).
    """

    limit: int = LIMIT
    list_after: float = 30.0


class ConnectionBudget:
    """At most LIMIT connection attempts in any WINDOW. `steady` is a clock that never steps (seconds)."""

    def __init__(self, steady: Callable[[], float], limit: int = LIMIT) -> None:
        self._steady = steady
        self._total = limit
        self._limit = limit
        self._feeds = 1
        self._attempts: deque[float] = deque()

    @property
    def used(self) -> int:
        """Attempts in the window that ends now."""
        self._forget(self._steady())
        return len(self._attempts)

    @property
    def limit(self) -> int:
        """Attempts that this process may make in a window."""
        return self._limit

    def allowed(self, urgency: Urgency) -> int:
        """Attempts that `urgency` may make in a window, with those of all others."""
        return max(1, int(self._limit * urgency.value))

    def left(self, urgency: Urgency) -> int:
        """Attempts that `urgency` may make now."""
        return max(0, self.allowed(urgency) - self.used)

    def ages(self) -> tuple[float, ...]:
        """How long ago (seconds) each attempt in the window was made, oldest first."""
        now = self._steady()
        self._forget(now)
        return tuple(now - at for at in self._attempts)

    def restore(self, ages: Iterable[float]) -> None:
        """Count attempts of an earlier life, made so many seconds ago.

        What seems to be in the future (the clock that dated it was set back) counts as made just now.
        """
        now = self._steady()
        self._attempts = deque(sorted([*self._attempts, *(now - max(0.0, age) for age in ages)]))
        self._forget(now)

    def share(self, members: int, feeds: int = 1) -> None:
        """Gateways behind one address share the limit: this one takes its part of `members`, for its `feeds`."""
        self._limit = max(1, self._total // max(1, members))
        self._feeds = max(1, feeds)

    @property
    def fair_pause(self) -> float:
        """Seconds between tries that each feed can keep up without end, with room left for others."""
        return max(_SHORTEST_PAUSE, WINDOW * self._feeds / (self._limit * Urgency.SHORT.value))

    @property
    def lone_pause(self) -> float:
        """Seconds between tries that this process can keep up without end if only one of its feeds tries."""
        return max(_SHORTEST_PAUSE, WINDOW / (self._limit * Urgency.SHORT.value))

    def described(self, urgency: Urgency) -> str:
        """How many attempts are used, and when the next one of `urgency` may be made if that is not now."""
        wait = self.wait(urgency)
        used = f"{self.used} of {self._limit} connection attempts in 10 minutes are used"
        return f"{used}; the next one may be made in {wait:.0f} s" if wait else used

    def take(self, urgency: Urgency) -> float:
        """0 if an attempt may be made now, which is then counted; else the seconds to wait before asking again."""
        wait = self.wait(urgency)
        if not wait:
            self._attempts.append(self._steady())
        return wait

    def wait(self, urgency: Urgency) -> float:
        """0 if an attempt may be made now; else the seconds to wait before asking again."""
        now = self._steady()
        self._forget(now)
        allowed = self.allowed(urgency)
        if len(self._attempts) < allowed:
            return 0.0
        return self._attempts[len(self._attempts) - allowed] + WINDOW - now + 0.001

    async def until_allowed(self, urgency: Urgency) -> None:
        """Wait until an attempt may be made, and count nothing."""
        wait = self.wait(urgency)
        while wait:
            # In small steps, because our share of the budget may grow meanwhile.
            await asyncio.sleep(min(wait, _STEP_SECONDS))
            wait = self.wait(urgency)

    async def acquire(self, urgency: Urgency) -> None:
        """Wait until an attempt may be made, and count it."""
        while self.take(urgency):
            await self.until_allowed(urgency)

    def _forget(self, now: float) -> None:
        while self._attempts and self._attempts[0] <= now - WINDOW:
            self._attempts.popleft()


class Backoff:
    """Pauses between tries without a last one: a few at once, then doubling, with jitter. Seconds throughout."""

    def __init__(self, *, at_once: int = 0, base: float = 1.0) -> None:
        self._at_once = at_once
        self._base = base
        self._tries = 0
        self._floored = 0

    def pause(self, *, at_least: float = 0.0, cap: float = 60.0) -> float:
        """How long to wait before the next try: up to `cap`; not less than `at_least`, which grows if it goes on."""
        step = self._tries - self._at_once
        self._tries += 1
        self._floored = self._floored + 1 if at_least else 0
        spread = random.uniform(0.5, 1.0)  # noqa: S311 - spreads tries, protects nothing
        own = 0.0 if step < 0 else min(cap, self._base * 2 ** min(step, 20)) * spread
        # Jitter goes on top of the floor, because Kraken has named it.
        # It ends at 45 s, to be back within a minute of the end of the trouble.
        grown = at_least * 2.0 ** min(self._floored - 1, 10)
        floor = min(grown, max(at_least, _LONGEST_FLOOR)) * (2 - spread)
        return max(own, floor)

    def reset(self) -> None:
        """It worked."""
        self._tries = 0
        self._floored = 0
