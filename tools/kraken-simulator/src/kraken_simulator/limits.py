"""Kraken's rate limits: calls per second, and connection attempts per ten minutes."""

from collections import OrderedDict, deque


class CallLimit:
    """A token bucket for each key. `now` in unix seconds."""

    def __init__(self, rate: float, burst: int, keys: int = 10_000) -> None:
        self._rate = rate
        self._burst = burst
        self._keys = keys
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, key: str, now: float) -> bool:
        """Count a call and return whether it is within the limit."""
        tokens, since = self._levels.pop(key, (float(self._burst), now))
        tokens = min(self._burst, tokens + max(0.0, now - since) * self._rate)
        allowed = tokens >= 1
        self._levels[key] = (tokens - 1 if allowed else tokens, now)
        if len(self._levels) > self._keys:
            self._levels.popitem(last=False)
        return allowed


class ConnectionRateLimit:
    """A limit on connection attempts per rolling window and address; refused attempts count too."""

    def __init__(self, limit: int, window: float) -> None:
        self._limit = limit
        self._window = window
        self._attempts: dict[str, deque[float]] = {}

    def allows(self, address: str, now: float) -> bool:
        """Count an attempt and return whether it is within the limit."""
        attempts = self._attempts.setdefault(address, deque(maxlen=self._limit + 10_000))
        attempts.append(now)
        return self.in_window(now, address) <= self._limit

    def in_window(self, now: float, address: str | None = None) -> int:
        """Return the number of attempts of an address, or of all, within the window."""
        for key in [address] if address is not None else list(self._attempts):
            attempts = self._attempts[key]
            while attempts and attempts[0] <= now - self._window:
                attempts.popleft()
            if not attempts:
                del self._attempts[key]
        return sum(len(attempts) for key, attempts in self._attempts.items() if address in (None, key))
