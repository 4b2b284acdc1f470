"""The state of the bus stays bounded, whoever publishes what."""

import pytest
from msgspec.structs import replace

from admin_api.admin.checks import candles_check, clock_check
from admin_api.system.state import (
    AHEAD_SECONDS,
    EVICTABLE_SECONDS,
    MAX_BYTES,
    MAX_ENTRIES,
    AheadOfClockError,
    StateFullError,
    SystemState,
)
from admin_api.system.wanted import Wanted
from ingress_common.health import Check
from ingress_common.minute_trades import trades_property
from ingress_common.model import FeedCondition, FeedState, InstanceState, Status, Watermark
from ingress_common.payloads import PayloadError, encode_candle, encode_feed_state, encode_status, encode_watermark
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.topics import Topics

NOW = 1_700_000_000.0
TOPICS = Topics()
M1 = Timeframe.M1


def publish_status(state: SystemState, instance: str, now: float = NOW, **details: object) -> None:
    status = Status("aggregator", instance, InstanceState.ONLINE, "1", NOW, details)
    state.apply(TOPICS.status("aggregator", instance), encode_status(status), now)


def test_excess_instance_is_refused_unless_it_replaces_a_silent_one():
    state = SystemState(TOPICS)
    for number in range(MAX_ENTRIES):
        publish_status(state, f"i{number}")
    with pytest.raises(StateFullError):
        publish_status(state, "new")
    publish_status(state, "i0", NOW + EVICTABLE_SECONDS)
    publish_status(state, "new", NOW + EVICTABLE_SECONDS + 1)
    assert len(state.instances) == MAX_ENTRIES
    assert ("aggregator", "new") in state.instances
    assert ("aggregator", "i0") in state.instances
    assert ("aggregator", "i1") not in state.instances


def test_status_messages_are_bounded_in_bytes():
    state = SystemState(TOPICS)
    fit = MAX_BYTES // 199_500
    for number in range(fit):
        publish_status(state, f"i{number}", text="x" * 199_000)
    with pytest.raises(StateFullError):
        publish_status(state, "new", text="x" * 199_000)
    publish_status(state, "i0", text="y" * 199_000)


def test_feed_with_watermarks_survives_a_deleted_state():
    state = SystemState(TOPICS)
    for feed in ("real", "ghost"):
        condition = FeedState(feed, FeedCondition.LIVE, NOW, ("BTC/USD",))
        state.apply(TOPICS.feed(feed), encode_feed_state(condition), NOW)
    state.apply(TOPICS.watermark("real"), encode_watermark(Watermark("real", NOW, NOW)), NOW)
    for feed in ("real", "ghost"):
        state.apply(TOPICS.feed(feed), b"", NOW + 1)
    assert list(state.feeds) == ["real"]
    state.apply(TOPICS.feed("real"), b"", NOW + EVICTABLE_SECONDS + 1)
    assert not state.feeds


def test_a_watermark_far_ahead_or_of_another_feed_is_refused():
    state = SystemState(TOPICS)
    ahead = Watermark("f", NOW + AHEAD_SECONDS + 1, NOW)
    for topic, mark in ((TOPICS.watermark("f"), ahead), (TOPICS.watermark("g"), Watermark("f", NOW, NOW))):
        with pytest.raises((AheadOfClockError, PayloadError)):
            state.apply(topic, encode_watermark(mark), NOW)
    assert not state.feeds


def test_candle_closed_long_before_its_end_is_refused(candle):
    state = SystemState(TOPICS)
    days_ahead = candle(open_time=M1.floor(NOW) + 6 * 86_400, at=NOW + 6 * 86_400)
    with pytest.raises(AheadOfClockError):
        state.apply(TOPICS.candles("BTC/USD", M1), encode_candle(days_ahead), NOW)
    behind = NOW - 86_400  # our own clock
    feed = FeedState("f1", FeedCondition.LIVE, NOW, ("BTC/USD",))
    state.apply(TOPICS.feed("f1"), encode_feed_state(feed), behind)
    state.apply(TOPICS.watermark("f1"), encode_watermark(Watermark("f1", NOW, NOW)), behind)
    real = candle(open_time=M1.floor(NOW) - 60, at=NOW)
    for opens in (M1.floor(NOW) + 180, M1.floor(NOW) + 6 * 86_400):
        early = encode_candle(candle(open_time=opens, at=opens + 60.0))
        with pytest.raises(AheadOfClockError):
            state.apply(TOPICS.candles("BTC/USD", M1), early, behind)
    state.apply(TOPICS.candles("BTC/USD", M1), encode_candle(real), behind)
    assert state.symbols["BTC/USD"].closed[M1].open_time == real.open_time


def test_a_repeated_feed_state_keeps_how_far_our_clock_is_off():
    state = SystemState(TOPICS)
    feed = encode_feed_state(FeedState("f1", FeedCondition.LIVE, NOW, ("BTC/USD",)))
    behind = NOW - 4 * 86_400
    state.apply(TOPICS.feed("f1"), feed, behind)
    state.apply(TOPICS.watermark("f1"), encode_watermark(Watermark("f1", NOW, NOW)), behind)
    state.apply(TOPICS.feed("f1"), feed, behind + 1)
    assert not clock_check(state, behind + 1).ok


@pytest.mark.parametrize(("ahead", "detail"), [(8.0, "is 8 s ahead of"), (-8.0, "is 8 s behind"), (3.0, "agrees with")])
def test_clock_skew_is_reported_and_a_single_late_message_is_not(ahead, detail):
    state = SystemState(TOPICS)
    state.apply(TOPICS.feed("f1"), encode_feed_state(FeedState("f1", FeedCondition.LIVE, NOW, ("BTC/USD",))), NOW)
    for second in range(200):
        delay = 20.0 if second % 50 == 49 else 0.2
        mark = encode_watermark(Watermark("f1", NOW + second - delay - 1.0, NOW + second - delay))
        state.apply(TOPICS.watermark("f1"), mark, NOW + second + ahead)
        check = clock_check(state, NOW + second + ahead)
        assert (check.ok, detail in check.detail) == (abs(ahead) < 5, True), second


def test_candles_are_red_once_gateways_publish_updates_and_no_candle_follows(candle):
    state, minute = SystemState(TOPICS), M1.floor(NOW)
    state.apply(TOPICS.feed("f1"), encode_feed_state(FeedState("f1", FeedCondition.LIVE, NOW, ("BTC/USD",))), NOW)

    def second(now: float, published: dict[str, int], **candles: int) -> bool:
        """A second of the bus: the candles, then the watermark that states what was published."""
        publish_status(state, "a1", now, symbols=["BTC/USD", "ETH/USD"])
        for base, trades in candles.items():
            forming = candle(symbol=f"{base}/USD", open_time=minute, closed=False, at=now, trades=trades)
            for timeframe in TIMEFRAMES:
                one = replace(forming, timeframe=timeframe, open_time=timeframe.floor(minute))
                state.apply(TOPICS.candles(one.symbol, timeframe), encode_candle(one), now)
        stated = trades_property({minute: published})
        state.apply(TOPICS.watermark("f1"), encode_watermark(Watermark("f1", now - 1, now)), now, stated)
        return candles_check(state, now, Wanted(frozenset({"BTC/USD", "ETH/USD"}), {}, frozenset(), {})).ok

    start = float(minute)
    assert second(start, {"BTC/USD": 1, "ETH/USD": 1}, BTC=1, ETH=1)
    # Nothing is traded, so no candle is expected.
    assert all(second(start + n, {}) for n in range(1, 20))
    # The bus loses a forming candle, and has those of another symbol.
    assert second(start + 20, {"BTC/USD": 2})
    assert all(second(start + n, {"ETH/USD": n}, ETH=n) for n in range(21, 40))
    assert second(start + 40, {"BTC/USD": 40}, BTC=40)
    # No candle arrives at all.
    assert [second(start + n, {"BTC/USD": n}) for n in range(41, 51)] == [True] * 9 + [False]
    assert second(start + 51, {"BTC/USD": 51}, BTC=51)


def test_trades_of_a_symbol_without_a_candle_are_noted_until_one_arrives(candle):
    state, minute = SystemState(TOPICS), M1.floor(NOW)
    state.apply(TOPICS.feed("f1"), encode_feed_state(FeedState("f1", FeedCondition.LIVE, NOW, ("BTC/USD",))), NOW)

    def traded() -> None:
        stated = trades_property({minute: {"BTC/USD": 3, "ETH/USD": 0}})
        state.apply(TOPICS.watermark("f1"), encode_watermark(Watermark("f1", NOW - 1, NOW)), NOW, stated)

    traded()
    assert state.traded == {"BTC/USD"}
    state.reconnected()
    assert not state.traded
    traded()
    one = candle(symbol="BTC/USD", timeframe=M1, open_time=minute, closed=False, at=NOW, trades=3)
    state.apply(TOPICS.candles("BTC/USD", M1), encode_candle(one), NOW)
    assert not state.traded


def test_candles_are_red_once_those_of_one_symbol_do_not_arrive_and_stay_so(candle):
    state, minute = SystemState(TOPICS), M1.floor(NOW)
    state.apply(TOPICS.feed("f1"), encode_feed_state(FeedState("f1", FeedCondition.LIVE, NOW, ("BTC/USD",))), NOW)

    def second(number: int, *shown: str) -> Check:
        """A second in which both symbols trade, and candles of those that are `shown` arrive."""
        now = minute + float(number)
        for symbol in shown:
            for timeframe in TIMEFRAMES:
                open_time = timeframe.floor(minute)
                one = candle(
                    symbol=symbol, timeframe=timeframe, open_time=open_time, closed=False, at=now, trades=number
                )
                state.apply(TOPICS.candles(symbol, timeframe), encode_candle(one), now)
        stated = trades_property({minute: {"BTC/USD": number, "ETH/USD": number}})
        state.apply(TOPICS.watermark("f1"), encode_watermark(Watermark("f1", now - 1, now)), now, stated)
        return candles_check(state, now, Wanted(frozenset({"BTC/USD", "ETH/USD"}), {}, frozenset(), {}))

    assert all(second(number, "BTC/USD", "ETH/USD").ok for number in range(1, 10))
    red = [not second(number, "ETH/USD").ok for number in range(10, 40)]
    assert red == [False] * 10 + [True] * 20
    assert second(40, "ETH/USD").detail == "gateways publish updates, but no 1m candle of BTC/USD arrives"
    assert second(41, "BTC/USD", "ETH/USD").ok
    second(42, "ETH/USD")
    second(43, "ETH/USD")
    state.reconnected()
    assert candles_check(state, minute + 59.0, Wanted(frozenset({"BTC/USD"}), {}, frozenset(), {})).ok


def test_candles_are_red_once_minutes_are_traded_and_no_candle_of_a_higher_timeframe_follows(candle):
    state, minute = SystemState(TOPICS), M1.floor(NOW)
    start = float(minute)

    def publish(timeframe: Timeframe, trades: int, now: float, *, retained: bool = False) -> None:
        open_time = timeframe.floor(now)
        forming = candle(timeframe=timeframe, open_time=open_time, closed=False, at=now, trades=trades)
        topic = TOPICS.candles(forming.symbol, timeframe)
        state.apply(topic, encode_candle(forming), now, retained=retained)

    def check(now: float) -> Check:
        return candles_check(state, now, Wanted(frozenset({"BTC/USD"}), {}, frozenset(), {}))

    # What is retained was published before, in any order: nothing follows it.
    for timeframe in reversed(TIMEFRAMES):
        publish(timeframe, 3, start, retained=True)
    assert check(start + 20).ok
    for trades in range(4, 24):
        for timeframe in TIMEFRAMES[:-1]:
            publish(timeframe, trades, start + trades)
        assert check(start + trades).ok is (trades <= 12), trades
    assert check(start + 23).detail == "gateways publish updates, but no candle of 1w was received for 19 s"
    publish(Timeframe.W1, 23, start + 24)
    assert check(start + 50).ok


@pytest.mark.parametrize("with_correction", [False, True])
def test_windows_that_ended_before_the_first_candle_arrived_are_not_late(candle, with_correction):
    state, began = SystemState(TOPICS), M1.floor(NOW) + 46.0
    state.apply(
        TOPICS.feed("f1"), encode_feed_state(FeedState("f1", FeedCondition.LIVE, NOW - 7200, ("BTC/USD",))), began
    )
    state.apply(TOPICS.watermark("f1"), encode_watermark(Watermark("f1", began, began)), began)
    forming = candle(open_time=M1.floor(NOW), closed=False, at=began)
    state.apply(TOPICS.candles("BTC/USD", M1), encode_candle(forming), began, retained=True)
    if with_correction:
        older = candle(open_time=M1.floor(NOW) - 600, at=began, revision=1)
        state.apply(TOPICS.candles("BTC/USD", M1), encode_candle(older), began)
    wanted = Wanted(frozenset({"BTC/USD"}), {}, frozenset(), {})
    assert candles_check(state, began, wanted).ok
    later = began + 60
    state.apply(TOPICS.watermark("f1"), encode_watermark(Watermark("f1", later, later)), later)
    check = candles_check(state, later, wanted)
    assert (check.ok, "BTC/USD 1m" in check.detail) == (False, True)
