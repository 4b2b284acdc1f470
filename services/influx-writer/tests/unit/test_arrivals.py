"""Candles of a timeframe that the bus does not bring."""

from msgspec.structs import replace

from example import CANDLE
from influx_writer.arrivals import Arrivals
from ingress_common.timeframes import TIMEFRAMES, Timeframe

M1, W1 = Timeframe.M1, Timeframe.W1


def take(arrivals: Arrivals, timeframe: Timeframe, trades: int, now: float, *, retained: bool = False) -> None:
    candle = replace(
        CANDLE, timeframe=timeframe, open_time=timeframe.floor(CANDLE.open_time), trades=trades, closed=False
    )
    arrivals.take(candle, now, retained=retained)


def test_timeframes_that_do_not_follow_minutes_are_a_problem():
    arrivals = Arrivals()
    for second in range(1, 20):
        for timeframe in TIMEFRAMES[:-2]:
            take(arrivals, timeframe, second, float(second))
        assert bool(arrivals.problem(float(second))) is (second > 9), second
    assert arrivals.problem(19.0) == "no candle of 1d, 1w was received for 18 s"
    take(arrivals, Timeframe.D1, 19, 19.5)
    assert arrivals.problem(20.0) == "no candle of 1w was received for 19 s"
    take(arrivals, W1, 19, 20.0)
    assert not arrivals.problem(1000.0)


def test_minutes_without_news_and_retained_ones_are_followed_by_nothing():
    arrivals = Arrivals()
    for timeframe in reversed(TIMEFRAMES):
        take(arrivals, timeframe, 3, 0.0, retained=True)
    for timeframe in TIMEFRAMES:
        take(arrivals, timeframe, 4, 1.0)
    take(arrivals, M1, 4, 2.0)
    take(arrivals, M1, 0, 3.0)
    assert not arrivals.problem(1000.0)


def test_what_an_interruption_may_have_lost_is_no_problem():
    arrivals = Arrivals()
    take(arrivals, M1, 1, 0.0)
    arrivals.interrupted()
    assert not arrivals.problem(1000.0)
    take(arrivals, M1, 2, 1000.0)
    assert arrivals.problem(1009.0)
