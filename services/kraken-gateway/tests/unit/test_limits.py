"""Connection attempts in a window, and the pauses between tries."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from kraken_gateway.kraken.limits import LIMIT, WINDOW, ConnectionBackoff, ConnectionLimiter


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(1, 5)), min_size=1, max_size=400))
def test_limit_is_never_exceeded_in_any_window(steps):
    now = 0.0
    limiter = ConnectionLimiter(lambda: now)
    taken = []
    for pause, members in steps:
        now += pause
        limiter.share(members, 1)
        if limiter.wait == 0.0:
            asyncio.run(limiter.acquire())
            taken.append(now)
        assert sum(at > now - WINDOW for at in taken) <= LIMIT


def test_gateways_of_one_address_share_the_limit():
    limiter = ConnectionLimiter(lambda: 0.0)
    limiter.share(4, 1)
    assert limiter.limit == LIMIT // 4


def test_backoff_grows_without_a_last_try():
    backoff = ConnectionBackoff(at_once=3)
    pauses = [backoff.pause() for _ in range(100)]
    assert pauses[:3] == [0.0, 0.0, 0.0]
    assert all(30.0 <= pause <= 60.0 for pause in pauses[10:])
    backoff.reset()
    assert backoff.pause() == 0.0


def test_floor_of_a_pause_holds_from_the_first_try_and_grows():
    backoff = ConnectionBackoff(at_once=3)
    pauses = [backoff.pause(at_least=30.0) for _ in range(9)]
    assert 30.0 <= pauses[0] <= 45.0
    assert all(30.0 <= pause <= 45.0 for pause in pauses)
    growing = ConnectionBackoff()
    pauses = [growing.pause(at_least=15.0, cap=10.0) for _ in range(9)]
    assert 15.0 <= pauses[0] <= 22.5
    assert all(30.0 <= pause <= 45.0 for pause in pauses[1:])
    assert backoff.pause(cap=1.0) <= 1.0


def test_tries_of_all_feeds_without_end_stay_within_the_limit():
    limiter = ConnectionLimiter(lambda: 0.0)
    for members, feeds in ((1, 1), (1, 8), (4, 8)):
        limiter.share(members, feeds)
        assert feeds * WINDOW / limiter.fair_pause <= limiter.limit
