"""The planned requests cover the gaps, bounded and aligned."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from admin_api.reconciler.planning import DAY, MINUTES_OF_A_ROLL_UP, OHLC_ROWS, piece_seconds, pieces, plan_requests
from ingress_common.gaps import Gap
from ingress_common.model import Range
from ingress_common.timeframes import TIMEFRAMES, Timeframe

NOW = 1_700_000_030.0
M1, M5, H1, H4, D1 = Timeframe.M1, Timeframe.M5, Timeframe.H1, Timeframe.H4, Timeframe.D1


def gap(timeframe, back, windows=1, symbol="BTC/USD"):
    """`windows` candles of which the first opened about `back` seconds ago."""
    start = timeframe.floor(NOW - back)
    span = Range(start, start + windows * timeframe.seconds)
    return Gap(symbol, timeframe, span)


gaps = st.builds(
    gap,
    st.sampled_from(TIMEFRAMES),
    st.integers(0, 400 * DAY),
    st.integers(1, 3000),
    st.sampled_from(["BTC/USD", "ETH/USD"]),
)


@given(st.lists(gaps, max_size=6))
def test_requests_cover_the_gaps_and_are_bounded_and_aligned(wanted):
    requests = plan_requests(wanted, NOW)
    for request in requests:
        assert request.start < request.end
        assert request.end - request.start <= piece_seconds(request.timeframe)
        assert request.start % request.timeframe.seconds == 0
        assert request.end % request.timeframe.seconds == 0
        if request.timeframe is M1:
            edge = H1.ceil(NOW - MINUTES_OF_A_ROLL_UP)
            assert request.start >= edge or request.start % 3600 == 0
            assert request.end > edge or request.end % 3600 == 0
    for one in wanted:
        for piece in pieces(one.range, one.timeframe):
            own = _covered(requests, one.symbol, one.timeframe, piece)
            reached = piece.start >= NOW - OHLC_ROWS * one.timeframe.seconds
            by_minutes = one.timeframe.seconds <= 3600 and not reached
            assert own or (by_minutes and _covered(requests, one.symbol, M1, piece))


@given(gaps)
def test_pieces_are_the_gap_itself_and_cut_where_they_always_are(one):
    cut = pieces(one.range, one.timeframe)
    assert cut[0].start == one.range.start
    assert cut[-1].end == one.range.end
    assert all(first.end == second.start for first, second in pairwise(cut))
    for piece in cut:
        assert pieces(piece, one.timeframe) == [piece]


def test_recent_minutes_are_requested_exactly_and_older_ones_by_whole_hours():
    recent, old = gap(M1, 3 * 3600, 7), gap(M1, 20 * 3600, 7)
    requests = plan_requests([recent, old], NOW)
    assert [(request.start, request.end) for request in requests] == [
        (recent.range.start, recent.range.end),
        (H1.floor(old.range.start), H1.ceil(old.range.end)),
    ]


def test_neighbours_are_requested_together_and_distant_ones_apart():
    one, near, far = gap(M1, 7200), gap(M1, 6000), gap(M1, 30 * 3600)
    requests = plan_requests([one, near, far], NOW)
    assert (requests[0].start, requests[0].end) == (one.range.start, near.range.end)
    assert len(requests) == 2


def test_gap_beyond_ohlc_of_a_short_timeframe_is_rolled_up_from_minutes():
    assert {request.timeframe for request in plan_requests([gap(M5, 5 * DAY)], NOW)} == {M1}
    assert {request.timeframe for request in plan_requests([gap(M5, DAY)], NOW)} == {M5}
    assert {request.timeframe for request in plan_requests([gap(H4, 200 * DAY)], NOW)} == {H4}


def test_minutes_come_first_then_upwards_the_newest_first():
    requests = plan_requests([gap(D1, 3 * DAY), gap(H1, 9000), gap(M1, 9 * 3600), gap(M1, 3600)], NOW)
    assert [request.timeframe for request in requests] == [M1, M1, H1, D1]
    assert requests[0].start > requests[1].start


def _covered(requests, symbol, timeframe, span):
    at = span.start
    for request in sorted(requests, key=lambda request: request.start):
        if (request.symbol, request.timeframe) == (symbol, timeframe) and request.start <= at < request.end:
            at = request.end
    return at >= span.end
