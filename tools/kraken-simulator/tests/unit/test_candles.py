"""The exchange's candles, however they are added up, are those of the trades."""

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kraken_simulator.candles import LiveCandle, OhlcCandle, candle_before, candles_between, latest_candles
from kraken_simulator.digits import Digits
from kraken_simulator.tape import Tape, TapeTrade
from kraken_simulator.truth import true_candles

SECOND = 10**9
made = st.lists(
    st.builds(TapeTrade, st.integers(0, 1_800 * SECOND), st.integers(1, 10**6), st.integers(0, 10**9)),
    min_size=1,
    max_size=60,
)
intervals = st.sampled_from([1, 5, 15])


def tape_of(trades: list[TapeTrade]) -> Tape:
    tape = Tape()
    for trade in trades:
        tape.insert(trade)
    return tape


def truth_of(tape: Tape, minutes: int) -> list[dict[str, Any]]:
    return true_candles(2, tape.states(0, len(tape)), minutes * 60)


def numbers(candle: OhlcCandle) -> tuple[Any, ...]:
    prices = (candle.open, candle.high, candle.low, candle.close)
    return (*(Decimal(price) / 100 for price in prices), Decimal(candle.volume) / 10**8, candle.trades)


def true_numbers(candle: dict[str, Any]) -> tuple[Any, ...]:
    fields = ("open", "high", "low", "close", "volume")
    return (*(Decimal(candle[field]) for field in fields), candle["trades"])


@settings(deadline=None)
@given(made, intervals)
def test_candles_of_a_tape_are_the_true_ones(trades: list[TapeTrade], minutes: int) -> None:
    tape = tape_of(trades)
    candles = list(candles_between(tape, minutes, 0, 3_600).values())
    assert [numbers(candle) for candle in candles] == [true_numbers(row) for row in truth_of(tape, minutes)]
    assert latest_candles(tape, minutes, 10) == tuple(candles[-10:])
    for earlier, later in zip([None, *candles], candles, strict=False):
        assert candle_before(tape, minutes, later.open_time) == earlier


@settings(deadline=None)
@given(made, intervals, st.lists(st.integers(1, 60)), st.data())
def test_live_candle_ends_where_the_tape_does_even_if_trades_come_late(
    trades: list[TapeTrade], minutes: int, steps: list[int], data: st.DataObject
) -> None:
    tape, live, shown = Tape(), LiveCandle(minutes), {}
    ordered = sorted(trades)
    for step in (*steps, len(ordered)):
        part, ordered = ordered[:step], ordered[step:]
        first = len(tape)
        for trade in part:
            tape.append(trade)
        shown |= {candle.open_time: candle for candle, _ in live.take(tape, first)}
        if part and data.draw(st.booleans()):
            tape.insert(data.draw(st.sampled_from(part)))
            shown |= candles_between(tape, minutes, 0, 3_600)
    assert shown == candles_between(tape, minutes, 0, 3_600)


@settings(deadline=None)
@given(st.integers(0, 10**12), st.integers(0, 8), st.integers(0, 8), st.integers(0, 4))
def test_numbers_are_written_whole_whatever_the_decimals(units: int, price: int, quantity: int, finer: int) -> None:
    digits = Digits(price, quantity, price + finer)
    assert Decimal(digits.price(units)) == Decimal(units).scaleb(-price - finer)
    assert Decimal(digits.quantity(units)) == Decimal(units).scaleb(-8)
    assert len(digits.price(units).partition(".")[2]) in (price, price + finer)
