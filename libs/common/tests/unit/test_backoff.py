"""Growing pauses between attempts."""

from hypothesis import given
from hypothesis import strategies as st

from ingress_common.backoff import FULL_JITTER, Backoff


def test_pauses_double_up_to_the_longest():
    backoff = Backoff(5.0, 60.0)
    assert [backoff.pause(attempt) for attempt in range(6)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_first_attempts_are_repeated_without_a_pause():
    backoff = Backoff(1.0, 60.0, at_once=2)
    assert [backoff.pause(attempt) for attempt in range(5)] == [0.0, 0.0, 1.0, 2.0, 4.0]


def test_pause_starts_over_with_the_count():
    backoff = Backoff(1.0, 60.0)
    assert backoff.pause(5) == 32.0
    assert backoff.pause(0) == 1.0


def test_jitter_is_a_factor_in_its_range():
    least = Backoff(8.0, 60.0, jitter=(0.75, 1.25), uniform=lambda: 0.0)
    most = Backoff(8.0, 60.0, jitter=(0.75, 1.25), uniform=lambda: 1.0)
    assert (least.pause(0), most.pause(0)) == (6.0, 10.0)
    assert (least.pause(9), most.pause(9)) == (45.0, 75.0)


@given(st.integers(0, 10**6))
def test_attempts_without_end_have_a_pause_within_the_longest(attempt):
    assert 0.0 <= Backoff(0.2, 5.0, FULL_JITTER).pause(attempt) <= 5.0
    assert Backoff(0.2, 5.0).pause(attempt) <= 5.0
