"""How often forming candles are published: bounded for each symbol and timeframe, and soon up to date."""

from collections import defaultdict
from itertools import pairwise
from random import Random

from candle_world import SYMBOL, World, numbers, random_trades
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.forming import TURNS, FormingCandles
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe


def seeded_world(seed: int) -> World:
    world = World(random_trades(Random(seed), 60, 0.9), Random(seed))
    world.connect()
    for _ in range(60):
        world.step(10)
    assert world.engine.series[SYMBOL].initialized
    return world


def more(update: Candle, trades: int) -> Candle:
    """The update of the same minute after more trades."""
    return replace(update, trades=update.trades + trades, volume=update.volume + trades)


@settings(max_examples=30, deadline=None)
@example(308, [1])
@given(st.integers(0, 1000), st.lists(st.integers(0, 4), min_size=1, max_size=90))
def test_a_second_has_one_forming_candle_of_each_higher_timeframe_however_much_trades(seed, updates_by_turn):
    world = seeded_world(seed)
    forming = FormingCandles(world.engine)
    minute = Timeframe.M1.floor(world.now - 1)
    ticks = [tick for tick in world.ticks if tick.open_time == minute] or [replace(world.ticks[-1], open_time=minute)]
    update = replace(ticks[-1], at=world.now)
    published: dict[Timeframe, list[tuple[int, Candle]]] = defaultdict(list)
    for turn, updates in enumerate([*updates_by_turn, *[0] * TURNS]):
        for _ in range(updates):
            update = more(update, 1)
            assert world.engine.tick(update) == []
        for candle in forming.turn():
            published[candle.timeframe].append((turn, candle))
    for timeframe, candles in published.items():
        pause = 1 if timeframe is Timeframe.M1 else TURNS
        assert all(later - earlier >= pause for (earlier, _), (later, _) in pairwise(candles)), timeframe.value
    # A second after the last update all that it changed is published, and nothing else comes any more.
    assert all(forming.turn() == [] for _ in range(TURNS))
    world.engine.refresh_forming()
    newest = {candle.timeframe: candle for candle in world.flush_forming()}
    assert newest.keys() == set(TIMEFRAMES)
    if any(updates_by_turn):
        assert {tf: numbers(candles[-1][1]) for tf, candles in published.items()} == {
            tf: numbers(candle) for tf, candle in newest.items()
        }
    else:
        assert not published
