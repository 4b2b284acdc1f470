"""Candles of a timeframe or symbol, and ticks of a symbol, that the bus does not bring."""

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
        assert bool(arrivals.problem((), float(second))) is (second > 9), second
    assert arrivals.problem((), 19.0) == "no candle of 1d, 1w was received for 18 s"
    take(arrivals, Timeframe.D1, 19, 19.5)
    assert arrivals.problem((), 20.0) == "no candle of 1w was received for 19 s"
    take(arrivals, W1, 19, 20.0)
    assert not arrivals.problem((), 1000.0)


def test_minutes_without_news_and_retained_ones_are_followed_by_nothing():
    arrivals = Arrivals()
    for timeframe in reversed(TIMEFRAMES):
        take(arrivals, timeframe, 3, 0.0, retained=True)
    for timeframe in TIMEFRAMES:
        take(arrivals, timeframe, 4, 1.0)
    take(arrivals, M1, 4, 2.0)
    take(arrivals, M1, 0, 3.0)
    assert not arrivals.problem((), 1000.0)


def test_what_an_interruption_may_have_lost_is_no_problem():
    arrivals = Arrivals()
    take(arrivals, M1, 1, 0.0)
    arrivals.interrupted()
    assert not arrivals.problem((), 1000.0)
    take(arrivals, M1, 2, 1000.0)
    assert arrivals.problem((), 1009.0)


BTC, ETH = "BTC/USD", "ETH/USD"
BOTH = (BTC, ETH)


def second(arrivals: Arrivals, number: int, *stored: str) -> str:
    """A second in which both symbols trade once more, and the ticks of those that are `stored` were stored before."""
    minute = CANDLE.open_time
    arrivals.stored(replace(CANDLE, symbol=symbol, open_time=minute, trades=number, closed=False) for symbol in stored)
    arrivals.published({minute: {BTC: number, ETH: number}}, BOTH.__contains__, float(number))
    return arrivals.problem(BOTH, float(number))


def test_a_symbol_that_goes_on_trading_without_ticks_is_a_problem_until_one_is_stored():
    arrivals = Arrivals()
    assert not any(second(arrivals, number, BTC, ETH) for number in range(1, 10))
    problems = [second(arrivals, number, BTC) for number in range(10, 30)]
    assert [bool(problem) for problem in problems] == [False] * 10 + [True] * 10
    assert problems[-1] == "gateways publish ticks, but none of ETH/USD was stored for 18 s"
    assert not second(arrivals, 30, BTC, ETH)


def minutes_second(arrivals: Arrivals, number: int, *arrived: str) -> str:
    """The same with forming candles that had `arrived` before; all ticks are stored."""
    for symbol in arrived:
        arrivals.take(replace(CANDLE, symbol=symbol, trades=number, closed=False), number, retained=number == 1)
        for timeframe in TIMEFRAMES[1:]:
            take(arrivals, timeframe, number, number)
    return second(arrivals, number, BTC, ETH)


def test_a_symbol_that_goes_on_trading_without_candles_is_a_problem_until_one_arrives():
    arrivals = Arrivals()
    assert not any(minutes_second(arrivals, number, BTC, ETH) for number in range(1, 10))
    problems = [minutes_second(arrivals, number, BTC) for number in range(10, 30)]
    assert [bool(problem) for problem in problems] == [False] * 10 + [True] * 10
    assert problems[-1] == "gateways publish ticks, but no 1m candle of ETH/USD was received for 18 s"
    assert not minutes_second(arrivals, 30, BTC, ETH)


def test_a_symbol_that_is_not_seeded_yet_needs_no_candles():
    arrivals = Arrivals()
    assert not any(minutes_second(arrivals, number, BTC) for number in range(1, 60))


def test_candles_that_need_not_arrive_are_no_problem():
    arrivals = Arrivals()
    minute = CANDLE.open_time
    for symbol in BOTH:
        arrivals.take(replace(CANDLE, symbol=symbol, trades=6), 0.0, retained=True)
    for now in (1.0, 60.0):
        # One trade alone, stated again at the minute's end: the bus may have lost its candle.
        second(arrivals, 7, ETH)
        assert not arrivals.problem(BOTH, now)
    for number in range(8, 10):
        second(arrivals, number, BTC, ETH)
    # The closed candle shows all trades of its minute, also those that are stated after it.
    arrivals.take(replace(CANDLE, trades=9), 10.0, retained=False)
    arrivals.take(replace(CANDLE, symbol=ETH, trades=9), 10.0, retained=False)
    arrivals.published({minute: {BTC: 9}, minute - 60: {ETH: 30}}, BOTH.__contains__, 11.0)
    assert not arrivals.problem(BOTH, 1000.0)


def test_ticks_that_need_not_arrive_are_no_problem():
    arrivals = Arrivals()
    minute = CANDLE.open_time
    for now in (0.0, 60.0, 120.0):
        # One trade alone, from before this writer received the symbol; stated again at the minute's end.
        arrivals.published({minute: {BTC: 7}}, BOTH.__contains__, now)
    assert not arrivals.problem(BOTH, 1000.0)
    for now in (1000.0, 1001.0):
        arrivals.published({minute + 60: {BTC: int(now)}}, (ETH,).__contains__, now)  # another writer's
    assert not arrivals.problem(BOTH, 2000.0)
    for now in (2000.0, 2001.0):
        arrivals.published({minute + 60: {BTC: int(now)}}, BOTH.__contains__, now)
    assert arrivals.problem(BOTH, 2020.0)
    assert not arrivals.problem((ETH,), 2020.0)  # handed over
    assert not arrivals.problem(BOTH, 2020.0)
    for now in (3000.0, 3001.0):
        arrivals.published({minute + 60: {BTC: int(now)}}, BOTH.__contains__, now)
    arrivals.interrupted()
    assert not arrivals.problem(BOTH, 4000.0)
