"""How many windows are kept, by the number of symbols."""

import pytest

from aggregator.core.memory import Memory
from ingress_common.timeframes import TIMEFRAMES


@pytest.mark.parametrize(
    ("symbols", "kept"),
    [
        (0, [720, 288, 192, 96, 48, 16, 8]),
        (240, [720, 288, 192, 96, 48, 16, 8]),
        (480, [360, 144, 96, 48, 24, 8, 8]),
        (1_449, [120, 48, 32, 16, 8, 8, 8]),
        (5_000, [120, 48, 32, 16, 8, 8, 8]),
    ],
)
def test_many_symbols_share_the_memory_of_half_a_day_of_a_few(symbols, kept):
    memory = Memory()
    memory.share(symbols)
    assert [memory[timeframe] for timeframe in TIMEFRAMES] == kept
