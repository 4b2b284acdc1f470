"""Time, budget, groups, ranges: the small pure parts."""

import asyncio
import json
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress_common.model import Range
from ingress_common.timeframes import Timeframe
from kraken_gateway.history.ranges import aligned, merged
from kraken_gateway.history.tickets import LIMIT as TICKETS
from kraken_gateway.history.tickets import TicketOffice
from kraken_gateway.history.trades import candles_of
from kraken_gateway.kraken.budget import LIMIT, WINDOW, Backoff, ConnectionBudget, Urgency
from kraken_gateway.kraken.kraken_time import KrakenClock, KrakenTime
from kraken_gateway.kraken.rest import (
    KrakenAilingError,
    RestError,
    TooManyRequestsError,
    UnknownPairError,
    parse_envelope,
    parse_ohlc,
    parse_pairs,
    parse_trades,
)
from kraken_gateway.live.judging import has_missed, is_behind
from kraken_gateway.pairs.groups import FEED_SIZE, matching, regroup
from kraken_gateway.pairs.listing import listing

# --- Kraken's time ---


def test_without_stamps_time_is_the_wall_clock():
    assert KrakenTime().at(5.0, 1000.0) == 1000.0


@given(
    offset=st.floats(-1e6, 1e6),
    delays=st.lists(st.floats(0, 5), min_size=1, max_size=100),
    elapsed=st.floats(0, 100),
)
def test_measured_time_is_never_ahead_of_krakens(offset, delays, elapsed):
    time = KrakenTime()
    for delay in delays:
        time.observe_reply(offset + 50.0 - delay, 50.0)
    assert time.at(50.0 + elapsed, 0.0) <= offset + 50.0 + elapsed + 1e-6


def test_one_wrong_stamp_does_not_move_the_time():
    time = KrakenTime()
    for stamp in (1000.0, 1000.0, 99_999.0, 1000.0):
        time.observe_reply(stamp, 0.0)
    assert time.at(1.0, 0.0) == 1001.0


def test_step_of_the_wall_clock_does_not_move_the_time():
    time = KrakenTime()
    time.observe_reply(1000.0, 10.0)
    assert time.at(11.0, 5_000.0) == 1001.0
    assert time.skew(11.0, 1031.0) == 30.0


def test_time_of_the_process_runs_with_the_steady_clock_and_tells_how_wrong_the_wall_clock_is():
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
    assert KrakenTime(clock.offset).at(12.0, wall) == 1002.0


# --- judging ---


def test_feed_is_behind_when_kraken_tells_of_newer_trades():
    assert is_behind({60: 3}, {60: 4})
    assert is_behind({60: 3}, {60: 3, 120: 1})
    assert not is_behind({60: 3, 120: 1}, {60: 9})
    assert not is_behind({}, {60: 4})


def test_minute_was_missed_when_it_is_closed_and_kraken_has_more_trades_of_it():
    assert has_missed({0: 1, 60: 3}, {60: 4}, closed=60.0)
    assert not has_missed({0: 1, 60: 3}, {60: 4}, closed=59.0)
    assert not has_missed({60: 3}, {60: 4}, closed=60.0)
    assert not has_missed({}, {60: 4}, closed=60.0)


# --- budget ---


@given(
    st.lists(st.tuples(st.floats(0, 60), st.sampled_from(list(Urgency)), st.integers(1, 5)), min_size=1, max_size=400)
)
def test_budget_is_never_exceeded_in_any_window(wishes):
    now = 0.0
    budget = ConnectionBudget(lambda: now)
    taken = []
    for pause, urgency, members in wishes:
        now += pause
        budget.share(members)
        if budget.take(urgency) == 0.0:
            taken.append(now)
        assert sum(at > now - WINDOW for at in taken) <= LIMIT


def test_short_lived_connections_leave_room_for_live_ones():
    budget = ConnectionBudget(lambda: 0.0, limit=10)
    assert [budget.take(Urgency.SHORT) for _ in range(7)] == [0.0] * 7
    assert budget.take(Urgency.SHORT) > 0
    assert [budget.take(Urgency.LIVE) for _ in range(3)] == [0.0] * 3
    assert budget.take(Urgency.LIVE) > WINDOW - 1


def test_gateways_of_one_address_share_the_budget():
    budget = ConnectionBudget(lambda: 0.0)
    budget.share(4)
    assert budget.limit == LIMIT // 4


def test_backoff_tries_at_once_and_then_ever_more_slowly_without_a_last_try():
    backoff = Backoff(at_once=3)
    pauses = [backoff.pause() for _ in range(100)]
    assert pauses[:3] == [0.0, 0.0, 0.0]
    assert all(30.0 <= pause <= 60.0 for pause in pauses[10:])
    backoff.reset()
    assert backoff.pause() == 0.0


def test_floor_of_a_pause_holds_from_the_first_try_and_grows():
    backoff = Backoff(at_once=3)
    pauses = [backoff.pause(at_least=30.0) for _ in range(9)]
    assert 30.0 <= pauses[0] <= 45.0
    assert all(30.0 <= pause <= 45.0 for pause in pauses)
    growing = Backoff()
    pauses = [growing.pause(at_least=15.0, cap=10.0) for _ in range(9)]
    assert 15.0 <= pauses[0] <= 22.5
    assert all(30.0 <= pause <= 45.0 for pause in pauses[1:])
    assert backoff.pause(cap=1.0) <= 1.0


def test_tries_of_all_feeds_without_end_stay_within_the_budget():
    budget = ConnectionBudget(lambda: 0.0)
    for members, feeds in ((1, 1), (1, 8), (4, 8)):
        budget.share(members, feeds)
        assert feeds * WINDOW / budget.fair_pause <= budget.limit


# --- symbols and feeds ---

PAIRS = {"BTC/USD": "online", "ETH/USD": "online", "ETH/EUR": "online", "OLD/USD": "delisted", "NEW/USD": "cancel_only"}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*"], {"BTC/USD", "ETH/USD", "ETH/EUR"}),
        (["*/USD"], {"BTC/USD", "ETH/USD"}),
        (["ETH/*"], {"ETH/USD", "ETH/EUR"}),
        (["*/GBP"], set()),
        (["XBT/USD", "*/EUR"], {"XBT/USD", "ETH/EUR"}),
    ],
)
def test_patterns_mean_the_pairs_that_are_online(patterns, expected):
    assert matching(patterns, PAIRS) == expected


def test_pair_that_is_halted_stays_and_one_that_is_delisted_goes():
    assert matching(["*/USD"], PAIRS, known={"NEW/USD", "OLD/USD"}) == {"BTC/USD", "ETH/USD", "NEW/USD"}


def test_symbols_that_leave_the_list_stay_named_with_the_reason_until_they_are_back():
    first = listing(["*/USD", "XBT/EUR"], {"BTC/USD": "online", "ETH/USD": "online", "OLD/USD": "delisted"}, {}, ())
    assert (first.wanted, first.gone) == ({"BTC/USD", "ETH/USD", "XBT/EUR"}, {})
    before = {"BTC/USD": "online", "ETH/USD": "online", "OLD/USD": "delisted"}
    gone = listing(["*/USD", "XBT/EUR"], {"BTC/USD": "delisted", "SOL/USD": "online"}, before, first.wanted)
    assert gone.wanted == {"BTC/USD", "ETH/USD", "SOL/USD", "XBT/EUR"}
    assert gone.gone == {
        "BTC/USD": "Kraken's list of pairs says delisted",
        "ETH/USD": "not in Kraken's list of pairs",
    }
    assert gone.appeared == {"SOL/USD"}
    before = {"BTC/USD": "delisted", "ETH/USD": "", "SOL/USD": "online"}
    back = listing(
        ["*/USD", "XBT/EUR"], {"BTC/USD": "online", "SOL/USD": "online", "XBT/EUR": "online"}, before, gone.wanted
    )
    assert back.gone == {"ETH/USD": "not in Kraken's list of pairs"}
    assert back.appeared == {"BTC/USD", "XBT/EUR"}


symbols = st.frozensets(st.integers(0, 60).map(lambda n: f"S{n}/USD"))


@given(st.lists(symbols, min_size=1, max_size=8))
def test_regrouping_carries_exactly_what_is_wanted_and_moves_no_symbol(steps):
    groups: dict[int, frozenset[str]] = {}
    for wanted in steps:
        before = {symbol: slot for slot, members in groups.items() for symbol in members}
        groups = regroup(groups, wanted, size=7)
        carried = [symbol for members in groups.values() for symbol in members]
        assert sorted(carried) == sorted(wanted)
        assert all(0 < len(members) <= 7 for members in groups.values())
        assert all(before.get(s, slot) == slot for slot, members in groups.items() for s in members)


def test_all_pairs_need_eight_feeds():
    assert len(regroup({}, frozenset(f"S{n}/USD" for n in range(1449)))) == -(-1449 // FEED_SIZE)


# --- ranges and tickets ---

spans = st.tuples(st.integers(0, 10**6), st.integers(0, 10**4)).map(lambda t: Range(t[0], t[0] + t[1]))


@given(st.lists(spans, max_size=80))
def test_merged_ranges_are_few_apart_and_hold_everything(ranges):
    result = merged(ranges, Timeframe.M1)
    assert len(result) <= 32
    assert all(a.end < b.start for a, b in pairwise(result))
    assert all(any(r.start <= span.start and span.end <= r.end for r in result) for span in ranges)


def test_range_is_widened_to_whole_candles():
    assert aligned(Range(61.5, 119.0), Timeframe.M1) == Range(60, 120)


async def test_message_is_acknowledged_with_its_last_part_and_only_so_many_are_held():
    acked = []
    office = TicketOffice()
    ticket = office.issue(2, lambda: acked.append("first"))
    ticket.done()
    assert acked == []
    ticket.done()
    assert acked == ["first"]
    for number in range(TICKETS + 1):
        office.issue(1, lambda number=number: acked.append(number))
    assert acked == ["first", TICKETS]


async def test_message_that_waits_long_is_acknowledged_so_that_others_go_on_arriving():
    acked = asyncio.Event()
    calls = []

    def ack() -> None:
        calls.append(1)
        acked.set()

    ticket = TicketOffice(hold=0.01).issue(1, ack)
    await asyncio.wait_for(acked.wait(), 5)
    ticket.done()
    assert calls == [1]


# --- REST answers ---


def test_minutes_rebuilt_from_recorded_trades_equal_krakens_own(recorded):
    ohlc = parse_ohlc(parse_envelope(200, recorded("rest_ohlc_XBTUSDT_1m.json").encode()), Timeframe.M1)
    page = parse_trades(parse_envelope(200, recorded("rest_trades_XBTUSDT.json").encode()))
    pair = parse_pairs(parse_envelope(200, recorded("rest_asset_pairs.json").encode()))["BTC/USDT"]
    assert pair.name == "XBTUSDT"
    rebuilt = {row.open_time: row for row in candles_of("BTC/USDT", page.trades, pair.price_decimals)}
    compared = 0
    for row in ohlc:
        mine = rebuilt.get(row.open_time)
        # The first minute of the page is cut.
        if mine is None or row.open_time == min(rebuilt) or row.trades == 0:
            continue
        assert (str(mine.open), str(mine.high), str(mine.low), str(mine.close), str(mine.vwap)) == (
            str(row.open),
            str(row.high),
            str(row.low),
            str(row.close),
            str(row.vwap),
        )
        assert (mine.volume, mine.trades) == (row.volume, row.trades)
        compared += 1
    assert compared > 100


def test_recorded_ohlc_is_infilled_and_ends_with_the_forming_row(recorded):
    rows = parse_ohlc(parse_envelope(200, recorded("rest_ohlc_XBTUSDT_1m.json").encode()), Timeframe.M1)
    assert len(rows) == 721
    assert sum(row.trades == 0 for row in rows) == 216


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b'{"error":["EGeneral:Too many requests"]}', TooManyRequestsError),
        (429, b"error code: 1015", TooManyRequestsError),
        (200, b'{"error":["EService:Unavailable"]}', KrakenAilingError),
        (503, b"<html>", KrakenAilingError),
        (502, b'{"error":[]}', KrakenAilingError),
        (200, b"\xff", KrakenAilingError),
        (200, b"[]", RestError),
        (200, b'{"error":["EGeneral:Invalid arguments"]}', RestError),
    ],
)
def test_answer_that_may_be_better_later(status, body, kind):
    with pytest.raises(RestError) as caught:
        parse_envelope(status, body)
    assert caught.type is kind


def test_unknown_pair_is_told_apart():
    with pytest.raises(UnknownPairError):
        parse_envelope(200, b'{"error":["EQuery:Unknown asset pair"]}')


@pytest.mark.parametrize(
    "row",
    [
        [60],
        [61, "1", "1", "1", "1", "1", "1", 1],
        [60, "1", "0.5", "1", "1", "1", "1", 1],
        [60, "x"] + ["1"] * 5 + [1],
        7,
    ],
)
def test_ohlc_row_that_is_no_candle_fails_the_call(row):
    with pytest.raises(RestError):
        parse_ohlc({"XXBTZUSD": [row], "last": 60}, Timeframe.M1)


def test_names_of_rest_become_those_of_websocket():
    pairs = parse_pairs(
        {
            "XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD", "pair_decimals": 1},
            "XDGXBT": {"altname": "XDGXBT", "wsname": "XDG/XBT", "pair_decimals": 8},
            "DARK.d": {"altname": "DARK.d"},
        }
    )
    assert {name: pair.name for name, pair in pairs.items()} == {"BTC/USD": "XBTUSD", "DOGE/BTC": "XDGXBT"}


def test_vwap_is_cut_and_not_rounded():
    result = {"X": [["10.00000", "1.0", 61.5, "b", "l", "", 1], ["10.29999", "1.0", 62, "b", "l", "", 2]], "last": "62"}
    page = parse_trades(json.loads(json.dumps(result)))
    assert candles_of("A/B", page.trades, 2)[0].vwap == Decimal("10.14")
