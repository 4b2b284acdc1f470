"""How many closed windows an aggregator keeps in memory."""

from collections.abc import Mapping

from ingress_common.timeframes import TIMEFRAMES, Timeframe

_HALF_A_DAY, _TWO_HOURS = 43_200, 7_200
_MINUTES_IN_ALL = 172_800
_FEWEST = 8

LONGEST = _HALF_A_DAY
"""Seconds of minutes that are kept while the symbols are few: as far as REST OHLC reaches."""


class Memory:
    """How many closed windows each candle series keeps, so that a late trade or a repair can correct them and the
    windows above, and a writer can request them: half a day with up to 240 symbols, two hours with 1,440 and more; of
    each timeframe at least eight windows (`docs/decisions/0046-memory-of-an-aggregator.md`).

    What is older is rebuilt from Kraken's history when it is requested.
    """

    def __init__(self) -> None:
        self._kept = _kept(_HALF_A_DAY)

    def __getitem__(self, timeframe: Timeframe) -> int:
        return self._kept[timeframe]

    def share(self, symbols: int) -> None:
        """Note how many symbols share the memory."""
        seconds = _MINUTES_IN_ALL // max(1, symbols) * Timeframe.M1.seconds
        self._kept = _kept(min(max(seconds, _TWO_HOURS), _HALF_A_DAY))


def _kept(seconds: int) -> Mapping[Timeframe, int]:
    return {timeframe: max(_FEWEST, seconds // timeframe.seconds) for timeframe in TIMEFRAMES}
