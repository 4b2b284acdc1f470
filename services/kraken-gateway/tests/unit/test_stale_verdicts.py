"""Verdicts about subscriptions, from what was seen and what was read."""

from kraken_gateway.live.stale import SeenTrades, has_missed, is_behind


def test_feed_is_behind_when_a_reading_has_newer_trades():
    assert is_behind({60: 3}, {60: 4})
    assert is_behind({60: 3}, {60: 3, 120: 1})
    assert not is_behind({60: 3, 120: 1}, {60: 9})
    assert not is_behind({}, {60: 4})


def test_minute_was_missed_when_it_is_closed_and_kraken_has_more_trades_of_it():
    assert has_missed({0: 1, 60: 3}, {60: 4}, closed=60.0)
    assert not has_missed({0: 1, 60: 3}, {60: 4}, closed=59.0)
    assert not has_missed({60: 3}, {60: 4}, closed=60.0)
    assert not has_missed({}, {60: 4}, closed=60.0)


def test_row_is_new_if_later_or_with_more_trades():
    seen = SeenTrades()
    assert [seen.note("A/B", minute, trades) for minute, trades in ((60, 1), (60, 1), (60, 2), (0, 9), (120, 1))] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert seen.of("A/B") == {60: 2, 0: 9, 120: 1}


def test_only_the_latest_minutes_are_kept():
    seen = SeenTrades()
    for minute in range(0, 60 * 50, 60):
        seen.note("A/B", minute, 1)
    assert min(seen.of("A/B")) == 60 * 30
