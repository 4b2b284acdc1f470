"""Coverage as a set of instants."""

from hypothesis import given
from hypothesis import strategies as st

from aggregator.core import Intervals

spans = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted)
changes = st.lists(st.tuples(st.booleans(), spans), max_size=30)


def build(script):
    intervals, points = Intervals(), set()
    for adds, (start, end) in script:
        if adds:
            intervals.add(start, end)
            points |= set(range(start, end))
        else:
            intervals.remove(start, end)
            points -= set(range(start, end))
    return intervals, points


@given(changes, spans)
def test_intervals_equal_the_reference_set(script, span):
    intervals, points = build(script)
    start, end = span
    assert {p for s, e in intervals for p in range(s, e)} == points
    wanted = set(range(start, end))
    assert {p for s, e in intervals.gaps(start, end) for p in range(s, e)} == wanted - points
    if start < end:
        assert intervals.covers(start, end) == (wanted <= points)


@given(changes)
def test_intervals_stay_sorted_disjoint_and_merged(script):
    intervals, _ = build(script)
    flat = [bound for span in intervals for bound in span]
    assert flat == sorted(set(flat))


@given(changes, st.integers(0, 60))
def test_start_of_is_the_start_of_the_interval_up_to_an_instant(script, instant):
    intervals, points = build(script)
    start = intervals.start_of(instant)
    if start is None:
        assert instant - 1 not in points
        assert instant not in points
    else:
        assert set(range(start, instant)) <= points
        assert start - 1 not in points


@given(changes, st.integers(0, 60))
def test_removing_before_an_instant_keeps_what_follows(script, instant):
    intervals, points = build(script)
    intervals.remove_before(instant)
    assert {p for s, e in intervals for p in range(s, e)} == {p for p in points if p >= instant}
