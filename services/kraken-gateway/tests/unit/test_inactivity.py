"""Which inactivity of a symbol is unusual."""

import random

from kraken_gateway.live.inactivity import SHORTEST, Inactivity


def learned(gap: float, count: int = 64) -> tuple[Inactivity, float]:
    """What is known of a symbol that trades by chance, `gap` seconds apart on average; and when it did last."""
    draw, inactivity, now = random.Random(1), Inactivity(), 0.0
    for _ in range(count):
        now += draw.expovariate(1 / gap)
        inactivity.updated("A/B", now)
    return inactivity, now


def test_busy_symbol_is_suspect_within_seven_seconds():
    inactivity, now = learned(0.4, 200)
    assert inactivity.likelihood("A/B", now + SHORTEST - 0.1) < 1
    assert inactivity.likelihood("A/B", now + 7.0) >= 1


def test_thin_symbol_is_not_suspect_within_a_minute():
    inactivity, now = learned(30.0)
    assert inactivity.likelihood("A/B", now + 60.0) < 1


def test_symbol_with_few_updates_is_never_suspect():
    inactivity, now = learned(0.4, 10)
    assert inactivity.likelihood("A/B", now + 1e6) == 0


def test_verified_inactivity_is_unusual_once_doubled():
    inactivity, now = learned(0.4, 200)
    inactivity.verified("A/B", now + 10.0)
    assert inactivity.likelihood("A/B", now + 19.0) < 1
    assert inactivity.likelihood("A/B", now + 21.0) >= 1


def test_stale_subscription_does_not_change_the_usual_inactivity():
    inactivity, now = learned(0.4, 200)
    inactivity.updated("A/B", now + 600.0)
    assert inactivity.likelihood("A/B", now + 600.0 + 10.0) >= 1


def test_time_without_a_connection_is_no_inactivity():
    inactivity, now = learned(0.4, 200)
    inactivity.begin()
    assert inactivity.since("A/B", now + 100.0) == 0
    assert inactivity.likelihood("A/B", now + 100.0) == 0


def test_unfollowed_symbols_are_forgotten():
    inactivity, now = learned(0.4, 200)
    inactivity.keep([])
    assert inactivity.since("A/B", now + 5.0) == 0
