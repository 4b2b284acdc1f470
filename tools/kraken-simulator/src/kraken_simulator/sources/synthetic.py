"""Synthetic markets: a seeded random walk, sparse before the epoch and live from it on.

Seed, symbol and epoch determine the trades as long as the pace does not change. The walk starts at the epoch at the
usual price and runs in both directions, so the past can be created on demand and thousands of pairs start at once. The
past is sparser with age: years of candles cost a few thousand trades.
"""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kraken_simulator.pairs import VOLUME_UNITS, SimulatedPair
from kraken_simulator.profiles import Profile
from kraken_simulator.tape import TapeTrade
from kraken_simulator.text import NANOS

_HOUR = 3_600
_DAY = 86_400
_WEEK = 604_800
_MINUTE = 60 * NANOS
_REVERSION_PER_DAY = 0.1
_MEDIAN_NOTIONAL = 150.0
_TRADES_A_TICK = 1.6
_BUSY = 0.5
"""Trades per second above which some minutes begin with a trade at their first nanosecond."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A part of the past: from `age` seconds before the epoch on, at most `per_hour` trades per hour."""

    age: int
    per_hour: float


def full_history(weeks: int) -> tuple[Tier, ...]:
    """Return a past of `weeks` that fills 720 rows of every interval: about 14,000 trades for a busy market."""
    tiers = (Tier(120 * _DAY, 2), Tier(60 * _HOUR, 30), Tier(13 * _HOUR, 240))
    return (Tier(weeks * _WEEK, 1 / 24), *(tier for tier in tiers if tier.age < weeks * _WEEK))


def light_history(weeks: int) -> tuple[Tier, ...]:
    """Return a past for load tests with hundreds of markets: about 1,000 trades each."""
    tiers = (Tier(12 * _WEEK, 0.25), Tier(60 * _HOUR, 4), Tier(13 * _HOUR, 30))
    return (Tier(weeks * _WEEK, 1 / 24), *(tier for tier in tiers if tier.age < weeks * _WEEK))


def sparse_history(weeks: int) -> tuple[Tier, ...]:
    """Return a past for load tests with thousands of markets: 200 trades each, and ten rows per interval."""
    tiers = (Tier(60 * _HOUR, 1), Tier(13 * _HOUR, 4))
    return (Tier(weeks * _WEEK, 1 / 24), *(tier for tier in tiers if tier.age < weeks * _WEEK))


def usual_rate(profile: Profile) -> float:
    """Return a market's ticks per second at its usual pace."""
    return profile.trades_per_minute / 60 / _TRADES_A_TICK


class SyntheticSource:
    """The trades of a synthetic market. `epoch` (unix seconds, floored to a minute) is the end of the past.

    A tick is a taker's order: it makes one or more trades within microseconds, 1.6 on average.
    """

    def __init__(
        self, profile: Profile, *, seed: int, epoch: int, history: tuple[Tier, ...], pace: float = 1.0
    ) -> None:
        self._profile = profile
        self._key = f"{seed}:{profile.pair.symbol}:{epoch // 60 * 60}"
        self._epoch = epoch // 60 * 60
        self._history = history
        self._walk = _Walk(profile, random.Random(f"{self._key}:live"), self._epoch * NANOS)  # noqa: S311
        self._draw = self._walk.draw
        self._per_second = profile.trades_per_minute / 60
        self._usual_rate = usual_rate(profile)
        self._factor = pace
        self._next = self._next_after(self._epoch * NANOS)

    @property
    def pair(self) -> SimulatedPair:
        """The pair that is traded."""
        return self._profile.pair

    @property
    def next_time(self) -> int | None:
        """Time of the next trade (unix nanoseconds)."""
        return self._next

    @property
    def usual_rate(self) -> float:
        """The market's ticks per second at its usual pace."""
        return self._usual_rate

    def past(self) -> Iterable[TapeTrade]:
        """Return the trades before the epoch, oldest first."""
        return reversed(tuple(self._backwards()))

    def take_until(self, now: int) -> Iterable[TapeTrade]:
        """Return the new trades up to and including `now` (unix nanoseconds)."""
        if self._next > now:
            return ()
        taken: list[TapeTrade] = []
        while self._next <= now:
            taken += self._tick(self._next)
            self._next = self._next_after(self._next)
        return taken

    def set_pace(self, factor: float, now: int) -> None:
        """Trade `factor` times as often as usual from `now` (unix nanoseconds) on."""
        if factor == self._factor:
            return
        self._factor = factor
        self._next = self._next_after(max(now, self._epoch * NANOS))

    def _next_after(self, time: int) -> int:
        per_second = self._usual_rate * self._factor
        due = time + max(1, int(self._draw.expovariate(per_second) * NANOS))
        if self._per_second > _BUSY and due // _MINUTE != time // _MINUTE and self._draw.random() < 0.05:
            return due // _MINUTE * _MINUTE
        return due

    def _tick(self, time: int) -> Iterator[TapeTrade]:
        draw, moment = self._draw, time
        digits = draw.random()
        if digits < 0.15:
            moment = moment // 1_000 * 1_000
        elif digits < 0.18:
            moment = moment // 1_000_000 * 1_000_000
        yield self._walk.trade(moment)
        end = time // _MINUTE * _MINUTE + _MINUTE
        while draw.random() < 0.375 and (moment := moment + draw.randrange(1, 40_000)) < end:
            yield self._walk.trade(moment)

    def _backwards(self) -> Iterator[TapeTrade]:
        draw = random.Random(f"{self._key}:past")  # noqa: S311 (not for secrets)
        walk = _Walk(self._profile, draw, self._epoch * NANOS)
        if not self._history:
            return
        ends = [*(tier.age for tier in self._history[1:]), 0]
        for tier, end in zip(reversed(self._history), reversed(ends), strict=True):
            per_second = min(self._per_second, tier.per_hour / _HOUR)
            time = float(self._epoch - end)
            while (time := time - draw.expovariate(per_second)) >= self._epoch - tier.age:
                yield walk.trade(int(time * 1e6) * 1_000 + draw.randrange(1_000))


class _Walk:
    """The random walk of one market: `_log` is the logarithm of the price over the usual price."""

    def __init__(self, profile: Profile, draw: random.Random, start: int) -> None:
        self.draw = draw
        self._volatility = profile.daily_volatility
        self._scale = float(profile.price) * 10**profile.pair.price_decimals
        self._lots = 10**profile.pair.qty_decimals / float(profile.price)
        self._lot = 10 ** (VOLUME_UNITS - profile.pair.qty_decimals)
        self._log = 0.0
        self._last = start

    def trade(self, time: int) -> TapeTrade:
        draw = self.draw
        days = max(abs(time - self._last), 1_000) / (_DAY * NANOS)
        self._last = time
        step = draw.gauss(0.0, self._volatility * math.sqrt(min(days, 1.0)))
        self._log += step - self._log * min(1.0, _REVERSION_PER_DAY * days)
        sell = draw.random() < 0.5
        price = max(1, round(self._scale * math.exp(self._log)) - sell)
        lots = max(1, int(_MEDIAN_NOTIONAL * math.exp(draw.gauss(0.0, 1.4)) * self._lots))
        return TapeTrade(time, price, lots * self._lot, sell, draw.random() < 0.4)
