"""The gateway's messages for the core: live feeds, seeds, and minutes to stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aggregator.core import Engine, Output
from bench.market import OPENS, market
from ingress_common.model import Candle, FeedCondition, FeedState, History, HistoryRequest, Watermark
from ingress_common.timeframes import TIMEFRAMES, Timeframe

SEEDED = OPENS + 3.0
"""Time of the seeds (unix seconds)."""

_MINUTE = Timeframe.M1.seconds
_SYMBOLS_A_FEED = 250
# The gateway's clock. A gateway sends a watermark a second, and ten seconds without one count as a loss. So that a
# minute takes one watermark, the market runs sixty times as fast as this clock, as in a replay.
_CLOCK = float(OPENS)


def symbols(count: int) -> list[str]:
    """`count` symbols."""
    return [f"S{number:04d}/USD" for number in range(count)]


@dataclass(frozen=True)
class Minute:
    """The gateway's messages of one minute: the last tick of each symbol with trades, a watermark per feed."""

    ticks: tuple[Candle, ...]
    watermarks: tuple[Watermark, ...]


def feeds_of(names: Sequence[str]) -> list[FeedState]:
    """The live feeds that carry `names`, up to 250 each."""
    return [
        FeedState(f"bench-{first}", FeedCondition.LIVE, OPENS - 3600.0, tuple(names[first : first + _SYMBOLS_A_FEED]))
        for first in range(0, len(names), _SYMBOLS_A_FEED)
    ]


def first_watermarks(names: Sequence[str]) -> list[Watermark]:
    """The watermarks of the feeds of `names` at OPENS."""
    return [Watermark(feed.feed, float(OPENS), _CLOCK) for feed in feeds_of(names)]


def minutes_of(names: Sequence[str], first: int, end: int) -> list[Minute]:
    """The minutes number `first` up to `end` after OPENS; all symbols trade alike."""
    feeds = [feed.feed for feed in feeds_of(names)]
    return [_minute(names, feeds, number) for number in range(first, end)]


def _minute(names: Sequence[str], feeds: Sequence[str], number: int) -> Minute:
    opens = OPENS + number * _MINUTE
    ticks = [tick for name in names for tick in market().minutes(name, opens, opens + _MINUTE)]
    return Minute(tuple(ticks), tuple(Watermark(feed, float(opens + _MINUTE), _CLOCK + 1 + number) for feed in feeds))


def unseeded_engine(names: Sequence[str], give_up_after: float | None = 86400.0) -> Engine:
    """An engine whose feeds are live and have reported the time."""
    engine = Engine(give_up_after=give_up_after)
    engine.gain(names)
    for feed in feeds_of(names):
        engine.feed_state(feed, retained=False)
    for mark in first_watermarks(names):
        engine.watermark(mark)
    return engine


def take_seed(engine: Engine, seed: Sequence[History]) -> None:
    """Give `engine` the snapshots of a symbol; AssertionError if it finds a gap after the last one."""
    outputs = [engine.history(history) for history in seed]
    requests = [output for output in outputs[-1] if isinstance(output, HistoryRequest)]
    if requests:
        raise AssertionError(f"expected no gap after a seed, got {requests}")


def seeded_engine(names: Sequence[str], give_up_after: float | None = 86400.0) -> Engine:
    """An engine that is ready to stream `minutes_of` the same names."""
    engine = unseeded_engine(names, give_up_after)
    for name in names:
        take_seed(engine, market().seed(name, SEEDED))
    engine.forming_minutes()
    engine.forming(list(engine.changed))
    return engine


def stream(engine: Engine, minutes: Sequence[Minute]) -> list[Output]:
    """Give `engine` what the gateway publishes of `minutes`; gives what comes of it."""
    outputs: list[Output] = []
    for minute in minutes:
        for tick in minute.ticks:
            outputs += engine.tick(tick)
        for mark in minute.watermarks:
            outputs += engine.watermark(mark)
    return outputs


def windows_closed(first: int, end: int) -> Iterator[tuple[Timeframe, int, int]]:
    """The windows that end in the minutes number `first` up to `end` after OPENS.

    Of each timeframe: the open time of the first of them, and of the first after them.
    """
    start, stop = OPENS + first * _MINUTE, OPENS + end * _MINUTE
    return ((timeframe, timeframe.floor(start), timeframe.floor(stop)) for timeframe in TIMEFRAMES)


def windows_closed_count(first: int, end: int) -> int:
    """The number of these windows."""
    return sum((last - start) // timeframe.seconds for timeframe, start, last in windows_closed(first, end))
