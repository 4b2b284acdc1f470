"""The cost of a seed in the core: the snapshots of all timeframes of a symbol."""

from collections.abc import Mapping
from decimal import Decimal

from bench.candle_feed import SEEDED, symbols, take_seed, unseeded_engine
from bench.figure import Definition, Group, Outcome, at_most, paired
from bench.market import market
from bench.rounds import cpu_seconds, in_turn

_SYMBOLS = 120
_LOOPS = 300
_SECONDS = 8.0
_NAME = "core, seeding a symbol"


def measure() -> Mapping[str, Outcome]:
    """Symbols of engines that are live already, beside the plain loop."""
    # The symbols of a feed are seeded one after the other; each is seeded once.
    names = symbols(_SYMBOLS)
    seeds = [market().seed(name, SEEDED) for name in names]

    def ours() -> float:
        engine = unseeded_engine(names)

        def work() -> None:
            for seed in seeds:
                take_seed(engine, seed)

        return cpu_seconds(work) / len(seeds)

    def theirs() -> float:
        return cpu_seconds(lambda: [add_up_decimals() for _ in range(_LOOPS)]) / _LOOPS

    rounds = in_turn(ours, theirs, _SECONDS)
    milliseconds = [min(costs) * 1000 for costs in (rounds.ours, rounds.theirs)]
    note = f"{milliseconds[0]:.2f} ms a symbol beside {milliseconds[1]:.3f} ms of the loop"
    return {_NAME: paired(rounds.ours, rounds.theirs, note)}


def add_up_decimals() -> Decimal:
    """The plain reference: 1,000 times one more of a price by its volume, with exact decimals."""
    price, volume, total = Decimal("51600.1"), Decimal("0.00012345"), Decimal(0)
    for _ in range(1000):
        total += price * volume
    return total


GROUPS = (
    Group(
        (
            Definition(
                _NAME,
                "CPU of the core for the seven snapshots (ten rows each) of a symbol, divided by that of a plain loop "
                "that multiplies and adds 1,000 pairs of decimals. 0.3 ms are 3 times that loop where it takes 0.1 ms, "
                "as on an Intel Xeon of 2023.",
                at_most(3),
            ),
        ),
        measure,
    ),
)
