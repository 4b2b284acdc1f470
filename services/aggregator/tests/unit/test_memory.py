"""How many windows are kept, by the number of symbols."""

import pytest

from aggregator.core.memory import Memory
from ingress_common.timeframes import TIMEFRAMES, Timeframe

NUMBERS = [0, 120, 240, 1_440, 5_000]


def memory_of(symbols: int) -> Memory:
    memory = Memory()
    memory.share(symbols)
    return memory


@pytest.mark.parametrize(("symbols", "minutes"), list(zip(NUMBERS, [720, 720, 360, 60, 60], strict=True)))
def test_many_symbols_share_the_memory_of_half_a_day_of_a_few(symbols, minutes):
    memory = memory_of(symbols)
    assert memory[Timeframe.M1] == minutes
    assert memory[Timeframe.M5] == minutes // 5


@pytest.mark.parametrize("symbols", NUMBERS)
def test_windows_of_one_parent_and_two_more_are_kept_at_least(symbols):
    memory = memory_of(symbols)
    as_long = memory[Timeframe.M1] * Timeframe.M1.seconds
    for timeframe in TIMEFRAMES:
        one_parent = timeframe.higher.children if timeframe.higher else 0
        assert memory[timeframe] == max(one_parent + 2, as_long // timeframe.seconds)
