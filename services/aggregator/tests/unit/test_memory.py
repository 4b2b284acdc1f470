"""How many windows are kept, by the number of symbols."""

import pytest

from aggregator.core.memory import Memory
from ingress_common.timeframes import TIMEFRAMES


@pytest.mark.parametrize(
    ("symbols", "kept"),
    [
        (0, [720, 144, 48, 12, 8, 9, 2]),
        (120, [720, 144, 48, 12, 8, 9, 2]),
        (240, [360, 72, 24, 6, 8, 9, 2]),
        (1_440, [60, 12, 6, 6, 8, 9, 2]),
        (5_000, [60, 12, 6, 6, 8, 9, 2]),
    ],
)
def test_many_symbols_share_the_memory_of_half_a_day_of_a_few(symbols, kept):
    memory = Memory()
    memory.share(symbols)
    assert [memory[timeframe] for timeframe in TIMEFRAMES] == kept
