"""Ranges of time that wait."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.ranges import aligned, merged

spans = st.tuples(st.integers(0, 10**6), st.integers(0, 10**4)).map(lambda t: Range(t[0], t[0] + t[1]))


@given(st.lists(spans, max_size=80))
def test_merged_ranges_are_few_apart_and_hold_everything(ranges):
    result = merged(ranges, Timeframe.M1)
    assert len(result) <= 32
    assert all(a.end < b.start for a, b in pairwise(result))
    assert all(any(r.start <= span.start and span.end <= r.end for r in result) for span in ranges)


def test_range_is_widened_to_whole_candles():
    assert aligned(Range(61.5, 119.0), Timeframe.M1) == Range(60, 120)
