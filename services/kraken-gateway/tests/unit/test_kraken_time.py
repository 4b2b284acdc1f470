"""Kraken's time, as it is measured here."""

from hypothesis import given
from hypothesis import strategies as st

from kraken_gateway.kraken.kraken_time import KrakenClock, KrakenTime


def clock_of(wall: float) -> KrakenClock:
    """A clock that has measured nothing, at the steady second 5."""
    return KrakenClock(lambda: wall, lambda: 5.0)


def test_without_stamps_time_is_the_wall_clock():
    assert KrakenTime(clock_of(1000.0)).at(5.0) == 1000.0


@given(
    offset=st.floats(-1e6, 1e6),
    delays=st.lists(st.floats(0, 5), min_size=1, max_size=100),
    elapsed=st.floats(0, 100),
)
def test_measured_time_is_never_ahead_of_krakens(offset, delays, elapsed):
    time = KrakenTime(clock_of(0.0))
    for delay in delays:
        time.observe_reply(offset + 50.0 - delay, 50.0)
    assert time.at(50.0 + elapsed) <= offset + 50.0 + elapsed + 1e-6


def test_one_wrong_stamp_does_not_move_the_time():
    time = KrakenTime(clock_of(0.0))
    for stamp in (1000.0, 1000.0, 99_999.0, 1000.0):
        time.observe_reply(stamp, 0.0)
    assert time.at(1.0) == 1001.0


def test_step_of_the_wall_clock_does_not_move_the_time():
    wall = 1000.0
    time = KrakenTime(KrakenClock(lambda: wall, lambda: 11.0))
    time.observe_reply(1000.0, 10.0)
    wall = 5000.0
    assert time.at(11.0) == 1001.0


def test_krakens_time_follows_the_steady_clock_and_gives_the_skew():
    steady, wall = 10.0, 5000.0
    clock = KrakenClock(lambda: wall, lambda: steady)
    assert (clock.now(), clock.skew, clock.offset) == (5000.0, 0.0, None)
    clock.learn("a", 990.0)
    clock.learn("b", 991.0)
    clock.learn("c", None)
    assert (clock.now(), clock.skew) == (1000.0, 4000.0)
    steady, wall = 11.0, 1031.0
    assert (clock.now(), clock.skew) == (1001.0, 30.0)
    clock.forget("a")
    assert clock.now() == 1001.0
    assert KrakenTime(clock).at(12.0) == 1002.0
