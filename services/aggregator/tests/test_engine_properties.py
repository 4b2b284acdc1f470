"""For any sequence of ticks, repeats, delays, restarts and gaps, the candles equal the naive reference."""

from random import Random
from unittest.mock import patch

from candle_world import START, SYMBOL, World, numbers, random_trades, reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.core import CandleSeries, Engine
from ingress_common.model import Candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe

seeds = st.integers(0, 2**32)
shares = st.sampled_from([0.03, 0.2, 0.5, 0.95])
events = st.lists(
    st.tuples(st.sampled_from(["drop", "restart", "lost", "repeat", "old"]), st.integers(10, 3000)), max_size=6
)
memories = st.sampled_from([86_400, 60])  # minutes in all: half a day of the one symbol, or an hour
thorough = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class SlowSeries(CandleSeries):
    """A candle series that never takes the fast lane."""

    def _find_parts(self) -> None:
        super()._find_parts()
        self._in_order = False


class SlowEngine(Engine):
    """An engine whose series never take the fast lane."""

    def gain(self, symbols):
        for symbol in symbols:
            self._series.setdefault(symbol, SlowSeries(symbol, self._depth, self._memory))
        super().gain(symbols)


class SlowWorld(World):
    def new_engine(self) -> Engine:
        return SlowEngine(self.depth)


def run(
    seed: int,
    share: float,
    script: list[tuple[str, int]],
    *,
    delays: bool,
    kind_of_world=World,
    drops: float | None = None,
    memory: int = 86_400,
) -> World:
    with patch("aggregator.core.memory._MINUTES_IN_ALL", memory):
        return _run(seed, share, script, delays, kind_of_world, drops)


def _run(
    seed: int, share: float, script: list[tuple[str, int]], delays: bool, kind_of_world, drops: float | None
) -> World:
    random = Random(seed)
    minutes = 200
    world = kind_of_world(random_trades(random, minutes + 60, share), random, drops=drops)
    world.connect()
    outages = []
    for kind, second in sorted(script, key=lambda item: item[1]):
        while world.now < START + second * 4:
            world.step(10, delays=delays)
            if outages and world.now >= outages[0]:
                outages.pop(0)
                world.connect()
        if kind == "drop" and world.live:
            world.disconnect()
            outages.append(world.now + random.choice([5, 50, 500, 3000]))
        elif kind == "restart":
            world.restart()
        elif kind == "lost" and world.live:
            # The broker forgot our session: what happens meanwhile passes us by.
            engine, world.engine = world.engine, type(world.engine)()
            for _ in range(random.randint(1, 40)):
                world.step(10)
            world.engine = engine
            engine.reconnected()
            world.take(engine.recent())
        elif kind == "repeat":
            for tick in world.ticks[-random.randint(1, 30) :]:
                world.take(world.engine.tick(tick))
        elif kind == "old":
            for tick in random.sample(world.ticks, min(5, len(world.ticks))):
                world.take(world.engine.tick(tick))
    world.settle()
    return world


def assert_complete(world: World) -> None:
    for timeframe in TIMEFRAMES:
        windows = sorted(open_time for tf, open_time in world.closed if tf is timeframe)
        if not windows:
            continue
        expected = range(windows[0], timeframe.floor(world.now - 1.5), timeframe.seconds)
        assert windows == list(expected), f"{timeframe.value}: windows missing or invented"
        for window in windows:
            candle = world.closed[timeframe, window]
            assert numbers(candle) == reference(world.trades, timeframe, window), (timeframe.value, window)
            assert candle.complete


@thorough
@given(seeds, shares, events, memories)
def test_every_closed_candle_equals_the_reference_at_once_and_none_is_missing(seed, share, script, memory):
    world = run(seed, share, script, delays=False, memory=memory)
    for candle in world.log:
        assert numbers(candle) == reference(world.trades, candle.timeframe, candle.open_time), "wrong when published"
    assert_complete(world)


@thorough
@given(seeds, shares, events, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_updates_that_the_broker_drops_are_gaps_until_kraken_fills_them_and_no_candle_is_wrong(
    seed, share, script, drops
):
    world = run(seed, share, script, delays=False, drops=drops)
    for candle in world.log:
        assert numbers(candle) == reference(world.trades, candle.timeframe, candle.open_time), "wrong when published"
    world.drops, mended = 0.0, world.now
    world.settle()
    assert_complete(world)
    session_lost = any(kind == "lost" for kind, _ in script)
    assert (world.engine.lost_updates > 0) <= (drops > 0 or session_lost)
    # Only a trade that arrives shows that updates do.
    assert not world.engine.losing or not any(mended < trade.time < world.now - 120 for trade in world.trades)


@thorough
@given(seeds, shares, events, memories)
def test_late_ticks_become_corrections_all_the_way_up(seed, share, script, memory):
    world = run(seed, share, script, delays=True, memory=memory)
    assert_complete(world)
    last: dict[tuple[Timeframe, int], Candle] = {}
    if not any(kind == "restart" for kind, _ in script):
        looked_after_from = world.engine.series[SYMBOL].horizons
        for candle in world.log:
            if candle.open_time < looked_after_from[candle.timeframe]:
                continue  # rebuilt from a response, anew with each
            key = (candle.timeframe, candle.open_time)
            # What is published again is the same to the last field; what is not is a correction.
            before = last.get(key)
            assert candle == before or candle.revision == (before.revision + 1 if before else 0)
            last[key] = candle


@thorough
@given(seeds, shares, events, st.booleans(), memories)
def test_both_lanes_publish_the_same(seed, share, script, delays, memory):
    fast, slow = (
        run(seed, share, script, delays=delays, kind_of_world=kind, memory=memory) for kind in (World, SlowWorld)
    )
    assert fast.closed == slow.closed
    assert fast.retained == slow.retained
    for timeframe in TIMEFRAMES:
        published = [[candle for candle in world.log if candle.timeframe is timeframe] for world in (fast, slow)]
        assert published[0] == published[1], timeframe.value


@thorough
@given(seeds, shares)
def test_forming_candles_hold_what_has_traded_so_far(seed, share):
    random = Random(seed)
    world = World(random_trades(random, 120, share), random)
    world.connect()
    for _ in range(random.randint(30, 600)):
        world.step(10)
    world.settle(5)
    # The forming candle follows the watermark: a minute that begins after it waits for the next one.
    so_far = [t for t in world.trades if t.time < min(world.now, Timeframe.M1.floor(world.now - 1) + 60)]
    for timeframe in TIMEFRAMES:
        candle = world.retained[timeframe]
        assert not candle.closed
        assert candle.open_time == timeframe.floor(world.now - 1)
        assert numbers(candle) == reference(so_far, timeframe, candle.open_time), timeframe.value
    assert SYMBOL in world.engine.series
