"""What the core's costs must not grow with: open gaps, what is kept, and how often a symbol trades."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count

from msgspec.structs import replace

from aggregator.core import Engine
from aggregator.forming import TURNS, FormingCandles
from bench.candle_feed import feeds_of, minutes_of, seeded_engine, stream, symbols
from bench.figure import Definition, Group, Outcome, at_most, paired
from bench.market import OPENS
from bench.rounds import cpu_seconds, in_turn
from ingress_common.timeframes import Timeframe

_SECONDS = 6.0
_NAMES = symbols(1)
_MINUTES = 960
_GAPS = 800
_KEPT = 10_000
_FORMING_SYMBOLS = 100


class _Ongoing:
    """An engine of one symbol that goes on with its minutes, round by round."""

    def __init__(self, engine: Engine, first: int) -> None:
        self.engine = engine
        self._firsts = count(first, _MINUTES)

    def round(self) -> float:
        """Stream the next minutes; seconds of CPU a minute."""
        first = next(self._firsts)
        minutes = minutes_of(_NAMES, first, first + _MINUTES)
        return cpu_seconds(partial(stream, self.engine, minutes)) / _MINUTES


def _with_gaps(gaps: int) -> _Ongoing:
    """Every second minute is missing, and nobody answers the requests for it. AssertionError if there are fewer."""
    engine = seeded_engine(_NAMES, give_up_after=None)
    (feed,) = feeds_of(_NAMES)
    (traded,) = minutes_of(_NAMES, _traded_minute(), _traded_minute() + 1)
    for number in range(1, 2 * gaps, 2):
        opens = OPENS + number * 60
        # One that is known without a trade would wait for the price before it.
        engine.tick(replace(traded.ticks[0], open_time=opens, at=opens + 59.5))
        engine.feed_state(replace(feed, since=float(opens)), retained=False)
        (minute,) = minutes_of(_NAMES, number, number + 1)
        engine.watermark(minute.watermarks[0])
    found = len(engine.gaps().get(_NAMES[0], ()))
    if found < gaps:
        raise AssertionError(f"expected {gaps} gaps, got {found}")
    return _Ongoing(engine, 2 * gaps)


def _with_kept(minutes: int) -> _Ongoing:
    """A gap that nobody fills keeps all minutes since."""
    ongoing = _with_gaps(1)
    stream(ongoing.engine, minutes_of(_NAMES, 2, 2 + minutes))
    kept = len(ongoing.engine.series[_NAMES[0]].published(Timeframe.M1))
    if kept < minutes:
        raise AssertionError(f"expected {minutes} minutes that are kept, got {kept}")
    return _Ongoing(ongoing.engine, 2 + minutes)


def _compare_minutes(name: str, make: Callable[[int], _Ongoing], many: int, few: int) -> Mapping[str, Outcome]:
    rounds = in_turn(make(many).round, make(few).round, _SECONDS)
    microseconds = [min(costs) * 1e6 for costs in (rounds.ours, rounds.theirs)]
    return {
        name: paired(rounds.ours, rounds.theirs, f"{microseconds[0]:.1f} us a minute beside {microseconds[1]:.1f} us")
    }


class _Forming:
    """Symbols that trade so often a second, and what is published of their forming candles."""

    def __init__(self, trades_a_second: int) -> None:
        names = symbols(_FORMING_SYMBOLS)
        self._engine = seeded_engine(names)
        self._forming = FormingCandles(self._engine)
        (minute,) = minutes_of(names, _traded_minute(), _traded_minute() + 1)
        self._updates = {update.symbol: update for update in minute.ticks}
        self._pause = TURNS // trades_a_second
        self.published = 0

    def round(self) -> float:
        """Ten seconds; seconds of CPU for the forming candles of one second and symbol."""
        self.published = 0
        return sum(self._turn(turn) for turn in range(10 * TURNS)) / 10 / _FORMING_SYMBOLS

    def _turn(self, turn: int) -> float:
        for number, (symbol, update) in enumerate(self._updates.items()):
            if (turn + number) % self._pause == 0:
                self._updates[symbol] = replace(update, trades=update.trades + 1, volume=update.volume + 1)
                self._engine.tick(self._updates[symbol])
        start = time.process_time()
        candles = self._forming.turn()
        taken = time.process_time() - start
        self.published += len(candles)
        return taken


def _traded_minute() -> int:
    return next(number for number in count() if minutes_of(_NAMES, number, number + 1)[0].ticks)


def _compare_forming() -> Mapping[str, Outcome]:
    busy, quiet = _Forming(TURNS), _Forming(1)
    rounds = in_turn(busy.round, quiet.round, _SECONDS)
    candles = [each.published / 10 / _FORMING_SYMBOLS for each in (busy, quiet)]
    microseconds = [min(costs) * 1e6 for costs in (rounds.ours, rounds.theirs)]
    note = (
        f"{microseconds[0]:.0f} us and {candles[0]:.0f} candles a second and symbol "
        f"beside {microseconds[1]:.0f} us and {candles[1]:.0f}"
    )
    return {_FORMING: paired(rounds.ours, rounds.theirs, note)}


_BESIDE_GAPS, _BESIDE_KEPT = f"core, a minute beside {_GAPS} gaps", f"core, a minute beside {_KEPT:,} that are kept"
_FORMING = f"core, forming candles of {TURNS} times the trades"

GROUPS = (
    Group(
        (
            Definition(
                _BESIDE_GAPS,
                f"CPU of the core a minute of a symbol of which {_GAPS} earlier minutes are missing and requested in "
                "vain, divided by that of one without a gap.",
                at_most(1.25),
            ),
        ),
        partial(_compare_minutes, _BESIDE_GAPS, _with_gaps, _GAPS, 0),
    ),
    Group(
        (
            Definition(
                _BESIDE_KEPT,
                f"CPU of the core a minute of a symbol that keeps {_KEPT:,} minutes because a gap before them is still "
                "open, divided by that of one that has just begun to.",
                at_most(1.25),
            ),
        ),
        partial(_compare_minutes, _BESIDE_KEPT, _with_kept, _KEPT, 10),
    ),
    Group(
        (
            Definition(
                _FORMING,
                f"CPU for the forming candles of symbols that trade {TURNS} times a second, divided by that of symbols "
                "that trade once a second. More trades than that cost nothing more: a second has at most 20 forming "
                "candles of 1m and one of each higher timeframe.",
                at_most(5),
            ),
        ),
        _compare_forming,
    ),
)
