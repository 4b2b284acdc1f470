"""Which call is made next, and how much may wait."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ingress_common.model import HistoryRequest, Range, SeedRequest
from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.queue import TRADES_AT_ONCE, BackfillQueue, Call, Endpoint
from kraken_gateway.backfill.ranges import LIMIT, MOST_SYMBOLS, RequestRefusedError, check, longest, merged
from kraken_gateway.backfill.responses import TradeReading

NOW = 1_700_000_040.0
DAY = 86400
HOUR = 3600
M1 = Timeframe.M1


class Worker:
    """A queue on a clock of its own; every pair may be called for once a second."""

    def __init__(self) -> None:
        self.steady = 0.0
        self.ready: dict[str, float] = {}
        self.queue = BackfillQueue(lambda: NOW + self.steady, lambda: self.steady, lambda s: self.ready.get(s, 0.0))

    def request(self, symbol: str, start: float, end: float, timeframe: Timeframe = M1) -> None:
        self.queue.add([symbol], timeframe, Range(start, end))

    def begin(self) -> Call | float:
        call = self.queue.next()
        if isinstance(call, Call):
            self.ready[call.wanted.symbol] = self.steady + 1.0
        return call

    def respond(self, call: Call, step: float = HOUR) -> Range:
        """Make the call: OHLC gives all, Trades `step` seconds of the latest range."""
        (span,) = call.take()
        if call.endpoint is Endpoint.TRADES and span.start + step < span.end:
            call.wanted.put_back([Range(span.start + step, span.end)], NOW + self.steady)
        self.queue.done(call)
        return span


def test_short_request_is_next_although_a_long_one_has_begun():
    worker = Worker()
    worker.request("A/B", NOW - 20 * HOUR, NOW)
    first = worker.begin()
    assert first.endpoint is Endpoint.TRADES
    worker.request("A/B", NOW - 600, NOW)
    assert worker.begin() == float("inf")
    assert worker.respond(first).start == NOW - 20 * HOUR
    worker.steady = 1.0
    second = worker.begin()
    assert second.endpoint is Endpoint.OHLC
    assert worker.respond(second) == Range(NOW - 600, NOW)
    worker.steady = 2.0
    third = worker.begin()
    assert third.endpoint is Endpoint.TRADES
    assert worker.respond(third).start == NOW - 19 * HOUR
    assert worker.queue.pending == 1


def test_trades_never_take_all_calls_and_always_get_some():
    worker = Worker()
    for number in range(5):
        worker.request(f"LONG{number}/B", NOW - 20 * HOUR, NOW - 15 * HOUR)
        worker.request(f"SHORT{number}/B", NOW - 600, NOW)
    calls = [worker.begin() for _ in range(4)]
    assert [call.endpoint for call in calls].count(Endpoint.TRADES) == TRADES_AT_ONCE
    assert [call.endpoint for call in calls].count(Endpoint.OHLC) == 4 - TRADES_AT_ONCE


def test_symbols_take_turns():
    worker = Worker()
    for number in range(3):
        worker.request(f"S{number}/B", NOW - 20 * HOUR, NOW - 15 * HOUR)
    order = []
    for _ in range(9):
        call = worker.begin()
        while not isinstance(call, Call):
            worker.steady = call
            call = worker.begin()
        worker.respond(call)
        order.append(call.wanted.symbol)
    assert all(sorted(order[i : i + 3]) == ["S0/B", "S1/B", "S2/B"] for i in (0, 3, 6))


def test_latest_of_several_long_ranges_is_first_and_each_resumes():
    worker = Worker()
    worker.request("A/B", NOW - 100 * HOUR, NOW - 98 * HOUR)
    worker.request("A/B", NOW - 20 * HOUR, NOW - 18 * HOUR)
    starts = []
    for second in range(4):
        worker.steady = float(second)
        starts.append((worker.respond(worker.begin()).start - NOW) / HOUR)
    assert starts == [-20, -19, -100, -99]
    assert worker.queue.pending == 0
    assert worker.queue.pending == 0
    assert worker.begin() == float("inf")


def test_long_range_ends_with_what_ohlc_reaches():
    worker = Worker()
    worker.request("A/B", NOW - 13 * HOUR, NOW)
    endpoints = []
    for second in range(3):
        worker.steady = float(second)
        call = worker.begin()
        endpoints.append(call.endpoint)
        worker.respond(call)
    assert endpoints == [Endpoint.TRADES, Endpoint.TRADES, Endpoint.OHLC]
    assert worker.queue.pending == 0


def test_while_kraken_is_ailing_no_call_is_made():
    worker = Worker()
    worker.request("A/B", NOW - 600, NOW)
    worker.request("C/D", NOW - 20 * HOUR, NOW)
    worker.queue.not_before = 7.0
    assert worker.begin() == 7.0
    worker.steady = 7.0
    assert isinstance(worker.begin(), Call)


@pytest.mark.parametrize("in_hand", [False, True])
def test_repeated_request_of_a_shrinking_gap_does_not_restart_the_reading(in_hand):
    worker = Worker()
    begin, end = NOW - 30 * HOUR, NOW - 20 * HOUR
    worker.request("A/B", begin, end)
    worker.respond(worker.begin())
    done = begin + HOUR
    (wanted,) = worker.queue._all()
    wanted.readings = {done: replace(TradeReading.begin(begin, None), done=done)}
    worker.steady = 1.0
    if in_hand:
        call = worker.begin()
        assert call.take() == [Range(done, end)]
    worker.request("A/B", done - 300, end)
    if in_hand:
        call.wanted.put_back([Range(done, end)], NOW)
        worker.queue.done(call)
        worker.steady = 2.0
    assert worker.begin().take() == [Range(done, end)]


def test_reading_continues_into_minutes_that_ohlc_no_longer_reaches():
    worker = Worker()
    begin, end = NOW - 13 * HOUR, NOW
    worker.request("A/B", begin, end)
    call = worker.begin()
    call.take()
    wanted = call.wanted
    done = NOW - 718 * 60
    reading = wanted.readings[done] = replace(TradeReading.begin(begin, None), done=done)
    wanted.put_back([Range(done, end)], NOW)
    worker.queue.done(call)
    # Minutes pass before the next call: Kraken is unavailable.
    worker.steady = 600.0
    call = worker.begin()
    assert (call.endpoint, call.take()) == (Endpoint.TRADES, [Range(done, end)])
    assert wanted.readings == {done: reading}


def test_request_beyond_the_last_minutes_is_served_from_its_start():
    worker = Worker()
    begin, end = NOW - 30 * HOUR, NOW - 20 * HOUR
    worker.request("A/B", begin, end)
    worker.respond(worker.begin())
    (wanted,) = worker.queue._all()
    wanted.readings = {begin + HOUR: replace(TradeReading.begin(begin, None), done=begin + HOUR)}
    worker.request("A/B", begin, end)
    worker.steady = 1.0
    assert worker.begin().take() == [Range(begin, end)]


def test_minute_that_passes_between_decision_and_call_changes_nothing():
    worker = Worker()
    worker.request("A/B", NOW - 718 * 60, NOW)
    call = worker.begin()
    worker.steady = 120.0
    assert (call.endpoint, call.take()) == (Endpoint.OHLC, [Range(NOW - 718 * 60, NOW)])


def test_age_of_the_oldest_request_is_reported():
    worker = Worker()
    assert worker.queue.oldest == 0.0
    worker.request("A/B", NOW - 600, NOW)
    worker.steady = 5.0
    worker.request("C/D", NOW - 600, NOW)
    assert worker.queue.oldest == 5.0


def test_too_many_ranges_are_refused_without_side_effects():
    worker = Worker()
    for number in range(LIMIT):
        worker.request("A/B", NOW - (number + 1) * 40 * DAY, NOW - (number + 1) * 40 * DAY + HOUR)
    before = worker.queue.pending
    with pytest.raises(RequestRefusedError, match="expected at most 32 waiting ranges of A/B 1m"):
        worker.queue.add(["C/D", "A/B"], M1, Range(NOW - 3000 * DAY, NOW - 3000 * DAY + HOUR))
    assert worker.queue.pending == before
    worker.request("A/B", NOW - 600, NOW)
    assert worker.queue.pending == before + 1


spans = st.tuples(st.integers(0, 2 * 10**9), st.integers(1, longest(M1))).map(lambda t: Range(t[0], t[0] + t[1]))


@given(st.lists(spans, max_size=80))
def test_merged_ranges_cover_the_same_time_within_the_request_limit(ranges):
    result = merged(ranges, M1)
    assert all(0 < r.end - r.start <= longest(M1) for r in result)
    for span in ranges:
        at = span.start
        for r in result:
            if r.start <= at < r.end:
                at = r.end
        assert at >= span.end


@pytest.mark.parametrize(
    ("most", "change", "reason"),
    [
        (
            HistoryRequest(("A/B",), M1, NOW - 31 * DAY, NOW),
            {"start": NOW - 31 * DAY - 60},
            "at most 44640 candles of 1m",
        ),
        (
            HistoryRequest(("A/B",), Timeframe.H1, NOW - 5000 * HOUR, NOW),
            {"start": NOW - 5001 * HOUR},
            "at most 5000 candles of 1h",
        ),
        (HistoryRequest(("A/B",), M1, 0.0, 60.0), {"start": -60.0}, "a range from 1970 to a day from now"),
        (
            HistoryRequest(("A/B",), Timeframe.W1, 0.0, NOW + DAY),
            {"end": NOW + DAY + 1},
            "a range from 1970 to a day from now",
        ),
        (
            HistoryRequest(("A/B",) * MOST_SYMBOLS, M1, NOW - 31 * DAY, NOW),
            {"symbols": ("A/B",) * (MOST_SYMBOLS + 1)},
            "at most 5000 symbols, got 5001",
        ),
        (
            SeedRequest(("A/B",) * MOST_SYMBOLS),
            {"symbols": ("A/B",) * (MOST_SYMBOLS + 1)},
            "at most 5000 symbols, got 5001",
        ),
    ],
)
def test_largest_request_is_accepted_and_a_larger_one_refused(most, change, reason):
    check(most, NOW)
    with pytest.raises(RequestRefusedError, match=reason):
        check(structs.replace(most, **change), NOW)
