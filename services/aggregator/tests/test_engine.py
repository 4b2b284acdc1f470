"""What the engine makes of watermarks: from when a feed speaks, what is a repeat, what is nonsense."""

import pytest
from candle_world import START, SYMBOL, World, random_trades

from aggregator.core.engine import ImplausibleError
from ingress_common.model import History, HistoryRequest, Range, Source, Watermark
from ingress_common.timeframes import Timeframe


@pytest.fixture
def world() -> World:
    """A feed that has been live for ten minutes."""
    from random import Random

    random = Random(1)
    world = World(random_trades(random, 60, 0.5), random)
    world.connect()
    for _ in range(60):
        world.step(10)
    return world


def asked(outputs) -> list[HistoryRequest]:
    return [output for output in outputs if isinstance(output, HistoryRequest)]


def test_watermark_that_comes_twice_changes_nothing(world):
    mark = Watermark("feed", world.now - 1, world.now)
    world.engine.watermark(mark)
    assert world.engine.watermark(mark) == []
    assert world.engine.watermark(Watermark("feed", world.now - 31, world.now - 30)) == []
    world.step(10)
    assert asked(world.engine.watermark(Watermark("feed", world.now - 1, world.now))) == []


def test_watermarks_too_far_apart_mean_lost_messages_and_the_hole_is_asked_for(world):
    later = world.now + 60
    outputs = world.engine.watermark(Watermark("feed", later - 1, later))
    outputs += world.engine.watermark(Watermark("feed", later + 60, later + 9))
    [request, *_] = asked(outputs)
    assert request.timeframe is Timeframe.M1
    assert request.range.start < world.now < request.range.end


def test_watermark_of_another_age_is_not_followed_and_does_not_stop_the_feed(world):
    closed = len(world.log)
    world.take(world.engine.watermark(Watermark("feed", 9e9, 9e9)))
    assert len(world.log) == closed
    world.settle(5)
    assert max(c.open_time for c in world.log) >= START + 13 * 60


def test_history_that_claims_a_time_to_come_is_refused(world):
    history = History(SYMBOL, Timeframe.M1, Source.REST, Range(START, 9e9), ())
    with pytest.raises(ImplausibleError, match="expected history up to about"):
        world.engine.history(history)
