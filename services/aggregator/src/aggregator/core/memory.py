"""How many closed windows an aggregator keeps in memory."""

from collections.abc import Mapping

from ingress_common.timeframes import TIMEFRAMES, Timeframe

_HALF_A_DAY, _AN_HOUR = 43_200, 3_600
_MINUTES_IN_ALL = 86_400
_MORE_THAN_ONE_PARENT = 2

LONGEST = _HALF_A_DAY
"""Seconds of minutes that are kept while the symbols are few: as far as REST OHLC reaches."""


class Memory:
    """How many closed windows each candle series keeps, so that a late trade or a repair can correct them and the
    windows above, and a writer can request them: half a day with up to 120 symbols, an hour with 1,440 and more; of
    each timeframe at least those of one window above, and two more (`docs/decisions/0046-memory-of-an-aggregator.md`).

    What is older is rebuilt from Kraken's history when it is requested.
    """

    def __init__(self) -> None:
        self._kept = _kept(_HALF_A_DAY)

    def __getitem__(self, timeframe: Timeframe) -> int:
        return self._kept[timeframe]

    def share(self, symbols: int) -> None:
        """Note how many symbols share the memory."""
        seconds = _MINUTES_IN_ALL // max(1, symbols) * Timeframe.M1.seconds
        self._kept = _kept(min(max(seconds, _AN_HOUR), _HALF_A_DAY))


def _kept(seconds: int) -> Mapping[Timeframe, int]:
    return {timeframe: max(_fewest(timeframe), seconds // timeframe.seconds) for timeframe in TIMEFRAMES}


def _fewest(timeframe: Timeframe) -> int:
    return (timeframe.higher.children if timeframe.higher else 0) + _MORE_THAN_ONE_PARENT
