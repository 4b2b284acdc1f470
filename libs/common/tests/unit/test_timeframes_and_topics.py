"""Timeframes nest and align; topics name symbols."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339, rfc3339
from ingress_common.topics import TopicError, Topics, symbol_of, topic_symbol

instants = st.floats(0, 4e9)
timeframes = st.sampled_from(TIMEFRAMES)


@given(timeframes, instants)
def test_floor_and_ceil_are_the_windows_around_an_instant(timeframe, instant):
    floor, ceil = timeframe.floor(instant), timeframe.ceil(instant)
    assert floor <= instant < floor + timeframe.seconds
    assert ceil - timeframe.seconds < instant <= ceil
    assert floor % timeframe.seconds == ceil % timeframe.seconds == 0


def test_each_timeframe_is_made_of_the_next_lower_one():
    assert [t.children * (t.lower.seconds if t.lower else 60) for t in TIMEFRAMES] == [t.seconds for t in TIMEFRAMES]
    assert Timeframe.D1.lower is Timeframe.H4
    assert Timeframe.W1.children == 7


def test_timeframes_are_those_of_the_contract_and_kraken_offers_each():
    offered = {1, 5, 15, 30, 60, 240, 1440, 10080, 21600}
    assert {1, 5, 15, 60, 240, 1440, 10080} <= {timeframe.minutes for timeframe in TIMEFRAMES} <= offered


def test_weeks_open_on_thursday():
    friday = datetime(2024, 3, 1, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(Timeframe.W1.floor(friday), UTC) == datetime(2024, 2, 29, tzinfo=UTC)


def test_unknown_timeframe_error_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"1m, 5m, 15m, .*1h, 4h, 1d, 1w, got '2m'"):
        Timeframe.parse("2m")


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_round_trip_to_the_microsecond(microseconds):
    assert round(parse_rfc3339(rfc3339(microseconds / 1e6)) * 1e6) == microseconds


@given(instants)
def test_an_instant_is_written_as_datetime_writes_it(instant):
    assert rfc3339(instant) == datetime.fromtimestamp(instant, UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("instant", [math.nan, math.inf, -math.inf])
def test_an_instant_that_is_not_finite_cannot_be_written(instant):
    with pytest.raises(ValueError, match="expected an instant in unix seconds"):
        rfc3339(instant)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-02-25T02:15:00", "2024-02-25"])
def test_time_without_offset_or_malformed_is_refused(text):
    with pytest.raises(ValueError, match="expected an RFC 3339 time"):
        parse_rfc3339(text)


def test_nanoseconds_are_read():
    assert parse_rfc3339("2026-09-25T17:48:26.844359566Z") == parse_rfc3339("2026-09-25T17:48:26.844359Z")


@pytest.mark.parametrize("symbol", ["BTC/USD", "1INCH/EUR", "BTC/USDC", "A.B/USD"])
def test_symbol_round_trips_through_a_topic(symbol):
    assert symbol_of(topic_symbol(symbol)) == symbol
    assert Topics("x").raw(symbol) == f"x/raw/kraken/{topic_symbol(symbol)}/1m"


@pytest.mark.parametrize(
    "symbol", ["", "/", "BTC", "BTCUSD", "BTC/", "/USD", "B+/USD", "A/#", "A/B/C", "A-B/C", "A /B", "A/B\0"]
)
def test_malformed_symbol_is_refused(symbol):
    with pytest.raises(TopicError, match="expected a symbol such as BTC/USD"):
        topic_symbol(symbol)


def test_topic_of_another_prefix_is_refused():
    with pytest.raises(TopicError, match="expected a topic under a/, got 'b/raw'"):
        Topics("a").split("b/raw")
