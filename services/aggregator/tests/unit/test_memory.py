"""How many windows are kept, by the number of symbols."""

import pytest

from aggregator.core.memory import Memory
from ingress_common.timeframes import TIMEFRAMES


@pytest.mark.parametrize(
    ("symbols", "kept"),
    [
        (0, [720, 144, 48, 12, 8, 8, 8]),
        (240, [720, 144, 48, 12, 8, 8, 8]),
        (480, [360, 72, 24, 8, 8, 8, 8]),
        (1_449, [120, 24, 8, 8, 8, 8, 8]),
        (5_000, [120, 24, 8, 8, 8, 8, 8]),
    ],
)
def test_many_symbols_share_the_memory_of_half_a_day_of_a_few(symbols, kept):
    memory = Memory()
    memory.share(symbols)
    assert [memory[timeframe] for timeframe in TIMEFRAMES] == kept
