"""The core on minutes in order, beside nautilus_trader's aggregation of bars."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count

from aggregator.core import Output
from bench.candle_feed import minutes_of, seeded_engine, stream, symbols, windows_closed_count
from bench.figure import Definition, Group, Measurement, Outcome, at_least, paired
from bench.nautilus import BarAggregation
from bench.rounds import cpu_seconds, in_turn
from ingress_common.model import Candle

_TARGET = at_least(4)
_SECONDS = 12.0


class _Streaming:
    """An engine that continues round by round."""

    def __init__(self, names: Sequence[str], minutes: int) -> None:
        self._names = names
        self._minutes = minutes
        self._engine = seeded_engine(names)
        self._rounds = count()

    def round(self) -> float:
        """Stream the next minutes; seconds of CPU per bar. AssertionError if not every window was closed."""
        first = next(self._rounds) * self._minutes
        end = first + self._minutes
        minutes = minutes_of(self._names, first, end)
        outputs: list[Output] = []
        taken = cpu_seconds(lambda: outputs.extend(stream(self._engine, minutes)))
        closed = sum(isinstance(output, Candle) and output.closed for output in outputs)
        expected = windows_closed_count(first, end) * len(self._names)
        if (closed, len(outputs)) != (expected, expected):
            raise AssertionError(f"expected {expected} closed candles, got {closed} and {len(outputs) - closed} more")
        return taken / (self._minutes * len(self._names))


def _compared(symbol_count: int, minutes: int) -> Measurement:
    ours = _Streaming(symbols(symbol_count), minutes)
    theirs = BarAggregation(symbol_count, minutes)
    rounds = in_turn(ours.round, theirs.round, _SECONDS)
    rates = [1 / min(costs) for costs in (rounds.ours, rounds.theirs)]
    # Rates, so theirs is above: the ratio of costs turned over.
    return paired(rounds.theirs, rounds.ours, f"{rates[0]:,.0f} symbol-minutes/s beside {rates[1]:,.0f} bars/s")


def _measure(name: str, symbol_count: int, minutes: int) -> Mapping[str, Outcome]:
    return {name: _compared(symbol_count, minutes)}


def _group(name: str, meaning: str, symbol_count: int, minutes: int) -> Group:
    return Group((Definition(name, meaning, _TARGET),), partial(_measure, name, symbol_count, minutes))


_MEANING = (
    "Symbol-minutes/s of `aggregator.core.Engine` with {}, given a tick for each minute that traded (80 %) and a "
    "watermark a minute, exact decimals, infill and all seven timeframes, divided by the bars/s of nautilus_trader's "
    "`TimeBarAggregator` (five timeframes, 5m 15m 1h 4h 1d, from as many 1m bars)."
)

GROUPS = (
    _group("core, streaming one symbol", _MEANING.format("one symbol"), 1, 5 * 1440),
    _group("core, streaming 1,449 symbols", _MEANING.format("1,449 symbols"), 1449, 10),
)
