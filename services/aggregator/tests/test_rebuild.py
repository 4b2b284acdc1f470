"""Candles of forgotten times, rebuilt from responses that come in pieces: compared with the naive reference."""

from decimal import Decimal
from itertools import pairwise
from random import Random

from candle_world import START, SYMBOL, Trade, World, candle_of, numbers, price_row, random_trades, reference
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.core import Engine
from aggregator.core.rebuild import Rebuild
from ingress_common.model import Candle, History, HistoryRequest, Range, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe

M1 = Timeframe.M1
FAR = dict.fromkeys(TIMEFRAMES, START + 10**9)


def response(trades: list[Trade], timeframe: Timeframe, start: int, end: int, at: float) -> History:
    """What a gateway responds: traded rows, and before them the price where the range begins without trades."""
    rows = [
        candle_of(inside, timeframe, window, at, Source.TRADES)
        for window in range(start, end, timeframe.seconds)
        if (inside := [t for t in trades if window <= t.time < window + timeframe.seconds])
    ]
    before = [trade for trade in trades if trade.time < start]
    if before:
        rows.insert(0, price_row(before[-1].price, timeframe, start, at))
    return History(SYMBOL, timeframe, Source.TRADES, Range(start, end), tuple(rows))


def rebuilt(rebuild: Rebuild, history: History, horizons=FAR) -> dict[tuple[Timeframe, int], Candle]:
    return {(c.timeframe, c.open_time): c for c in rebuild.history(history, history.covers.end, horizons)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.02, 0.3, 0.9]), st.integers(0, 300), st.integers(1, 500))
def test_pieces_in_any_order_rebuild_every_covered_window(seed, share, offset, minutes):
    random = Random(seed)
    trades = random_trades(random, 900, share)
    start = START + offset * 60
    end = start + minutes * 60
    cuts = sorted({start, end, *(START + random.randint(offset, offset + minutes) * 60 for _ in range(3))})
    pieces = list(pairwise(cuts))
    random.shuffle(pieces)
    rebuild = Rebuild(SYMBOL)
    closed: dict[tuple[Timeframe, int], Candle] = {}
    for first, last in pieces:
        closed |= rebuilt(rebuild, response(trades, M1, first, last, end + 5.0))
    expected = {
        (timeframe, window)
        for timeframe in TIMEFRAMES
        for window in range(timeframe.ceil(start), timeframe.floor(end), timeframe.seconds)
        if window + timeframe.seconds <= end
    }
    assert closed.keys() == expected
    for (timeframe, window), candle in closed.items():
        assert numbers(candle) == reference(trades, timeframe, window)
        assert candle.closed
        assert candle.complete


def test_rows_of_a_higher_timeframe_become_candles_of_it_with_flat_ones_between():
    trades = [Trade(START + 10.0, Decimal(100), Decimal(1)), Trade(START + 3 * 14400 + 5.0, Decimal(90), Decimal(1))]
    history = response(trades, Timeframe.H4, START // 14400 * 14400, START // 14400 * 14400 + 5 * 14400, START + 10**6)
    closed = rebuilt(Rebuild(SYMBOL), history)
    assert len(closed) == 5
    for (timeframe, window), candle in closed.items():
        assert numbers(candle) == reference(trades, timeframe, window)


def test_minute_without_trades_before_the_first_price_yields_no_candle():
    trades = [Trade(START + 130.0, Decimal(100), Decimal(1))]
    closed = rebuilt(Rebuild(SYMBOL), response(trades, M1, START, START + 300, START + 400.0))
    assert sorted(window for timeframe, window in closed if timeframe is M1) == [START + 120, START + 180, START + 240]


def test_maintained_windows_are_not_rebuilt():
    trades = random_trades(Random(1), 60, 0.9)
    horizons = {**FAR, M1: START + 600, Timeframe.M5: START + 300}
    closed = rebuilt(Rebuild(SYMBOL), response(trades, M1, START, START + 1200, START + 2000.0), horizons)
    assert max(window for timeframe, window in closed if timeframe is M1) == START + 540
    assert [window for timeframe, window in closed if timeframe is Timeframe.M5] == [START]


def test_engine_publishes_requested_candles_of_forgotten_windows():
    random = Random(7)
    world = World(random_trades(random, 1500, 0.4), random)
    world.connect()
    while world.now < START + 1300 * 60:
        world.step(30)
    world.closed.clear()
    hour = Timeframe.H1.floor(START) + 2 * 3600
    request = HistoryRequest((SYMBOL,), M1, hour, hour + 3600)
    world.take(world.engine.history(world.rest(request)))
    # Of the higher timeframes those that it has forgotten as well; the others are requested by themselves.
    horizons = world.engine.series[SYMBOL].horizons
    forgotten = [tf for tf in Timeframe if horizons[tf] >= hour + 3600]
    assert M1 in forgotten
    assert Timeframe.H4 not in forgotten
    assert set(world.closed) == {(tf, window) for tf in forgotten for window in range(hour, hour + 3600, tf.seconds)}
    for (timeframe, window), candle in world.closed.items():
        assert numbers(candle) == reference(world.trades, timeframe, window)
    # The newest of each timeframe is still the one that is retained.
    assert all(candle.open_time > hour for candle in world.retained.values())


def test_engine_republishes_known_candles_that_a_response_covers():
    random = Random(3)
    world = World(random_trades(random, 200, 0.4), random)
    world.connect()
    while world.now < START + 100 * 60:
        world.step(10)
    before = dict(world.closed)
    world.log.clear()
    start = START + 60 * 60
    world.take(world.engine.history(world.rest(HistoryRequest((SYMBOL,), M1, start, start + 600))))
    assert [candle for candle in world.log if candle.timeframe is M1] == [
        before[M1, window] for window in range(start, start + 600, 60)
    ]


def test_engine_republishes_nothing_unchanged_by_a_response_to_its_own_request():
    random = Random(3)
    world = World(random_trades(random, 200, 0.4), random)
    world.connect()
    while world.now < START + 100 * 60:
        world.step(10)
    world.disconnect()
    world.now += 3_000
    world.connect()
    world.step(10)
    (_, response), *_ = world.responses
    # With the gap some known minutes are requested.
    known = [c for (tf, window), c in world.closed.items() if tf is M1 and window >= response.covers.start]
    assert known
    world.log.clear()
    world.take(world.engine.history(response))
    filled = [candle for candle in world.log if candle.timeframe is M1]
    assert filled
    assert not set(filled) & set(known)
    # Another client that requests the same gets all of it.
    world.log.clear()
    world.take(world.engine.history(response))
    minutes = {candle.open_time for candle in [*known, *filled] if candle.open_time < response.covers.end}
    assert {candle.open_time for candle in world.log} == minutes


def test_engine_republishes_what_it_published_of_a_span_on_request():
    random = Random(4)
    world = World(random_trades(random, 200, 0.4), random)
    world.connect()
    while world.now < START + 100 * 60:
        world.step(10)
    published = sorted(candle.at for candle in world.closed.values())
    start, end = published[len(published) // 4], published[len(published) * 3 // 4]
    republished = world.engine.republish([SYMBOL, "NOT/OURS"], start, end)
    expected = [candle for candle in world.closed.values() if start <= candle.at <= end]
    assert republished == sorted(expected, key=lambda c: (TIMEFRAMES.index(c.timeframe), c.open_time))
    assert {candle.timeframe for candle in republished} == {t for t in TIMEFRAMES if t.seconds <= 3600}


def test_retained_candle_of_an_earlier_run_does_not_override_a_response():
    random = Random(5)
    world = World(random_trades(random, 400, 0.9), random)
    world.connect()
    while world.now < START + 60 * 60 + 20:
        world.step(10)
    last = world.closed[M1, START + 59 * 60]
    # Killed before Kraken's late word on its last minute; hours later another one starts.
    world.retained[M1] = world.closed[M1, START + 59 * 60] = replace(last, trades=last.trades + 1)
    world.now = START + 200 * 60.0
    world.engine = Engine()
    world.connect()
    world.restart()
    world.settle()
    assert numbers(world.closed[M1, START + 59 * 60]) == reference(world.trades, M1, START + 59 * 60)
