"""When a silence is unusual, by what is usual for its symbol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_gateway.live.quiet import SHORTEST, Quiet

SYMBOL = "BTC/USD"
gaps = st.lists(st.floats(0.01, 300.0), min_size=1, max_size=200)


def trading(*pauses: float) -> tuple[Quiet, float]:
    """A symbol with rows that are `pauses` apart, and when the last one came."""
    quiet, now = Quiet(), 1000.0
    quiet.begin()
    quiet.heard(SYMBOL, now)
    for pause in pauses:
        now += pause
        quiet.heard(SYMBOL, now)
    return quiet, now


@given(gaps)
def test_silence_of_a_few_seconds_is_never_in_doubt(pauses):
    quiet, last = trading(*pauses)
    assert quiet.doubt(SYMBOL, last + SHORTEST - 0.01) is None


@given(st.lists(st.floats(7.0, 600.0), min_size=1, max_size=100))
def test_symbol_that_trades_every_few_seconds_or_more_rarely_is_not_doubted_within_a_minute(pauses):
    quiet, last = trading(*pauses)
    assert quiet.doubt(SYMBOL, last + 60.0) is None


@given(st.lists(st.floats(0.5, 5.0), min_size=30, max_size=100), st.floats(60.0, 3600.0))
def test_symbol_that_trades_every_few_seconds_is_doubted_within_a_minute(pauses, silence):
    quiet, last = trading(*pauses)
    doubt = quiet.doubt(SYMBOL, last + silence)
    assert doubt is not None
    assert (doubt.symbol, doubt.since, doubt.silence) == (SYMBOL, last, pytest.approx(silence))


def test_symbol_of_which_little_is_known_is_never_doubted():
    quiet, last = trading(*[1.0] * 15)
    assert quiet.doubt(SYMBOL, last + 86_400.0) is None
    assert quiet.doubt("NEW/USD", last) is None


def test_burst_counts_once():
    burst = [0.01] * 50
    quiet, last = trading(*[*burst, 60.0] * 30)
    assert quiet.doubt(SYMBOL, last + 300.0) is None


@given(st.floats(10.0, 1000.0), st.floats(1.0, 1.99))
def test_explained_silence_is_in_doubt_again_only_when_it_has_doubled(silence, factor):
    quiet, last = trading(*[0.6] * 100)
    quiet.explained(quiet.doubt(SYMBOL, last + silence))
    assert quiet.doubt(SYMBOL, last + silence * factor) is None
    assert quiet.doubt(SYMBOL, last + silence * 2.001) is not None
    quiet.heard(SYMBOL, last + 2000.0)
    assert quiet.doubt(SYMBOL, last + 2000.0 + max(30.0, silence)) is not None


def test_explanation_of_an_earlier_silence_does_not_hold_for_the_present_one():
    quiet, last = trading(*[0.6] * 100)
    doubt = quiet.doubt(SYMBOL, last + 100.0)
    quiet.heard(SYMBOL, last + 101.0)
    quiet.explained(doubt)
    assert quiet.doubt(SYMBOL, last + 111.0) is not None


@given(st.lists(st.floats(100.0, 10_000.0), max_size=50))
def test_neither_outages_nor_silences_that_nobody_explained_make_a_busy_symbol_seem_quiet(outages):
    quiet, last = trading(*[0.6] * 100)
    for outage in outages:
        last += outage
        quiet.begin()
        assert quiet.doubt(SYMBOL, last) is None
        for _ in range(30):
            last += 0.6
            quiet.heard(SYMBOL, last)
    assert quiet.usual(SYMBOL) == SHORTEST
    quiet.heard(SYMBOL, last + 3600.0)
    assert quiet.usual(SYMBOL) == SHORTEST


def test_market_that_calms_down_is_no_longer_doubted_for_it():
    quiet, last = trading(*[0.6] * 100)
    doubted = 0
    for _ in range(60):
        if doubt := quiet.doubt(SYMBOL, last + 15.0):
            doubted += 1
            quiet.explained(doubt)
        last += 20.0
        quiet.heard(SYMBOL, last)
    assert 0 < doubted < 10
    assert quiet.doubt(SYMBOL, last + 60.0) is None


def test_symbols_that_are_not_kept_are_forgotten():
    quiet, last = trading(*[0.6] * 100)
    quiet.keep(["ETH/USD"])
    assert quiet.usual(SYMBOL) is None
    assert quiet.silence(SYMBOL, last) == 0.0
