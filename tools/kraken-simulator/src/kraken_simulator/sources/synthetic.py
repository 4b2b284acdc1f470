"""Synthetic markets: a seeded random walk, sparse in the past and lively from the epoch on.

Deterministic by seed, symbol and epoch: the minutes after the epoch draw from a generator keyed by the minute, and each
goes on from the price of the one before. The past is thinned by age: years of candles cost a few thousand trades.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from kraken_simulator.pairs import Profile
from kraken_simulator.sources.port import StreamSource
from kraken_simulator.tape import Trade
from kraken_simulator.text import NANOS, VOLUME_DECIMALS

_HOUR = 3_600
_DAY = 86_400
_WEEK = 604_800
_REVERSION_PER_DAY = 0.1
_MEDIAN_NOTIONAL = 150.0


@dataclass(frozen=True, slots=True)
class Tier:
    """A stretch of the past: from `age` seconds before the epoch on, at most `per_hour` trades an hour."""

    age: int
    per_hour: float


def full_history(weeks: int) -> tuple[Tier, ...]:
    """Return a past that fills 720 rows of every interval, `weeks` long: about 14,000 trades for a busy market."""
    tiers = (Tier(120 * _DAY, 2), Tier(60 * _HOUR, 30), Tier(13 * _HOUR, 240))
    return (Tier(weeks * _WEEK, 1 / 24), *(tier for tier in tiers if tier.age < weeks * _WEEK))


def light_history(weeks: int) -> tuple[Tier, ...]:
    """Return a past for load tests with hundreds of markets: about a thousand trades for each."""
    tiers = (Tier(12 * _WEEK, 0.25), Tier(60 * _HOUR, 4), Tier(13 * _HOUR, 30))
    return (Tier(weeks * _WEEK, 1 / 24), *(tier for tier in tiers if tier.age < weeks * _WEEK))


def synthetic_source(
    profile: Profile, *, seed: int, epoch: int, history: tuple[Tier, ...], activity: float = 1.0
) -> StreamSource:
    """Return the source of a synthetic market; `epoch` (unix seconds) is where the past ends, at a full minute."""
    return StreamSource(profile.pair, _Walk(profile, seed, epoch // 60 * 60, history, activity).trades())


class _Walk:
    """The random walk of one market: `_log` is the logarithm of the price over the usual price."""

    def __init__(self, profile: Profile, seed: int, epoch: int, history: tuple[Tier, ...], activity: float) -> None:
        self._profile = profile
        self._key = f"{seed}:{profile.pair.symbol}"
        self._epoch = epoch
        self._history = history
        self._per_second = profile.trades_per_minute * activity / 60
        self._scale = float(profile.price) * 10**profile.pair.price_decimals
        self._unit = 10**VOLUME_DECIMALS / float(profile.price)
        self._log = 0.0
        self._last = 0

    def trades(self) -> Iterator[Trade]:
        yield from self._past()
        minute = self._epoch
        while True:
            yield from self._minute(minute)
            minute += 60

    def _past(self) -> Iterator[Trade]:
        draw = random.Random(f"{self._key}:{self._epoch}")  # noqa: S311 (not for secrets)
        if not self._history:
            return
        ends = [*(tier.age for tier in self._history[1:]), 0]
        self._last = (self._epoch - self._history[0].age) * NANOS
        for tier, end in zip(self._history, ends, strict=True):
            per_second = min(self._per_second, tier.per_hour / _HOUR)
            time = float(self._epoch - tier.age)
            while (time := time + draw.expovariate(per_second)) < self._epoch - end:
                yield self._trade(draw, int(time * 1e6) * 1_000 + draw.randrange(1_000))

    def _minute(self, minute: int) -> Iterator[Trade]:
        draw = random.Random(f"{self._key}:{minute}")  # noqa: S311 (not for secrets)
        start = minute * NANOS
        if self._per_second > 0.5 and draw.random() < 0.05:
            yield self._trade(draw, start)
        time = 0.0
        while (time := time + draw.expovariate(self._per_second / 1.6)) < 60:
            moment = start + int(time * NANOS)
            digits = draw.random()
            if digits < 0.15:
                moment = moment // 1_000 * 1_000
            elif digits < 0.18:
                moment = moment // 1_000_000 * 1_000_000
            yield self._trade(draw, moment)
            while draw.random() < 0.375 and (moment := moment + draw.randrange(1, 40_000)) < start + 60 * NANOS:
                yield self._trade(draw, moment)

    def _trade(self, draw: random.Random, time: int) -> Trade:
        days = max(time - self._last, 1_000) / (_DAY * NANOS)
        self._last = time
        step = draw.gauss(0.0, self._profile.daily_volatility * math.sqrt(min(days, 1.0)))
        self._log += step - self._log * min(1.0, _REVERSION_PER_DAY * days)
        sell = draw.random() < 0.5
        price = max(1, round(self._scale * math.exp(self._log)) - sell)
        quantity = max(1, int(_MEDIAN_NOTIONAL * math.exp(draw.gauss(0.0, 1.4)) * self._unit))
        return Trade(time, price, quantity, sell, draw.random() < 0.4)
