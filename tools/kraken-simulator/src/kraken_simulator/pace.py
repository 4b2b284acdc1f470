"""The total tick rate of all synthetic markets, and bursts."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1

MAX_TICKS = 20_000.0
"""Maximum total rate in ticks per second."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The total rate over time: `ticks` per second (None: the markets' own pace), with optional bursts.

    Every `burst_every` seconds, from then on, a burst of `burst_ticks` per second lasts `burst_seconds`.
    """

    ticks: float | None = None
    burst_ticks: float | None = None
    burst_seconds: float = 60.0
    burst_every: float = 600.0

    def ticks_at(self, elapsed: float) -> float | None:
        """Return the rate `elapsed` seconds after the start."""
        if self.burst_ticks is None or elapsed < self.burst_every:
            return self.ticks
        return self.burst_ticks if elapsed % self.burst_every < self.burst_seconds else self.ticks


def factor_for(ticks: float, rates: Sequence[float], step: float) -> float:
    """Return the factor for `rates` (ticks per second of each market) that gives `ticks` updates per second.

    All ticks of a market within a `step` of the simulator (seconds) make one update, so a market has at most 1/step
    updates per second. If that is too little for `ticks`, the markets make MAX_TICKS ticks per second together.
    """
    low, high, limit = 0.0, 1.0, MAX_TICKS / sum(rates) if rates else 1.0
    while _updates(high, rates, step) < ticks and high < limit:
        high *= 2
    if high >= limit and _updates(limit, rates, step) < ticks:
        return limit
    for _ in range(60):
        middle = (low + high) / 2
        if _updates(middle, rates, step) < ticks:
            low = middle
        else:
            high = middle
    return high


def _updates(factor: float, rates: Sequence[float], step: float) -> float:
    return sum(-expm1(-rate * factor * step) / step for rate in rates)
