"""What waits to be republished: merged, bounded, in portions."""

import asyncio

import pytest
from msgspec.structs import replace

from aggregator.republishing import Republished, Republishing
from example import CANDLE
from ingress_common.model import Candle
from ingress_common.timeframes import Timeframe

LOTS = 1000


def closed(symbol: str, minute: int, timeframe: Timeframe = Timeframe.M1, revision: int = 0) -> Candle:
    return replace(
        CANDLE, symbol=symbol, timeframe=timeframe, open_time=minute * 60, closed=True, revision=revision, at=minute
    )


class World:
    """Ten published minutes of each symbol."""

    def __init__(self, *symbols: str) -> None:
        self.candles = {symbol: [closed(symbol, minute) for minute in range(10)] for symbol in symbols}
        self.republishing = Republishing(self.published)

    def published(self, symbol: str, start: float, end: float) -> list[Candle]:
        return [candle for candle in self.candles[symbol] if start <= candle.at <= end]

    def all(self, most: int = LOTS) -> list[Republished]:
        out: list[Republished] = []
        while self.republishing:
            out += self.republishing.portion(most)
        return out


def minutes(republished: list[Republished]) -> list[tuple[str, float]]:
    return [(candle.symbol, candle.at) for candle, _ in republished]


def names(republished: list[Republished]) -> list[tuple[str, float, str]]:
    return [(candle.symbol, candle.at, name) for candle, name in republished if name]


def test_thousands_of_equal_requests_are_served_once():
    world = World("A/USD", "B/USD")
    for _ in range(5000):
        world.republishing.request(("A/USD", "B/USD"), 0, 100, None)
    assert len(world.republishing) == 2
    assert minutes(world.all()) == [(symbol, minute) for symbol in ("A/USD", "B/USD") for minute in range(10)]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(2, 7), (3, 4)], range(2, 8)),
        ([(3, 4), (2, 7)], range(2, 8)),
        ([(1, 3), (3, 5)], range(1, 6)),
        ([(6, 7), (1, 2)], range(1, 8)),
    ],
)
def test_requests_of_a_symbol_are_served_together_over_all_of_their_ranges(ranges, expected):
    world = World("A/USD")
    for start, end in ranges:
        world.republishing.request(["A/USD"], start, end, None)
    assert minutes(world.all()) == [("A/USD", minute) for minute in expected]


def test_last_candle_of_each_symbol_is_repeated_for_every_merged_name():
    world = World("A/USD", "B/USD")
    world.republishing.request(("A/USD", "B/USD"), 0, 100, "one")
    world.republishing.request(("A/USD",), 8, 9, "two")
    world.republishing.request(("A/USD",), 8, 9, "two")
    world.republishing.request(("A/USD",), 8, 9, None)
    republished = world.all()
    assert names(republished) == [("A/USD", 9, "one"), ("A/USD", 9, "two"), ("B/USD", 9, "one")]
    assert minutes(republished)[8:11] == [("A/USD", 8), ("A/USD", 9), ("A/USD", 9)]


def test_names_are_bounded_and_the_latest_are_kept():
    world = World("A/USD")
    displaced = sum(world.republishing.request(["A/USD"], 0, 100, f"n{number}") for number in range(5000))
    named = names(world.all())
    assert named[-1] == ("A/USD", 9, "n4999")
    assert displaced + len(named) == 5000
    assert len(named) < 20


def test_portions_are_small_and_together_the_whole_response_in_order():
    world = World("A/USD", "B/USD")
    world.candles["A/USD"] += [closed("A/USD", minute, Timeframe.M5) for minute in (0, 5)]
    world.republishing.request(("A/USD", "B/USD"), 0, 100, "one")
    portions: list[list[Republished]] = []
    while world.republishing:
        portions.append(world.republishing.portion(4))
    assert {len(portion) for portion in portions[:-1]} == {4}
    together = [entry for portion in portions for entry in portion]
    assert [candle for candle, _ in together] == [*world.candles["A/USD"], *world.candles["B/USD"]]
    assert names(together) == [("A/USD", 5, "one"), ("B/USD", 9, "one")]


def test_a_portion_spans_symbols_with_few_candles():
    world = World("A/USD", "B/USD", "C/USD")
    world.republishing.request(world.candles, 9, 9, None)
    assert minutes(world.republishing.portion(3)) == [("A/USD", 9), ("B/USD", 9), ("C/USD", 9)]
    assert not world.republishing


def test_a_correction_between_portions_is_not_overtaken_by_what_it_corrects():
    world = World("A/USD")
    world.republishing.request(["A/USD"], 0, 100, None)
    world.republishing.portion(4)
    corrected = closed("A/USD", 6, revision=1)
    world.candles["A/USD"][6] = corrected
    assert [candle for candle, _ in world.all() if candle.at == 6] == [corrected]


def test_a_request_during_a_round_is_served_from_the_start_in_the_next_one():
    world = World("A/USD")
    world.republishing.request(["A/USD"], 0, 100, "one")
    first = world.republishing.portion(4)
    world.republishing.request(["A/USD"], 0, 5, "two")
    while world.republishing.in_round:
        first += world.republishing.portion(4)
    assert names(first) == [("A/USD", 9, "one")]
    republished = first + world.all(4)
    assert [minute for _, minute in minutes(republished)] == [*range(10), *range(6)]
    assert names(republished) == [("A/USD", 9, "one"), ("A/USD", 5, "two")]


def test_request_is_named_even_if_the_rest_of_its_candles_is_forgotten_meanwhile():
    world = World("A/USD")
    world.republishing.request(["A/USD"], 0, 100, "one")
    world.republishing.portion(4)
    del world.candles["A/USD"][4:]
    assert names(world.all()) == [("A/USD", 3, "one")]


def test_request_that_selects_nothing_ends_without_a_candle():
    world = World("A/USD")
    world.republishing.request(["A/USD"], 50, 100, "one")
    assert world.all() == []
    assert not world.republishing


async def test_requested_waits_for_a_request():
    world = World("A/USD")
    waiting = asyncio.ensure_future(world.republishing.requested())
    await asyncio.sleep(0)
    assert not waiting.done()
    world.republishing.request(["A/USD"], 0, 100, None)
    async with asyncio.timeout(10):
        await waiting
    world.all()
    again = asyncio.ensure_future(world.republishing.requested())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
