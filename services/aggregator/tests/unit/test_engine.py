"""What the engine makes of watermarks: from when a feed speaks, what is a repeat, what is nonsense."""

from decimal import Decimal
from random import Random

import pytest
from candle_world import START, SYMBOL, Trade, World, random_trades
from msgspec.structs import replace

from aggregator.core import Engine
from aggregator.core.feeds import MAX_FEEDS, MAX_SYMBOLS, ImplausibleError
from ingress_common.model import (
    GRACE,
    FeedCondition,
    FeedState,
    History,
    HistoryRequest,
    Range,
    SeedRequest,
    Source,
    Watermark,
)
from ingress_common.timeframes import TIMEFRAMES, Timeframe


@pytest.fixture
def world() -> World:
    """A feed that has been live for ten minutes."""
    random = Random(1)
    world = World(random_trades(random, 60, 0.5), random)
    world.connect()
    for _ in range(60):
        world.step(10)
    return world


def every_second() -> list[Trade]:
    """A trade in every second."""
    return [Trade(START + second + 0.5, Decimal(100), Decimal(1)) for second in range(-1_800, 600)]


def history_requests(outputs) -> list[HistoryRequest]:
    return [output for output in outputs if isinstance(output, HistoryRequest)]


def test_repeated_watermark_changes_nothing(world):
    mark = Watermark("feed", world.now - 1, world.now)
    world.engine.watermark(mark)
    assert world.engine.watermark(mark) == []
    assert world.engine.watermark(Watermark("feed", world.now - 31, world.now - 30)) == []
    world.step(10)
    assert history_requests(world.engine.watermark(Watermark("feed", world.now - 1, world.now))) == []


def test_watermarks_too_far_apart_open_a_gap_that_is_requested(world):
    later = world.now + 60
    outputs = world.engine.watermark(Watermark("feed", later - 1, later))
    outputs += world.engine.watermark(Watermark("feed", later + 60, later + 9))
    [request, *_] = history_requests(outputs)
    assert request.timeframe is Timeframe.M1
    assert request.range.start < world.now < request.range.end


def test_implausible_watermark_is_ignored_and_the_feed_continues(world):
    closed = len(world.log)
    with pytest.raises(ImplausibleError, match="expected a watermark that continues from"):
        world.engine.watermark(Watermark("feed", 9e9, 9e9))
    assert len(world.log) == closed
    world.settle(5)
    assert max(c.open_time for c in world.log) >= START + 13 * 60


def test_history_covering_the_future_is_refused(world):
    history = History(SYMBOL, Timeframe.M1, Source.REST, Range(START, 9e9), ())
    with pytest.raises(ImplausibleError, match="expected nothing of BTC/USD after"):
        world.engine.history(history)


def test_response_about_the_past_does_not_date_a_forming_candle_before_its_window(world):
    world.engine.refresh_forming()
    past = world.now - 3_600
    world.take(world.engine.history(History(SYMBOL, Timeframe.M1, Source.REST, Range(past - 3_600, past), ())))
    forming = world.flush_forming()
    assert {candle.timeframe for candle in forming} == set(TIMEFRAMES)
    assert all(candle.open_time <= candle.at for candle in forming)


@pytest.mark.parametrize("distance", [700, 86_400, 9e8, -700, -86_400])
def test_a_single_watermark_from_another_time_neither_moves_the_candles_nor_breaks_the_coverage(world, distance):
    with pytest.raises(ImplausibleError):
        world.engine.watermark(Watermark("feed", world.now + distance, world.now + distance))
    world.now += 60
    closed = len(world.log)
    outputs = world.engine.watermark(Watermark("feed", world.now - 1, world.now - 55))
    world.take(outputs)
    assert history_requests(outputs) == []
    assert len(world.log) > closed


def test_feed_that_continues_from_another_time_is_followed(world):
    later = world.now + 7_200
    for second in range(2):
        with pytest.raises(ImplausibleError):
            world.engine.watermark(Watermark("feed", later + second, later + second))
    assert history_requests(world.engine.watermark(Watermark("feed", later + 2, later + 2)))


@pytest.mark.parametrize("ahead", [1_200, 86_400, 9e8])
def test_ticks_and_history_from_beyond_the_newest_watermark_are_refused(world, ahead):
    [*_, tick] = world.ticks
    open_time = Timeframe.M1.floor(world.now + ahead)
    with pytest.raises(ImplausibleError):
        world.engine.tick(replace(tick, open_time=open_time, at=open_time + 1.0))
    with pytest.raises(ImplausibleError):
        world.engine.tick(replace(tick, at=world.now + ahead))
    for rows in ((), (replace(tick, open_time=open_time, at=world.now),), (replace(tick, at=world.now + ahead),)):
        ends = world.now if rows else world.now + ahead
        with pytest.raises(ImplausibleError):
            world.engine.history(History(SYMBOL, Timeframe.M1, Source.REST, Range(START, ends), rows))


def test_forged_feeds_and_symbols_are_bounded_and_displace_no_real_one(world):
    for number in range(MAX_FEEDS + 500):
        symbols = tuple(f"X{number}Y{n}/USD" for n in range(20))
        world.engine.feed_state(FeedState(f"x{number}", FeedCondition.LIVE, world.now, symbols), retained=False)
    assert len(world.engine._feeds) <= MAX_FEEDS
    assert len(world.engine.carried) == MAX_SYMBOLS
    assert SYMBOL in world.engine.carried
    closed = len(world.log)
    for _ in range(7):
        world.step(10)
    assert len(world.log) > closed


def test_feed_with_deleted_state_carries_nothing():
    engine = Engine()
    engine.feed_state(FeedState("x", FeedCondition.LIVE, START, ("A/B",)), retained=True)
    assert engine.carried == {"A/B"}
    engine.forget("x")
    assert engine.carried == frozenset()
    assert not engine.knows("x")


def test_moved_coverage_of_a_feed_excludes_lost_messages(world):
    world.now += 60
    world.engine.watermark(Watermark("feed", world.now - 1, world.now))
    state = FeedState("feed", FeedCondition.LIVE, world.now - 300, (SYMBOL,))
    world.engine.feed_state(state, retained=False)
    world.now += 1
    world.take(world.engine.watermark(Watermark("feed", world.now - 1, world.now)))
    assert [gap.range for gap in world.engine.gaps()[SYMBOL]]


def test_coverage_of_a_returning_symbol_excludes_lost_messages(world):
    world.disconnect()
    world.connect()
    world.settle(2)
    assert world.engine.gaps() == {}
    world.now += 60
    world.engine.watermark(Watermark("feed", world.now - 1, world.now))
    for symbols in ((), (SYMBOL,)):
        world.engine.feed_state(replace(world.feed_state(), symbols=symbols), retained=False)
    world.now += 1
    world.take(world.engine.watermark(Watermark("feed", world.now - 1, world.now)))
    assert [gap.range for gap in world.engine.gaps()[SYMBOL]]


def test_feed_covers_nothing_before_its_confirmed_watermark(world):
    later = float(Timeframe.M1.floor(world.now + 7_200)) - 0.5
    world.engine.feed_state(FeedState("other", FeedCondition.LIVE, later, (SYMBOL,)), retained=False)
    [*_, tick] = world.ticks
    with pytest.raises(ImplausibleError):
        world.engine.tick(replace(tick, open_time=Timeframe.M1.ceil(later), at=later + 1))
    for second in (2, 3):
        with pytest.raises(ImplausibleError):
            world.engine.watermark(Watermark("other", later + second - 1, later + second))
    world.engine.watermark(Watermark("other", later + 3, later + 4))
    world.engine.watermark(Watermark("other", later + 4, later + 5))
    [gap] = world.engine.gaps()[SYMBOL]
    assert gap.range.end == Timeframe.M1.ceil(later + 4)


def test_feed_with_lost_first_watermarks_covers_nothing_of_that_time(world):
    world.disconnect()
    world.connect()
    world.now += 120
    world.engine.watermark(Watermark("feed", world.now - 1, world.now))
    world.now += 1
    world.engine.watermark(Watermark("feed", world.now - 1, world.now))
    [gap] = world.engine.gaps()[SYMBOL]
    assert gap.range.end >= world.now - 1


def test_restart_within_a_gap_loses_no_candle(world):
    world.disconnect()
    world.now += 3_000
    world.connect()
    assert SYMBOL in world.engine.gaps()
    world.restart()
    world.settle()
    minutes = sorted(open_time for timeframe, open_time in world.closed if timeframe is Timeframe.M1)
    assert minutes == list(range(minutes[0], Timeframe.M1.floor(world.now - 1), 60))


def test_gap_is_given_up_on_only_after_a_request(world):
    world.disconnect()
    world.flush_forming()
    world.now += 3_000
    world.engine = Engine(world.depth, give_up_after=900.0)
    world.engine.gain([SYMBOL])
    for candle in world.retained.values():
        world.engine.resume(candle)
    world.connect()
    while not any(history.source is Source.REST for _, history in world.responses):
        world.step(10)
    assert not any(gap.lost for gap in world.engine.gaps()[SYMBOL])
    for _ in range(12):
        world.responses.clear()
        world.step(10)
    assert any(gap.lost for gap in world.engine.gaps()[SYMBOL])


def test_candles_continue_after_the_only_gap_is_given_up_on():
    # Something trades in every minute, so no price is missing after the gap.
    world = World(random_trades(Random(1), 120, 1.0), Random(1))
    world.engine = Engine(world.depth, give_up_after=900.0)
    world.engine.gain([SYMBOL])
    world.connect()
    world.settle(10)
    assert world.engine.gaps() == {}
    world.now += 60
    while not any(gap.lost for gap in world.engine.gaps().get(SYMBOL, ())):
        world.step(10)
        world.responses.clear()
    assert all(gap.lost for gap in world.engine.gaps()[SYMBOL])
    closed = len(world.log)
    world.settle(5)
    assert len(world.log) > closed


@pytest.mark.parametrize("somebody_elses", [Source.REST, Source.SNAPSHOT])
def test_seed_is_requested_despite_earlier_history_of_another_request(somebody_elses):
    engine = Engine()
    engine.feed_state(FeedState("feed", FeedCondition.LIVE, START, (SYMBOL,)), retained=True)
    engine.gain([SYMBOL])
    assert engine.history(History(SYMBOL, Timeframe.M1, somebody_elses, Range(START - 600, START), ())) == []
    for second in range(2):
        outputs = engine.watermark(Watermark("feed", START + 1.0 + second, START + 2.0 + second))
        assert outputs == ([] if second else [SeedRequest((SYMBOL,))])


def test_a_lost_request_for_history_is_repeated_within_seconds():
    world = World(every_second(), Random(1))
    world.connect()
    for _ in range(100):
        world.step(1)
    world.disconnect()
    world.now += 30  # across the end of a minute
    world.connect()
    response, times = world.rest, []

    def lose_the_first(request: HistoryRequest) -> History:
        times.append(world.now)
        # Without rows and range it is as if none had come.
        return response(request) if len(times) > 1 else History(SYMBOL, Timeframe.M1, Source.REST, Range(0, 0), ())

    world.rest = lose_the_first
    while not world.engine.gaps():
        world.step(1)
    while len(times) < 2:
        world.step(1)
    assert times[1] - times[0] <= 7


def no_rest(request: HistoryRequest) -> History:
    raise AssertionError(f"expected no request for history, got {request}")


def test_no_minute_is_missing_beside_a_seed_that_is_taken_a_grace_after_the_request():
    # Kraken adds trades to a candle up to GRACE late, so a snapshot is final until that long before it was taken.
    past = {START - n * timeframe.seconds - 30.0 for timeframe in TIMEFRAMES for n in range(12)}
    trades = [Trade(time, Decimal(100), Decimal(1)) for time in sorted(past)]
    for second in range(60):
        world = World(trades, Random(second))
        world.connect()
        world.now = START + second + 0.3
        world.restart()
        world.rest = no_rest
        world.snapshot_after = GRACE
        for _ in range(180):
            world.step(1)
        minutes = {open_time for timeframe, open_time in world.closed if timeframe is Timeframe.M1}
        assert {START, START + 60} <= minutes, second
        assert world.engine.gaps() == {}


def test_feed_with_lost_updates_is_losing_until_they_arrive():
    world = World(every_second(), Random(2), drops=0.0)
    world.connect()
    for _ in range(300):
        world.step(1)
    assert not world.engine.losing
    world.drops = 1.0
    for _ in range(8):
        world.step(1)
    assert world.engine.losing == {SYMBOL}
    assert world.engine.lost_updates == 0
    for _ in range(60):
        world.step(1)
    assert world.engine.lost_updates >= 1
    world.drops = 0.0
    for _ in range(3):
        world.step(1)
    assert not world.engine.losing


def test_a_lost_update_alone_is_a_passing_loss(world):
    minute = Timeframe.M1.floor(world.now)
    stated = {minute: {SYMBOL: 10**6}}
    for _ in range(40):
        world.now += 1
        world.engine.watermark(Watermark("feed", world.now - 1, world.now), stated)
        stated = {}
        assert not world.engine.losing


def test_updates_of_another_symbol_do_not_hide_those_that_are_lost():
    world = World(every_second(), Random(2))
    world.engine.gain(["OTHER/USD"])
    world.connect()
    for _ in range(31):
        world.step(10)
    minute = Timeframe.M1.floor(world.now)
    engine, live = world.engine, FeedState("other", FeedCondition.LIVE, world.now - 100, (SYMBOL, "OTHER/USD"))
    engine.feed_state(live, retained=False)
    engine.watermark(Watermark("other", world.now - 1, world.now))
    for second in range(1, 10):
        at = world.now + second
        stated = {minute: {SYMBOL: 1, "OTHER/USD": 1} if second % 3 == 1 else {SYMBOL: 1}}
        engine.watermark(Watermark("other", at - 1, at), stated)
    assert engine.losing == {"OTHER/USD"}


@pytest.mark.parametrize("minute", [START - 86_400, START + 300 + 7, START + 86_400, -60])
def test_trades_of_an_unfinished_minute_change_nothing(world, minute):
    world.now += 10
    outputs = world.engine.watermark(Watermark("feed", world.now - 1, world.now), {minute: {SYMBOL: 10**9}})
    assert history_requests(outputs) == []
    assert world.engine.lost_updates == 0
