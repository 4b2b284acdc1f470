"""How often Kraken may be called: a limit on connection attempts, backoff, and a circuit breaker."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from ingress_common.backoff import Backoff

WINDOW = 600.0
"""Seconds over which Kraken counts connection attempts."""

LIMIT = 140
"""Attempts per WINDOW for all gateways of one address; Kraken bans for ten minutes at about 150 (`kraken-protocol.md`,
limits).
"""

LONGEST_PAUSE = 10.0
"""Maximum seconds between two attempts while Kraken is down, unless Kraken demands a longer pause."""

LEAST_PAUSE: Mapping[str, float] = {"maintenance": 5.0, "policy": 30.0, "stale": 1.0, "too-many-connects": 15.0}
"""Seconds before the next attempt, at least, by the reason for which a connection has ended."""

_SHORTEST_PAUSE = 5.0
_STEP_SECONDS = 5.0
_LONGEST_FLOOR = 30.0
_JITTER = (0.5, 1.0)
_FLOOR_JITTER = (1.0, 1.5)
_SUSTAINED = 0.7


class ConnectionLimiter:
    """At most `limit` connection attempts in any WINDOW. `steady` is a monotonic clock (seconds)."""

    def __init__(self, steady: Callable[[], float], limit: int = LIMIT) -> None:
        self._steady = steady
        self._total = limit
        self._limit = limit
        self._connections = 1
        self._attempts: deque[float] = deque()

    @property
    def used(self) -> int:
        """Attempts in the window that ends now."""
        self._forget()
        return len(self._attempts)

    @property
    def limit(self) -> int:
        """Attempts that this process may make in a window."""
        return self._limit

    def share(self, members: int, connections: int) -> None:
        """Gateways behind one address share the limit: this one is one of `members`, and has `connections`."""
        self._limit = max(1, self._total // max(1, members))
        self._connections = max(1, connections)

    @property
    def fair_pause(self) -> float:
        """Seconds between attempts that every connection can sustain, with reserve."""
        return max(_SHORTEST_PAUSE, WINDOW * self._connections / (self._limit * _SUSTAINED))

    @property
    def lone_pause(self) -> float:
        """Seconds between attempts that this process can sustain if one connection tries for all."""
        return max(_SHORTEST_PAUSE, WINDOW / (self._limit * _SUSTAINED))

    @property
    def wait(self) -> float:
        """0 if an attempt may be made now, else the seconds to wait."""
        self._forget()
        if len(self._attempts) < self._limit:
            return 0.0
        return self._attempts[len(self._attempts) - self._limit] + WINDOW - self._steady() + 0.001

    @property
    def described(self) -> str:
        """How many attempts are used, and when the next one may be made if that is not now."""
        used = f"{self.used} of {self._limit} connection attempts in 10 minutes are used"
        return f"{used}; the next one may be made in {self.wait:.0f} s" if self.wait else used

    async def acquire(self) -> None:
        """Wait until an attempt may be made, and count it."""
        while wait := self.wait:  # noqa: ASYNC110 - it waits for a time, not an event
            # In small steps, because our share of the limit may grow meanwhile.
            await asyncio.sleep(min(wait, _STEP_SECONDS))
        self._attempts.append(self._steady())

    def _forget(self) -> None:
        start = self._steady() - WINDOW
        while self._attempts and self._attempts[0] <= start:
            self._attempts.popleft()


class ConnectionBackoff:
    """Pauses between the attempts of a connection: a backoff, and at least what Kraken demands. In seconds.

    The first `at_once` attempts have no pause of their own.
    """

    def __init__(self, *, at_once: int = 0) -> None:
        self._at_once = at_once
        self._attempt = 0
        self._floored = 0

    def pause(self, *, at_least: float = 0.0, cap: float = 60.0) -> float:
        """Seconds to wait before the next try: at most `cap`, at least `at_least`, which doubles with each failure."""
        own = Backoff(1.0, cap, _JITTER, self._at_once).pause(self._attempt)
        self._attempt += 1
        if not at_least:
            self._floored = 0
            return own
        # Jitter is added to the floor, because Kraken has set it. At most 45 s, to return within a minute after the end
        # of an outage.
        floor = Backoff(at_least, max(at_least, _LONGEST_FLOOR), _FLOOR_JITTER).pause(self._floored)
        self._floored += 1
        return max(own, floor)

    def reset(self) -> None:
        """Start over after a success."""
        self._attempt = 0
        self._floored = 0


class CircuitBreaker:
    """Lets everyone try while Kraken works; one attempt at a time, with pauses, while it does not.

    So an outage costs few attempts however many connections wait for its end, and all return together. After `enter`,
    call `worked`, `failed` or `left`.
    """

    def __init__(self) -> None:
        self._works = asyncio.Event()
        self._works.set()
        self._changed = asyncio.Event()
        self._backoff = ConnectionBackoff()
        self._not_before = float("-inf")
        self._trying: object | None = None

    async def enter(self, attempt: object) -> None:
        """Return when `attempt` may be made: at once while Kraken works, else when it is its turn."""
        loop = asyncio.get_running_loop()
        while not self._works.is_set():
            self._changed.clear()
            wait = self._not_before - loop.time()
            if self._trying is None and wait <= 0:
                self._trying = attempt
                return
            try:
                async with asyncio.timeout(wait if self._trying is None else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def worked(self, attempt: object) -> None:
        """`attempt` has succeeded: everyone may try."""
        if not self._works.is_set():
            self._works.set()
            self._backoff.reset()
        self.left(attempt)

    def failed(self, attempt: object, reason: str, longest_pause: float = LONGEST_PAUSE) -> None:
        """`attempt` failed for `reason`: nobody retries before a pause of at most `longest_pause` seconds."""
        self._works.clear()
        pause = self._backoff.pause(at_least=LEAST_PAUSE.get(reason, 0.0), cap=longest_pause)
        self._not_before = asyncio.get_running_loop().time() + pause
        self.left(attempt)

    def left(self, attempt: object) -> None:
        """`attempt` was cancelled, which proves nothing about Kraken."""
        if self._trying is attempt:
            self._trying = None
        self._changed.set()
