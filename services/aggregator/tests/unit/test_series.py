"""What a series does with ticks, watermarks and history, case by case."""

from decimal import Decimal

import pytest

from aggregator.core import CandleSeries, Depth
from aggregator.core.memory import Memory
from ingress_common.model import Candle, History, Range, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe

OPEN = 1_700_092_800  # a week opens: every timeframe has a boundary here
M1 = Timeframe.M1


def candle(minute: int, price: str = "100", *, trades: int = 1, volume: str = "1", at: float = OPEN, **kw) -> Candle:
    p = Decimal(price)
    fields = {
        "symbol": "BTC/USD",
        "timeframe": M1,
        "open_time": OPEN + minute * 60,
        **dict.fromkeys(("open", "high", "low", "close", "vwap"), p),
        "volume": Decimal(volume),
        "trades": trades,
        "closed": False,
        "infilled": False,
        "complete": True,
        "revision": 0,
        "source": Source.WS,
        "at": at,
    }
    return Candle(**{**fields, **kw})


def seeded_series(at: float = OPEN, memory: Memory | None = None) -> CandleSeries:
    """A series whose seed holds one trade at 100 in the minute before OPEN, taken at OPEN + 1."""
    series = CandleSeries("BTC/USD", Depth(), memory)
    for timeframe in TIMEFRAMES:
        start = OPEN - timeframe.seconds
        row = candle(0, timeframe=timeframe, open_time=start, source=Source.SNAPSHOT, at=at + 1)
        series.history(History("BTC/USD", timeframe, Source.SNAPSHOT, Range(start, at + 1), (row,)))
    return series


def pick(published: list[Candle], timeframe: Timeframe) -> list[Candle]:
    return [c for c in published if c.timeframe is timeframe]


def test_minute_without_trades_is_flat_at_last_close():
    series = seeded_series()
    published = pick(series.cover(OPEN, OPEN + 60, OPEN + 61), M1)
    assert [(c.open_time, c.close, c.trades, c.volume, c.infilled, c.vwap) for c in published] == [
        (OPEN, Decimal(100), 0, Decimal(0), True, Decimal(100))
    ]


def test_nothing_closes_before_the_watermark_reaches_its_end():
    series = seeded_series()
    assert series.update(candle(0, "101")) == []
    assert series.update(candle(1, "102")) == []
    assert series.cover(OPEN, OPEN + 59.9, OPEN + 61) == []
    assert [c.close for c in series.cover(OPEN, OPEN + 60, OPEN + 61)] == [Decimal(101)]


def test_infilled_minutes_contribute_nothing_to_a_higher_candle():
    series = seeded_series()
    series.cover(OPEN, OPEN + 120, OPEN + 121)
    series.update(candle(2, "105"))
    five = pick(series.cover(OPEN, OPEN + 300, OPEN + 301), Timeframe.M5)
    assert [(c.open, c.close, c.low, c.trades, c.infilled) for c in five] == [
        (Decimal(105), Decimal(105), Decimal(105), 1, False)
    ]


def test_higher_candle_is_flat_when_all_of_its_minutes_are_empty():
    series = seeded_series()
    five = pick(series.cover(OPEN, OPEN + 300, OPEN + 301), Timeframe.M5)
    assert [(c.open, c.trades, c.infilled) for c in five] == [(Decimal(100), 0, True)]


def test_lower_timeframes_are_published_before_higher_ones_at_a_boundary():
    series = seeded_series()
    series.cover(OPEN, OPEN + 59 * 60, OPEN + 59 * 60 + 1)
    published = series.cover(OPEN, OPEN + 3600, OPEN + 3601)
    order = [TIMEFRAMES.index(c.timeframe) for c in published]
    assert order == sorted(order)
    assert {c.timeframe for c in published} == {t for t in TIMEFRAMES if t.seconds <= 3600}


def test_tick_with_fewer_trades_is_an_older_state_and_ignored():
    series = seeded_series()
    series.update(candle(0, "103", trades=3))
    series.update(candle(0, "101", trades=2))
    assert series.cover(OPEN, OPEN + 60, OPEN + 61)[0].close == Decimal(103)
    assert series.update(candle(0, "101", trades=2)) == []


def test_late_tick_corrects_the_closed_candle_the_flat_ones_after_it_and_all_above():
    series = seeded_series()
    series.update(candle(0, "101"))
    series.cover(OPEN, OPEN + 900, OPEN + 901)
    corrected = series.update(candle(0, "109", trades=2, at=OPEN + 950))
    by_timeframe = {tf: pick(corrected, tf) for tf in TIMEFRAMES}
    assert [c.revision for c in by_timeframe[M1]] == [1] * 15
    assert {c.close for c in by_timeframe[M1]} == {Decimal(109)}
    assert [(c.open_time, c.close, c.revision) for c in by_timeframe[Timeframe.M5]] == [
        (OPEN + i * 300, Decimal(109), 1) for i in range(3)
    ]
    assert [(c.trades, c.revision) for c in by_timeframe[Timeframe.M15]] == [(2, 1)]


def test_history_may_lower_a_closed_minute_because_it_is_final():
    series = seeded_series()
    series.update(candle(0, "101", trades=5))
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    row = candle(0, "101", trades=4, source=Source.REST, at=OPEN + 90)
    corrected = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN, OPEN + 60), (row,)))
    assert [(c.trades, c.revision, c.source) for c in corrected] == [(4, 1, Source.REST)]


def test_history_of_a_minute_still_open_counts_as_a_tick():
    series = seeded_series()
    series.update(candle(0, "101", trades=5))
    row = candle(0, "100", trades=4, source=Source.SNAPSHOT, at=OPEN + 30)
    series.history(History("BTC/USD", M1, Source.SNAPSHOT, Range(OPEN, OPEN + 30), (row,)))
    assert series.cover(OPEN, OPEN + 60, OPEN + 61)[0].trades == 5


def test_gap_delays_only_the_windows_over_it():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    # Nothing is known of minutes 1 and 2; then the feed is back.
    series.update(candle(3, "103"))
    published = series.cover(OPEN + 180, OPEN + 360, OPEN + 361)
    assert [(c.timeframe, c.open_time - OPEN) for c in published] == [(M1, 180), (M1, 240), (M1, 300)]
    assert series.gaps() == [(M1, Range(OPEN + 60, OPEN + 180))]
    filled = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 60, OPEN + 180), ()))
    assert [(c.timeframe, c.open_time - OPEN) for c in filled] == [(M1, 60), (M1, 120), (Timeframe.M5, 0)]
    assert series.gaps() == []


def test_flat_minute_after_a_gap_waits_for_the_price():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    assert series.cover(OPEN + 120, OPEN + 240, OPEN + 241) == []
    row = candle(1, "107", source=Source.REST, at=OPEN + 250)
    filled = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 60, OPEN + 120), (row,)))
    assert [c.close for c in filled] == [Decimal(107)] * 3


def test_gap_that_is_given_up_on_closes_higher_candles_incomplete_and_stays_a_gap_below():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    series.update(candle(3, "103"))
    series.cover(OPEN + 180, OPEN + 360, OPEN + 361)
    closed = series.give_up(M1, Range(OPEN + 60, OPEN + 180), OPEN + 400)
    assert [(c.timeframe, c.complete, c.trades) for c in closed] == [(Timeframe.M5, False, 1)]
    row = candle(1, "107", source=Source.REST, at=OPEN + 500)
    mended = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 60, OPEN + 180), (row,)))
    assert [(c.timeframe, c.open_time - OPEN, c.complete, c.revision) for c in mended] == [
        (M1, 60, True, 0),
        (M1, 120, True, 0),
        (Timeframe.M5, 0, True, 1),
    ]
    assert series.lost == []


def test_price_never_crosses_a_gap_even_where_an_earlier_one_was_given_up_on():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    series.update(candle(3, "103"))
    series.cover(OPEN + 180, OPEN + 360, OPEN + 361)
    series.give_up(M1, Range(OPEN + 60, OPEN + 180), OPEN + 400)
    # Minutes 6 and 7 are not known; nothing traded in minute 8.
    assert pick(series.cover(OPEN + 480, OPEN + 540, OPEN + 541), M1) == []
    row = candle(7, "110", source=Source.REST, at=OPEN + 560)
    filled = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 360, OPEN + 480), (row,)))
    assert [c.close for c in pick(filled, M1)] == [Decimal(103), Decimal(110), Decimal(110)]


def test_first_row_without_trades_gives_only_the_price_of_a_response():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    series.update(candle(8, "103"))
    series.cover(OPEN + 480, OPEN + 600, OPEN + 601)
    price = candle(5, "99", volume="0", trades=0, infilled=True, source=Source.REST, at=OPEN + 700)
    filled = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 360, OPEN + 480), (price,)))
    assert [(c.open_time - OPEN, c.close) for c in pick(filled, M1)] == [(360, 99), (420, 99)]
    # The minute of the row itself is not in the response's range: it may have traded.
    assert (M1, Range(OPEN + 60, OPEN + 360)) in series.gaps()


def test_incomplete_higher_candle_is_complete_with_krakens_own_candle():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    series.update(candle(3, "103"))
    series.cover(OPEN + 180, OPEN + 360, OPEN + 361)
    (incomplete,) = pick(series.give_up(M1, Range(OPEN + 60, OPEN + 180), OPEN + 400), Timeframe.M5)
    assert not incomplete.complete
    row = candle(0, "103", timeframe=Timeframe.M5, source=Source.REST, at=OPEN + 500)
    response = History("BTC/USD", Timeframe.M5, Source.REST, Range(OPEN, OPEN + 300), (row,))
    assert [(c.timeframe, c.complete, c.revision) for c in series.history(response)] == [(Timeframe.M5, True, 1)]


def test_response_about_forgotten_minutes_infills_none():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    kept = Memory()[M1] * 60
    series.cover(OPEN + 180, OPEN + kept, OPEN + kept + 1)
    series.give_up(M1, Range(OPEN + 60, OPEN + 180), OPEN + kept + 100)
    series.cover(OPEN + kept, OPEN + kept + 300, OPEN + kept + 301)
    row = candle(1, "107", source=Source.REST, at=OPEN + kept + 400)
    late = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 60, OPEN + 180), (row,)))
    assert [c for c in late if OPEN + 60 <= c.open_time < OPEN + 180] == []
    assert series.horizons[M1] == OPEN + 300


def test_row_of_a_forgotten_minute_is_ignored():
    memory = Memory()
    memory.share(1_440)
    series = seeded_series(memory=memory)
    end = OPEN + 2 * memory[M1] * 60
    series.cover(OPEN, end, end + 1)
    memory.share(1)
    assert end - memory[M1] * 60 < OPEN < series.horizons[M1]
    row = candle(1, "107", source=Source.REST, at=end + 2)
    assert series.history(History("BTC/USD", M1, Source.REST, Range(OPEN, OPEN + 600), (row,))) == []
    assert series.horizons[M1] >= OPEN + 600


def test_restarted_series_publishes_the_gap_of_the_earlier_run():
    series = CandleSeries("BTC/USD", Depth(fresh=2))
    now = OPEN + 7200
    for timeframe in TIMEFRAMES:
        forming = timeframe.floor(now)
        # Something between OPEN and now was still missing; hours and what is below them were complete.
        complete = timeframe.seconds <= 3600
        series.resume(candle(0, timeframe=timeframe, open_time=forming, complete=complete))
        start = timeframe.floor(now - 1)
        row = candle(0, timeframe=timeframe, open_time=start, source=Source.SNAPSHOT, at=now + 1)
        series.history(History("BTC/USD", timeframe, Source.SNAPSHOT, Range(start, now + 1), (row,)))
    assert (M1, Range(OPEN, now - 60)) in series.gaps()


def test_rest_row_of_an_open_minute_is_not_final():
    series = seeded_series()
    for taken, lacks in ((OPEN + 40, True), (OPEN + 61, False)):
        row = candle(0, "101", source=Source.REST, at=taken)
        series.history(History("BTC/USD", M1, Source.REST, Range(OPEN, taken), (row,)))
        assert series.lacks(OPEN, row.trades + 1) == lacks


def test_new_pair_has_no_gap_before_its_first_trade_after_a_restart():
    now = OPEN + 3 * 86_400 + 5 * 3600 + 120
    series = CandleSeries("BTC/USD", Depth())
    traded = now - 60
    for timeframe in TIMEFRAMES:
        forming = timeframe.floor(traded)
        series.resume(candle(0, timeframe=timeframe, open_time=forming, complete=timeframe.seconds <= 14_400))
        row = candle(0, timeframe=timeframe, open_time=forming, source=Source.SNAPSHOT, at=now + 1)
        series.history(History("BTC/USD", timeframe, Source.SNAPSHOT, Range(forming, now + 1), (row,)))
    series.cover(now, now + 60, now + 61)
    for _ in range(3):
        for timeframe, span in series.gaps():
            rows = [candle(0, timeframe=timeframe, open_time=timeframe.floor(traded), source=Source.REST, at=now + 70)]
            within = tuple(row for row in rows if span.start <= row.open_time < span.end)
            series.history(History("BTC/USD", timeframe, Source.REST, span, within))
    assert series.gaps() == []
    assert series.pending == 0
    assert all(candle.complete for candle in series.forming(now + 71))


def seeded_with(series: CandleSeries, traded: list[int], now: float) -> list[Candle]:
    """Seed it with the last ten windows of each timeframe in which a minute of `traded` (open times) is."""
    out = []
    for timeframe in TIMEFRAMES:
        windows = sorted({timeframe.floor(minute) for minute in traded})[-10:]
        rows = [candle(0, timeframe=timeframe, open_time=o, source=Source.SNAPSHOT, at=now) for o in windows]
        out += series.history(History("BTC/USD", timeframe, Source.SNAPSHOT, Range(windows[0], now), tuple(rows)))
    return out


def test_pair_that_traded_once_during_downtime_starts_at_that_trade():
    series = CandleSeries("BTC/USD", Depth())
    traded = OPEN + 3_600
    published = seeded_with(series, [traded], OPEN + 4 * 3_600 + 1)
    minutes = pick(published, M1)
    assert [(c.open_time, c.infilled) for c in minutes] == [
        (window, window != traded) for window in range(traded, OPEN + 4 * 3_600, 60)
    ]


@pytest.mark.parametrize(
    ("listed", "now"),
    [
        (OPEN + 3_600, OPEN + 6 * 3_600),
        # Its 1h snapshot no longer reaches back to the first trade, and 4h are too coarse to show when it was.
        (OPEN + 41_400, OPEN + 79_020),
    ],
)
def test_pair_listed_during_downtime_is_complete_from_its_first_trade(listed, now):
    series = CandleSeries("BTC/USD", Depth())
    minutes = list(range(listed, now, 60))
    published = seeded_with(series, minutes, now + 1)
    assert series.gaps()[0][0] is M1
    for _ in range(3):
        for timeframe, span in series.gaps():
            traded = sorted({timeframe.floor(minute) for minute in minutes})
            rows = tuple(
                candle(0, timeframe=timeframe, open_time=o, source=Source.REST, at=now + 5)
                for o in traded
                if span.start <= o < span.end
            )
            published += series.history(History("BTC/USD", timeframe, Source.REST, span, rows))
    assert (series.gaps(), series.pending) == ([], 0)
    for timeframe in (M1, Timeframe.M5, Timeframe.M15, Timeframe.H1):
        times = {c.open_time for c in pick(published, timeframe)}
        last = timeframe.floor(now) - timeframe.seconds
        assert times == set(range(timeframe.floor(listed), last + 1, timeframe.seconds)), timeframe.value
    assert all(c.complete for c in published)


@pytest.mark.parametrize("traded", [range(OPEN - 86_400, OPEN, 60), [OPEN - 86_400, OPEN - 120]])
def test_pair_traded_before_the_reach_of_rest_starts_with_fresh_windows(traded):
    series = CandleSeries("BTC/USD", Depth(fresh=2))
    published = seeded_with(series, list(traded), OPEN + 1)
    assert [c.open_time for c in pick(published, M1)] == [OPEN - 120, OPEN - 60]


def test_pair_that_an_earlier_run_published_does_not_start_over():
    series = CandleSeries("BTC/USD", Depth(fresh=2))
    now = OPEN + 4 * 3_600
    series.resume(candle(0, open_time=now - 120))
    published = seeded_with(series, [OPEN + 3_600], now + 1)
    assert [c.open_time for c in pick(published, M1)] == [now - 120, now - 60]


def test_history_of_forgotten_windows_covers_nothing():
    series = seeded_series()
    day = 86400
    series.cover(OPEN, OPEN + day, OPEN + day + 1)
    row = candle(0, "107", source=Source.REST, at=OPEN + day + 2)
    assert series.history(History("BTC/USD", M1, Source.REST, Range(OPEN, OPEN + 600), (row,))) == []
    assert series.forgotten_rows == 1
    assert not series._levels[M1].known.covers(OPEN, OPEN + 60)


def test_forming_candles_are_built_from_the_seed_down_to_the_live_minute():
    series = CandleSeries("BTC/USD", Depth())
    now = OPEN + 7 * 60 + 30
    for timeframe in TIMEFRAMES:
        rows = [
            candle(0, "100", timeframe=timeframe, open_time=o, trades=2, source=Source.SNAPSHOT, at=now)
            for o in range(timeframe.floor(now) - 9 * timeframe.seconds, now, timeframe.seconds)
        ]
        series.history(History("BTC/USD", timeframe, Source.SNAPSHOT, Range(rows[0].open_time, now), tuple(rows)))
    forming = {c.timeframe: c for c in series.forming(now)}
    assert forming[M1].trades == 2
    assert forming[Timeframe.M5].trades == 6  # minutes 5, 6 and 7
    assert {forming[tf].trades for tf in TIMEFRAMES[2:]} == {8}  # the 5m candle of 0 to 5, and the forming one
    assert not any(c.closed for c in forming.values())


def test_roll_up_vwap_is_weighted_by_volume():
    series = seeded_series()
    series.update(candle(0, "100", volume="3"))
    series.update(candle(1, "200", volume="1"))
    five = pick(series.cover(OPEN, OPEN + 300, OPEN + 301), Timeframe.M5)
    assert five[0].vwap == Decimal(125)
    assert five[0].volume == Decimal(4)


@pytest.mark.parametrize("missing", TIMEFRAMES)
def test_nothing_is_published_before_all_seven_timeframes_are_seeded(missing):
    series = CandleSeries("BTC/USD", Depth())
    for timeframe in TIMEFRAMES:
        if timeframe is not missing:
            start = OPEN - timeframe.seconds
            row = candle(0, timeframe=timeframe, open_time=start, source=Source.SNAPSHOT, at=OPEN + 1)
            assert series.history(History("BTC/USD", timeframe, Source.SNAPSHOT, Range(start, OPEN + 1), (row,))) == []
    assert series.cover(OPEN, OPEN + 600, OPEN + 601) == []
    assert series.forming(OPEN) == []


def test_minute_after_a_partly_lost_one_is_not_flat_at_an_old_price():
    series = seeded_series()
    series.update(candle(0, "101"))
    series.cover(OPEN, OPEN + 30, OPEN + 31)
    series.cover(OPEN + 60, OPEN + 360, OPEN + 361)
    closed = pick(series.give_up(M1, Range(OPEN, OPEN + 60), OPEN + 400), M1)
    assert [(c.open_time, c.complete) for c in closed] == [(OPEN, False)]


def test_flat_minutes_after_a_lost_one_close_once_it_is_repaired():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    series.cover(OPEN + 120, OPEN + 360, OPEN + 361)
    series.give_up(M1, Range(OPEN + 60, OPEN + 120), OPEN + 400)
    row = candle(1, "105", source=Source.REST, at=OPEN + 500)
    mended = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 60, OPEN + 120), (row,)))
    assert [(c.open_time - OPEN, c.close) for c in pick(mended, M1)] == [(m * 60, Decimal(105)) for m in range(1, 6)]


def test_flat_minutes_after_a_lost_one_close_once_their_price_is_known():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    series.cover(OPEN + 120, OPEN + 360, OPEN + 361)
    series.give_up(M1, Range(OPEN + 60, OPEN + 120), OPEN + 400)
    price = candle(1, "105", trades=0, volume="0", infilled=True, source=Source.REST, at=OPEN + 500)
    closed = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 120, OPEN + 300), (price,)))
    assert [(c.open_time - OPEN, c.close) for c in pick(closed, M1)] == [(m * 60, Decimal(105)) for m in range(2, 6)]


def test_unknown_higher_candle_is_flat_once_kraken_reports_no_trades():
    series = seeded_series()
    series.cover(OPEN, OPEN + 240, OPEN + 241)
    series.cover(OPEN + 300, OPEN + 660, OPEN + 661)
    assert series.give_up(M1, Range(OPEN + 240, OPEN + 300), OPEN + 700) == []
    response = History("BTC/USD", Timeframe.M5, Source.REST, Range(OPEN, OPEN + 600), ())
    closed = pick(series.history(response), Timeframe.M5)
    assert [(c.open_time - OPEN, c.close, c.infilled, c.complete) for c in closed] == [
        (0, Decimal(100), True, True),
        (300, Decimal(100), True, True),
    ]


def resumed_series(now: int) -> CandleSeries:
    """A series that owes all that it can remember at `now`, of which its seed has the last minute only."""
    series = CandleSeries("BTC/USD", Depth())
    for timeframe in TIMEFRAMES:
        if timeframe is M1:
            series.resume(candle(0, open_time=now - 86_400, closed=True))
        start = timeframe.floor(now - 1)
        row = candle(0, timeframe=timeframe, open_time=start, source=Source.SNAPSHOT, at=now + 1)
        series.history(History("BTC/USD", timeframe, Source.SNAPSHOT, Range(start, now + 1), (row,)))
    return series


@pytest.mark.parametrize(
    "rows", [[candle(-20, "95", at=OPEN + 43_300)], [candle(-60, "95", trades=0, volume="0", at=OPEN + 43_300)]]
)
def test_first_remembered_minute_has_the_price_of_an_earlier_response(rows):
    series = resumed_series(OPEN + 43_200)
    series.cover(OPEN + 43_200, OPEN + 43_380, OPEN + 43_381)
    response = History("BTC/USD", M1, Source.REST, Range(OPEN - 3_540, OPEN + 120), tuple(rows))
    closed = pick(series.history(response), M1)
    assert [(c.open_time - OPEN, c.close, c.infilled) for c in closed] == [
        (0, Decimal(95), True),
        (60, Decimal(95), True),
    ]


def test_first_price_of_an_old_response_is_kept_beside_newer_ones():
    series = seeded_series()
    series.cover(OPEN + 3_600, OPEN + 36_000, OPEN + 36_001)
    for hour in range(1, 10):
        price = candle(hour * 60 - 1, trades=0, volume="0", source=Source.REST, at=OPEN + 36_100)
        span = Range(OPEN + hour * 3_600, OPEN + hour * 3_600 + 3_600)
        series.history(History("BTC/USD", M1, Source.REST, span, (price,)))
    price = candle(29, "95", trades=0, volume="0", source=Source.REST, at=OPEN + 36_100)
    closed = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 1_800, OPEN + 1_860), (price,)))
    assert [(c.open_time - OPEN, c.close) for c in pick(closed, M1)] == [(1_800, Decimal(95))]


def test_higher_candle_stays_incomplete_after_its_lost_minutes_are_forgotten():
    series = seeded_series()
    series.update(candle(0, "101"))
    series.cover(OPEN, OPEN + 13_800, OPEN + 13_801)
    series.update(candle(250, "102"))
    # The minutes are forgotten then, and the windows of four hours are not.
    end = OPEN + 2 * Memory()[M1] * 60
    series.cover(OPEN + 15_000, end, end + 1)
    (day,) = pick(series.give_up(M1, Range(OPEN + 13_800, OPEN + 15_000), end + 1), Timeframe.D1)
    assert (day.open_time, day.complete) == (OPEN, False)
    series.cover(OPEN + 15_000, end + 1_000, end + 1_001)
    assert series.horizons[M1] > OPEN + 15_000
    row = candle(0, "103", timeframe=Timeframe.H4, source=Source.REST, at=end + 1_002)
    corrected = series.history(History("BTC/USD", Timeframe.H4, Source.REST, Range(OPEN, OPEN + 14_400), (row,)))
    assert series.lost
    first = {c.timeframe: c.complete for c in corrected if c.open_time == OPEN}
    assert (first[Timeframe.H4], first[Timeframe.D1]) == (True, False)


def test_price_within_a_higher_window_is_not_its_close():
    series = seeded_series()
    series.cover(OPEN, OPEN + 240, OPEN + 241)
    series.update(candle(6, "92"))
    series.cover(OPEN + 300, OPEN + 1_260, OPEN + 1_261)
    series.give_up(M1, Range(OPEN + 240, OPEN + 300), OPEN + 1_300)
    price = candle(4, "98", trades=0, volume="0", source=Source.REST, at=OPEN + 1_300)
    closed = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 300, OPEN + 360), (price,)))
    assert [(c.open_time - OPEN, c.close) for c in pick(closed, M1)] == [(300, Decimal(98))]
    later = [c for timeframe in TIMEFRAMES for c in series.published(timeframe) if c.open_time > OPEN + 360]
    assert {c.close for c in later} == {Decimal(92)}


def test_no_price_crosses_a_lost_gap_into_krakens_own_window():
    series = seeded_series()
    series.update(candle(0, "101"))
    series.cover(OPEN, OPEN + 180, OPEN + 181)
    series.cover(OPEN + 480, OPEN + 660, OPEN + 661)
    series.give_up(M1, Range(OPEN + 180, OPEN + 480), OPEN + 700)
    # Nothing traded in the second five minutes; whether anything did in the minutes 3 and 4 nobody has closed.
    assert series.history(History("BTC/USD", Timeframe.M5, Source.REST, Range(OPEN + 300, OPEN + 600), ())) == []
    row = candle(4, "107", source=Source.REST, at=OPEN + 800)
    mended = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 180, OPEN + 300), (row,)))
    five = [(c.open_time - OPEN, c.close, c.complete) for c in pick(mended, Timeframe.M5)]
    assert five == [(0, Decimal(107), True), (300, Decimal(107), True)]


def test_krakens_complete_candle_is_kept_over_children_with_lost_parts():
    series = seeded_series()
    series.update(candle(0, "101"))
    series.cover(OPEN, OPEN + 180, OPEN + 181)
    series.update(candle(6, "103"))
    series.cover(OPEN + 240, OPEN + 960, OPEN + 961)
    series.give_up(M1, Range(OPEN + 180, OPEN + 240), OPEN + 1_000)
    row = candle(0, "103", timeframe=Timeframe.M15, trades=3, source=Source.REST, at=OPEN + 1_100)
    (whole,) = series.history(History("BTC/USD", Timeframe.M15, Source.REST, Range(OPEN, OPEN + 900), (row,)))
    assert (whole.trades, whole.complete) == (3, True)
    late = series.update(candle(6, "104", trades=2, at=OPEN + 1_200))
    assert pick(late, Timeframe.M5)
    assert pick(late, Timeframe.M15) == []
    # Once all parts are known they tell of the late trade as well.
    row = candle(3, "107", source=Source.REST, at=OPEN + 1_300)
    mended = series.history(History("BTC/USD", M1, Source.REST, Range(OPEN + 180, OPEN + 240), (row,)))
    assert [(c.trades, c.high, c.close, c.complete) for c in pick(mended, Timeframe.M15)] == [
        (4, Decimal(107), Decimal(104), True)
    ]


def test_lagging_feed_fills_a_gap_of_another_feed():
    series = seeded_series()
    series.cover(OPEN, OPEN + 60, OPEN + 61)
    series.cover(OPEN + 180, OPEN + 360, OPEN + 361)
    assert series.cover(OPEN, OPEN + 90, OPEN + 362) == []
    series.cover(OPEN + 180, OPEN + 420, OPEN + 421)
    filled = series.cover(OPEN, OPEN + 200, OPEN + 422)
    assert [c.open_time - OPEN for c in pick(filled, M1)] == [60, 120, 180, 240, 300, 360]
    assert series.gaps() == []
    assert [c.open_time - OPEN for c in series.cover(OPEN, OPEN + 480, OPEN + 481)] == [420]
