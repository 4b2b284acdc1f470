"""Which call is made next, and how much may wait."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress_common.model import HistoryRequest, Range, SeedRequest
from ingress_common.timeframes import Timeframe
from kraken_gateway.history.backlog import TRADES_AT_ONCE, Backlog, Job, Lane
from kraken_gateway.history.bounds import MOST_SYMBOLS, RequestRefusedError, check, longest
from kraken_gateway.history.ranges import LIMIT, merged
from kraken_gateway.history.trades import TradeReading

NOW = 1_700_000_040.0
DAY = 86400
HOUR = 3600
M1 = Timeframe.M1


class Ticket:
    def __init__(self) -> None:
        self.answers = 0

    def done(self) -> None:
        self.answers += 1


class Clerk:
    """A backlog on a clock of its own; every symbol may be asked once a second."""

    def __init__(self) -> None:
        self.steady = 0.0
        self.ready: dict[str, float] = {}
        self.backlog = Backlog(lambda: NOW + self.steady, lambda: self.steady, lambda s: self.ready.get(s, 0.0))

    def ask(self, symbol: str, start: float, end: float, timeframe: Timeframe = M1) -> Ticket:
        ticket = Ticket()
        self.backlog.add([symbol], timeframe, Range(start, end), lambda: ticket)
        return ticket

    def begin(self) -> Job | float:
        job = self.backlog.next()
        if isinstance(job, Job):
            self.ready[job.waiting.symbol] = self.steady + 1.0
        return job

    def answer(self, job: Job, step: float = HOUR) -> Range:
        """Make the call: OHLC answers all, Trades `step` seconds of the latest range."""
        (span,) = job.take()
        if job.lane is Lane.TRADES and span.start + step < span.end:
            job.waiting.put_back([Range(span.start + step, span.end)], NOW + self.steady)
        self.backlog.done(job)
        return span


def test_short_request_is_next_although_a_long_one_has_begun():
    clerk = Clerk()
    long = clerk.ask("A/B", NOW - 20 * HOUR, NOW)
    first = clerk.begin()
    assert first.lane is Lane.TRADES
    short = clerk.ask("A/B", NOW - 600, NOW)
    assert clerk.begin() == float("inf")
    assert clerk.answer(first).start == NOW - 20 * HOUR
    clerk.steady = 1.0
    second = clerk.begin()
    assert second.lane is Lane.OHLC
    assert clerk.answer(second) == Range(NOW - 600, NOW)
    clerk.steady = 2.0
    third = clerk.begin()
    assert third.lane is Lane.TRADES
    assert clerk.answer(third).start == NOW - 19 * HOUR
    assert (long.answers, short.answers) == (0, 0)


def test_trades_never_take_all_calls_and_always_get_some():
    clerk = Clerk()
    for number in range(5):
        clerk.ask(f"LONG{number}/B", NOW - 20 * HOUR, NOW - 15 * HOUR)
        clerk.ask(f"SHORT{number}/B", NOW - 600, NOW)
    jobs = [clerk.begin() for _ in range(4)]
    assert [job.lane for job in jobs].count(Lane.TRADES) == TRADES_AT_ONCE
    assert [job.lane for job in jobs].count(Lane.OHLC) == 4 - TRADES_AT_ONCE


def test_symbols_take_turns():
    clerk = Clerk()
    for number in range(3):
        clerk.ask(f"S{number}/B", NOW - 20 * HOUR, NOW - 15 * HOUR)
    order = []
    for _ in range(9):
        job = clerk.begin()
        while not isinstance(job, Job):
            clerk.steady = job
            job = clerk.begin()
        clerk.answer(job)
        order.append(job.waiting.symbol)
    assert all(sorted(order[i : i + 3]) == ["S0/B", "S1/B", "S2/B"] for i in (0, 3, 6))


def test_latest_of_several_long_ranges_goes_first_and_each_goes_on_where_it_was():
    clerk = Clerk()
    ticket = clerk.ask("A/B", NOW - 100 * HOUR, NOW - 98 * HOUR)
    clerk.ask("A/B", NOW - 20 * HOUR, NOW - 18 * HOUR)
    starts = []
    for second in range(4):
        clerk.steady = float(second)
        starts.append((clerk.answer(clerk.begin()).start - NOW) / HOUR)
    assert starts == [-20, -19, -100, -99]
    assert ticket.answers == 1
    assert clerk.backlog.pending == 0
    assert clerk.begin() == float("inf")


def test_long_range_ends_with_what_ohlc_reaches():
    clerk = Clerk()
    ticket = clerk.ask("A/B", NOW - 13 * HOUR, NOW)
    lanes = []
    for second in range(3):
        clerk.steady = float(second)
        job = clerk.begin()
        lanes.append(job.lane)
        clerk.answer(job)
    assert lanes == [Lane.TRADES, Lane.TRADES, Lane.OHLC]
    assert ticket.answers == 1


def test_while_kraken_is_ailing_nobody_asks():
    clerk = Clerk()
    clerk.ask("A/B", NOW - 600, NOW)
    clerk.ask("C/D", NOW - 20 * HOUR, NOW)
    clerk.backlog.not_before = 7.0
    assert clerk.begin() == 7.0
    clerk.steady = 7.0
    assert isinstance(clerk.begin(), Job)


@pytest.mark.parametrize("in_hand", [False, True])
def test_asking_again_while_a_gap_shrinks_does_not_begin_the_reading_anew(in_hand):
    clerk = Clerk()
    begin, end = NOW - 30 * HOUR, NOW - 20 * HOUR
    clerk.ask("A/B", begin, end)
    clerk.answer(clerk.begin())
    done = begin + HOUR
    (waiting,) = clerk.backlog._all()
    waiting.readings = {done: replace(TradeReading.begin(begin, None), done=done)}
    clerk.steady = 1.0
    if in_hand:
        job = clerk.begin()
        assert job.take() == [Range(done, end)]
    clerk.ask("A/B", done - 300, end)
    if in_hand:
        job.waiting.put_back([Range(done, end)], NOW)
        clerk.backlog.done(job)
        clerk.steady = 2.0
    assert clerk.begin().take() == [Range(done, end)]


def test_who_has_missed_more_than_the_last_minutes_is_answered_from_there():
    clerk = Clerk()
    begin, end = NOW - 30 * HOUR, NOW - 20 * HOUR
    clerk.ask("A/B", begin, end)
    clerk.answer(clerk.begin())
    (waiting,) = clerk.backlog._all()
    waiting.readings = {begin + HOUR: replace(TradeReading.begin(begin, None), done=begin + HOUR)}
    clerk.ask("A/B", begin, end)
    clerk.steady = 1.0
    assert clerk.begin().take() == [Range(begin, end)]


def test_minute_that_passes_between_decision_and_call_changes_nothing():
    clerk = Clerk()
    clerk.ask("A/B", NOW - 718 * 60, NOW)
    job = clerk.begin()
    clerk.steady = 120.0
    assert (job.lane, job.take()) == (Lane.OHLC, [Range(NOW - 718 * 60, NOW)])


def test_age_of_the_oldest_request_is_told():
    clerk = Clerk()
    assert clerk.backlog.oldest == 0.0
    clerk.ask("A/B", NOW - 600, NOW)
    clerk.steady = 5.0
    clerk.ask("C/D", NOW - 600, NOW)
    assert clerk.backlog.oldest == 5.0


def test_more_ranges_than_can_be_kept_apart_are_refused_and_nothing_else_is_disturbed():
    clerk = Clerk()
    for number in range(LIMIT):
        clerk.ask("A/B", NOW - (number + 1) * 40 * DAY, NOW - (number + 1) * 40 * DAY + HOUR)
    before = clerk.backlog.pending
    ticket = Ticket()
    with pytest.raises(RequestRefusedError, match="expected at most 32 ranges of A/B 1m"):
        clerk.backlog.add(["C/D", "A/B"], M1, Range(NOW - 3000 * DAY, NOW - 3000 * DAY + HOUR), lambda: ticket)
    assert clerk.backlog.pending == before
    assert ticket.answers == 0
    clerk.ask("A/B", NOW - 600, NOW)
    assert clerk.backlog.pending == before + 1


spans = st.tuples(st.integers(0, 2 * 10**9), st.integers(1, longest(M1))).map(lambda t: Range(t[0], t[0] + t[1]))


@given(st.lists(spans, max_size=80))
def test_joined_ranges_hold_the_same_time_and_none_grows_beyond_what_may_be_asked_for(ranges):
    result = merged(ranges, M1)
    assert all(0 < r.end - r.start <= longest(M1) for r in result)
    for span in ranges:
        at = span.start
        for r in result:
            if r.start <= at < r.end:
                at = r.end
        assert at >= span.end


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (HistoryRequest(("A/B",), M1, Range(NOW - 31 * DAY - 60, NOW)), "at most 44640 candles of 1m"),
        (HistoryRequest(("A/B",), Timeframe.H1, Range(NOW - 5001 * HOUR, NOW)), "at most 5000 candles of 1h"),
        (HistoryRequest(("A/B",), M1, Range(-60.0, 0.0)), "a range from 1970 to a day from now"),
        (HistoryRequest(("A/B",), M1, Range(NOW, NOW + DAY + 1)), "a range from 1970 to a day from now"),
        (HistoryRequest(("A/B",) * (MOST_SYMBOLS + 1), M1, Range(NOW, NOW)), "at most 5000 symbols, got 5001"),
        (SeedRequest(("A/B",) * (MOST_SYMBOLS + 1)), "at most 5000 symbols, got 5001"),
    ],
)
def test_request_for_too_much_is_refused_with_the_reason(request_, reason):
    with pytest.raises(RequestRefusedError, match=reason):
        check(request_, NOW)


@pytest.mark.parametrize(
    "request_",
    [
        HistoryRequest(("A/B",) * MOST_SYMBOLS, M1, Range(NOW - 31 * DAY, NOW)),
        HistoryRequest(("A/B",), Timeframe.W1, Range(0.0, NOW + DAY)),
        SeedRequest(("A/B",) * MOST_SYMBOLS),
    ],
)
def test_request_for_much_is_let_in(request_):
    check(request_, NOW)
